// Drives graphile-worker.
import { createRequire } from "node:module";
import { run } from "./protocol.mjs";

const require = createRequire(process.cwd() + "/");
const { run: startRunner, makeWorkerUtils, Logger } = require("graphile-worker");
const logger = new Logger(() => () => {});

run((url, settings) => ({
  async prepare() {
    const utils = await makeWorkerUtils({ connectionString: url, logger });
    await utils.migrate();
    await utils.release();
  },

  async producer() {
    const utils = await makeWorkerUtils({ connectionString: url, maxPoolSize: 1, logger });
    return {
      one: (payload) => utils.addJob("job", payload),
      many: (payloads) => utils.addJobs(payloads.map((payload) => ({ identifier: "job", payload }))),
      close: () => utils.release(),
    };
  },

  async work(handle, ready, ended) {
    const runner = await startRunner({
      preset: { worker: { connectionString: url, ...settings } },
      logger,
      noHandleSignals: true,
      taskList: { job: (payload) => handle(payload.number) },
    });
    ready();
    await ended;
    await runner.stop();
  },
}));
