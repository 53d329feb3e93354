// One live worker: its running jobs, and its tasks.

import { ago, api, attempts, bytes, element, empty, facts, link, moment, panel, state, table } from "../kit.js";
import { doing, workerButtons } from "./worker-acts.js";
import { busy, lease, loopDelay } from "./workers.js";

export const page = {
    title: (_, worker) => worker ? `Worker ${worker.hostname} · ${worker.pid}` : "Worker",
    every: 3,

    load: ({ params: { worker } }) => api.get(`/v1/workers/${encodeURIComponent(worker)}`),

    actions: (worker, { refresh }) => workerButtons(worker, refresh),

    render(worker) {
        return [
            panel(null,
                facts([
                    ["State", doing(worker)],
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
                element("h2", {}, "Running jobs"),
                table({
                    caption: "Running jobs",
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
                    empty: empty("No running jobs", worker.state === "running"
                        ? "It claims the next job of its queues as soon as one is due."
                        : "It claims no new jobs."),
                })),
        ];
    },
};

function names(all, show) {
    return element("p", { class: "links" }, ...all.map(show));
}
