// What the Node drivers have in common: the same commands, options and output as protocol.py.
import { createInterface } from "node:readline";

const WARM_UP = 3;
const FRAME_BYTES = '{"number":1000000,"body":""}'.length;
const now = () => Number(process.hrtime.bigint());
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const say = (line) => new Promise((done) => process.stdout.write(JSON.stringify(line) + "\n", done));

function bodies(size) {
  const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  const length = Math.max(1, size - FRAME_BYTES);
  let letters = "";
  for (let i = 0; i < length + 4096; i++) letters += alphabet[Math.floor(Math.random() * alphabet.length)];
  return (number) => {
    const begin = (number * 61) % 4096;
    return { number, body: letters.slice(begin, begin + length) };
  };
}

const range = (begin, end, make) => Array.from({ length: end - begin }, (_, i) => make(begin + i));

const commands = {
  async prepare(driver) {
    await driver.prepare();
    await say({ result: {} });
  },

  async bulk(driver, { jobs, batch, size }) {
    const body = bodies(size);
    const producer = await driver.producer();
    let seconds = 0;
    for (let begin = 0; begin < jobs; begin += batch) {
      const payloads = range(begin, Math.min(begin + batch, jobs), body);
      const began = now();
      await producer.many(payloads);
      seconds += (now() - began) / 1e9;
    }
    await producer.close();
    await say({ result: { seconds } });
  },

  async single(driver, { jobs, clients, size }) {
    const body = bodies(size);
    const producers = [];
    for (let i = 0; i < clients; i++) producers.push(await driver.producer());
    for (const producer of producers) for (let i = 0; i < WARM_UP; i++) await producer.one(body(0));
    let next = 0;
    const began = now();
    await Promise.all(
      producers.map(async (producer) => {
        while (next < jobs) await producer.one(body(next++));
      }),
    );
    const seconds = (now() - began) / 1e9;
    for (const producer of producers) await producer.close();
    await say({ result: { seconds, warm_up: WARM_UP * clients } });
  },

  async trickle(driver, { jobs, gap, size }) {
    const body = bodies(size);
    const producer = await driver.producer();
    const sent = [];
    const committed = [];
    let due = now();
    for (let number = 0; number < jobs; number++) {
      due += gap * 1e9 * (0.5 + Math.random());
      await sleep(Math.max(0, (due - now()) / 1e6));
      const payload = body(number);
      sent.push(now());
      await producer.one(payload);
      committed.push(now());
    }
    await producer.close();
    await say({ result: { sent, committed } });
  },

  async stream(driver, { rate, seconds: duration, size }) {
    const body = bodies(size);
    const producer = await driver.producer();
    await producer.many([body(0)]);
    const total = Math.floor(rate * duration);
    const sent = [];
    const began = now();
    let done = 0;
    while (done < total) {
      await sleep(10);
      const due = Math.min(total, Math.floor(((now() - began) / 1e9) * rate));
      if (due === done) continue;
      const payloads = range(1 + done, 1 + due, body);
      sent.push([1 + done, now()]);
      await producer.many(payloads);
      done = due;
    }
    const seconds = (now() - began) / 1e9;
    await producer.close();
    await say({ result: { sent, seconds, jobs: total + 1 } });
  },

  async work(driver, { mode, report }) {
    const tally = { handled: 0, first: 0, starts: [] };
    const handlers = {
      noop: () => {
        if (tally.handled++ === 0) tally.first = now();
      },
      stamp: (number) => {
        tally.starts.push([number, now()]);
        handlers.noop();
      },
      wait: async () => {
        if (!tally.first) tally.first = now();
        await sleep(10);
        tally.handled++;
      },
    };
    const progress = () => say({ handled: tally.handled, at: now(), first: tally.first });
    const input = createInterface({ input: process.stdin });
    const ended = new Promise((done) => input.on("close", done));
    say({ loaded: true });
    await new Promise((done) => input.once("line", done));
    let said = 0;
    const reporter = setInterval(() => {
      if (tally.handled !== said) {
        said = tally.handled;
        progress();
      }
    }, report * 1000);
    await driver.work(handlers[mode], () => say({ ready: true }), ended, mode);
    clearInterval(reporter);
    progress();
    await say({ result: { handled: tally.handled, starts: tally.starts } });
  },
};

export async function run(make) {
  const options = JSON.parse(process.argv[3]);
  await commands[process.argv[2]](make(options.url, options.settings), options);
  process.exit(0);
}
