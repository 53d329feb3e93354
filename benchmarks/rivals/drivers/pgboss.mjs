// Drives pg-boss.
import { createRequire } from "node:module";
import { run } from "./protocol.mjs";

const require = createRequire(process.cwd() + "/");
const { PgBoss } = require("pg-boss");
const QUEUE = "job";

run((url, settings) => {
  const connect = async (options) => {
    const boss = new PgBoss({ connectionString: url, schedule: false, ...options });
    boss.on("error", (error) => console.error(error));
    await boss.start();
    return boss;
  };
  return {
    async prepare() {
      const boss = await connect({ supervise: false });
      await boss.createQueue(QUEUE, settings.queue);
      await boss.stop();
    },

    async producer() {
      const boss = await connect({ max: 1, supervise: false });
      return {
        one: (data) => boss.send(QUEUE, data),
        many: (payloads) => boss.insert(QUEUE, payloads.map((data) => ({ data }))),
        close: () => boss.stop({ graceful: false }),
      };
    },

    async work(handle, ready, ended, mode) {
      const boss = await connect({ max: settings.connections, useListenNotify: true });
      const each = async (jobs) => {
        if (mode === "wait") await Promise.all(jobs.map((job) => handle(job.data.number)));
        else for (const job of jobs) handle(job.data.number);
      };
      await boss.work(QUEUE, settings.work, each);
      ready();
      await ended;
      await boss.stop({ graceful: true, timeout: 10000 });
    },
  };
});
