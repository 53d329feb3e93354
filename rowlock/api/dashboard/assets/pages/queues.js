// The queues: how many jobs wait in each and since when, its workers, and its settings.

import { ago, api, count, element, empty, filters, link, now, table } from "../kit.js";
import { queueButtons } from "./queue-acts.js";

export const page = {
    title: () => "Queues",
    isKept: true,
    every: 3,

    load: () => api.get("/v1/queues"),

    render({ queues }, { query, refresh, go }) {
        const shown = queues.filter((queue) => fits(queue, query)).sort(ORDERS[query.get("sort")] ?? troubled);
        return [queues.length > 0 && filters(query, go, [
            { name: "name", label: "Name contains" },
            { name: "status", label: "Status", options: Object.keys(STATUSES) },
            { name: "sort", label: "Order", none: "in trouble first", options: Object.keys(ORDERS) },
        ]), table({
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
            rows: shown,
            key: (queue) => queue.name,
            empty: queues.length > 0 ? empty("No queue matches", "Remove a part of the filter, or show all queues.") : empty(
                "There are no queues yet",
                "A queue exists once a worker serves it, a task names it, or a job waits in it. Start a worker with "
                + "rowlock worker, or enqueue a job.",
            ),
        })];
    },
};

/** A job that is due for more seconds waits too long. */
const LATE = 60;

const STATUSES = {
    "in trouble": (queue) => trouble(queue) > 0,
    paused: (queue) => queue.paused_at !== null,
    "no worker": (queue) => queue.workers === 0,
    "at work": (queue) => queue.paused_at === null && queue.workers > 0,
};

const byName = (one, other) => one.name.localeCompare(other.name);
const ORDERS = {
    name: byName,
    waiting: (one, other) => other.waiting - one.waiting || byName(one, other),
    "oldest due": (one, other) => lateness(other) - lateness(one) || byName(one, other),
    running: (one, other) => other.running - one.running || byName(one, other),
};

/** How many seconds its first job has been due. */
const lateness = ({ oldest_due_at: since }) => since === null ? 0 : Math.max(0, (now() - Date.parse(since)) / 1000);

/** How urgent its problem is: no workers, paused with jobs, or long waits; 0 if it has none. */
function trouble(queue) {
    if (queue.waiting === 0) return 0;
    if (queue.paused_at !== null) return 2;
    if (queue.workers === 0) return 3;
    return lateness(queue) > LATE ? 1 : 0;
}

const troubled = (one, other) => trouble(other) - trouble(one) || (trouble(one) > 0 ? lateness(other) - lateness(one) : 0) || byName(one, other);

function fits(queue, query) {
    const text = (query.get("name") ?? "").toLowerCase();
    return queue.name.toLowerCase().includes(text) && (STATUSES[query.get("status")]?.(queue) ?? true);
}

/** Whether a queue's jobs start, and if not, why. */
export function status(queue) {
    if (queue.paused_at !== null) {
        return element("span", { class: "badge warning" }, "paused ", ago(queue.paused_at));
    }
    if (queue.workers === 0) return element("span", { class: "badge error" }, "no worker");
    return element("span", { class: "badge good" }, "at work");
}

/** A number of jobs, linked to them. */
function jobs(queue, state, number) {
    if (number === 0) return count(0);
    return link(`/jobs?${new URLSearchParams({ queue: queue.name, state })}`, count(number));
}
