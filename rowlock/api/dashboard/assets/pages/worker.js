// One live worker: what it runs now, and which tasks it has.

import {
    ago, api, ask, attempts, bytes, button, element, empty, facts, field, line, link, may, moment, panel, state, table,
} from "../kit.js";
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
                    empty: empty("It runs nothing now", worker.state === "running"
                        ? "It takes the next job of its queues as soon as one is due."
                        : "It takes no new jobs."),
                })),
        ];
    },
};

function names(all, show) {
    return element("p", { class: "links" }, ...all.map(show));
}

/** Whether it takes jobs. */
export function doing(worker) {
    if (worker.state === "running") return "running";
    const title = worker.state === "quiet" ? "It takes no new jobs until it is resumed" : "It ends once its jobs have ended";
    return element("span", { class: "badge warning", title }, worker.state);
}

/** The buttons that this session may press, for one worker; `done` is called after each act. */
export function workerButtons(worker, done) {
    const options = { about: `${worker.hostname} ${worker.pid}`, done };
    const { state } = worker;
    return element("div", { class: "acts" },
        may("operate") && state === "running" && button("Quiet", () => quiet(worker), options),
        may("operate") && state === "quiet" && button("Resume", () => resume(worker), options),
        may("operate") && state !== "stopping" && button("Stop", () => stop(worker), options),
        may("admin") && button("Scale", () => scale(worker), options));
}

const name = (worker) => element("strong", {}, `${worker.hostname} · ${worker.pid}`);

function quiet(worker) {
    return ask({
        title: "Quiet this worker?",
        body: [element("p", {}, name(worker), " takes no new jobs until somebody resumes it. What it runs goes on.")],
        action: "Quiet",
        perform: () => api.post(`/v1/workers/${worker.id}/quiet`),
    });
}

function resume(worker) {
    return ask({
        title: "Resume this worker?",
        body: [element("p", {}, name(worker), " takes jobs again at once.")],
        action: "Resume",
        perform: () => api.post(`/v1/workers/${worker.id}/resume`),
    });
}

function stop(worker) {
    return ask({
        title: "Stop this worker?",
        body: [element("p", {}, name(worker), " takes no new jobs, and ends once those that it runs have ended, or its grace "
            + "period is over. It cannot be resumed, and its supervisor does not replace it.")],
        action: "Stop",
        perform: () => api.post(`/v1/workers/${worker.id}/stop`),
    });
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
