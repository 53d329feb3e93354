// One live worker: what it runs now, and which tasks it has.

import {
    ago, api, ask, attempts, bytes, button, element, empty, facts, field, line, link, may, moment, panel, state, table,
} from "../kit.js";
import { busy, lease, loopDelay } from "./workers.js";

export const page = {
    title: (_, worker) => worker ? `Worker ${worker.hostname} · ${worker.pid}` : "Worker",
    every: 3,

    load: ({ params: { worker } }) => api.get(`/v1/workers/${encodeURIComponent(worker)}`),

    actions: (worker, { refresh }) => scaleButton(worker, refresh),

    render(worker) {
        return [
            panel(null,
                facts([
                    ["Running", busy(worker)],
                    ["Lease", lease(worker)],
                    ["Loop delay", loopDelay(worker)],
                    ["Memory", worker.memory_bytes == null ? "not known" : bytes(worker.memory_bytes)],
                    ["Started", moment(worker.started_at)],
                    ["Version", worker.version],
                    ["Id", element("code", {}, worker.id)],
                ])),
            panel("Its queues", names(worker.queues, (name) => link(`/queues/${encodeURIComponent(name)}`, name))),
            panel("Its tasks", names(worker.tasks, (name) => link(`/tasks/${encodeURIComponent(name)}`, name))),
            element("section", {},
                element("h2", {}, "What it runs now"),
                table({
                    caption: "What it runs now",
                    columns: [
                        { head: "Job", cell: (job) => link(`/jobs/${job.id}`, element("code", {}, job.id)) },
                        { head: "Task", cell: (job) => job.task },
                        { head: "Queue", cell: (job) => job.queue },
                        { head: "State", cell: (job) => state(job.state) },
                        { head: "Attempt", number: true, cell: attempts },
                        { head: "Started", cell: (job) => job.started_at === null ? "not yet" : ago(job.started_at) },
                    ],
                    rows: worker.jobs,
                    key: (job) => job.id,
                    empty: empty("It runs nothing now", "It takes the next job of its queues as soon as one is due."),
                })),
        ];
    },
};

function names(all, show) {
    return element("p", { class: "links" }, ...all.map(show));
}

/** The button that changes how many jobs a worker runs at once, for those who may. */
export function scaleButton(worker, done) {
    const about = `${worker.hostname} ${worker.pid}`;
    return may("admin") && element("div", { class: "acts" }, button("Scale", () => scale(worker), { about, done }));
}

function scale(worker) {
    return ask({
        title: `Scale ${worker.hostname}`,
        body: [field("Jobs at once", "concurrency", line(worker.concurrency, { inputMode: "numeric" }),
            "For as long as it lives. With fewer, none that runs is stopped.")],
        action: "Scale",
        perform: ({ concurrency }) => api.post(`/v1/workers/${worker.id}/scale`, { concurrency: Number(concurrency) }),
    });
}
