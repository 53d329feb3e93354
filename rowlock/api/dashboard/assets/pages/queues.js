// The queues: how much waits in each and since when, who works on it, and what was said of it.

import { ago, api, count, element, empty, link, table } from "../kit.js";
import { queueButtons } from "./queue-acts.js";

export const page = {
    title: () => "Queues",
    every: 3,

    load: () => api.get("/v1/queues"),

    render({ queues }, { refresh }) {
        return table({
            caption: "Queues",
            columns: [
                { head: "Queue", cell: (queue) => link(`/queues/${encodeURIComponent(queue.name)}`, queue.name) },
                { head: "Status", cell: status },
                { head: "Waiting", number: true, cell: (queue) => jobs(queue, "queued", queue.waiting) },
                { head: "Oldest due", cell: (queue) => queue.oldest_due_at === null ? "–" : ago(queue.oldest_due_at) },
                { head: "Running", number: true, cell: (queue) => jobs(queue, "running", queue.running) },
                { head: "Scheduled", number: true, cell: (queue) => jobs(queue, "scheduled", queue.scheduled) },
                { head: "Blocked", number: true, cell: (queue) => jobs(queue, "blocked", queue.blocked) },
                { head: "Workers", number: true, cell: (queue) => count(queue.workers) },
                { head: "Limit", number: true, cell: (queue) => queue.concurrency === null ? "–" : count(queue.concurrency) },
                { head: "", cell: (queue) => queueButtons(queue, refresh) },
            ],
            rows: queues,
            key: (queue) => queue.name,
            empty: empty(
                "There are no queues yet",
                "A queue is there once a worker serves it, a task names it, or a job waits in it: start a worker with "
                + "rowlock worker, or enqueue a job.",
            ),
        });
    },
};

/** Whether a queue's jobs start, and if not, why. */
export function status(queue) {
    if (queue.paused_at !== null) {
        return element("span", { class: "badge warning" }, "paused ", ago(queue.paused_at));
    }
    if (queue.workers === 0) return element("span", { class: "badge error" }, "no worker");
    return element("span", { class: "badge good" }, "at work");
}

/** A number of jobs, which leads to them. */
function jobs(queue, state, number) {
    if (number === 0) return count(0);
    return link(`/jobs?${new URLSearchParams({ queue: queue.name, state })}`, count(number));
}
