// The live workers: their queues, their load, and their health.

import { ago, api, bytes, count, element, empty, filters, link, now, table } from "../kit.js";
import { doing, workerButtons } from "./worker-acts.js";

/** A lease that ends within so many seconds is overdue for renewal: a lease lasts 15 s, and is renewed every 5. */
const SHORT = 6;
/** An event loop that is late by so many milliseconds is blocked by a handler. */
const LATE = 200;

export const page = {
    title: () => "Workers",
    isKept: true,
    every: 3,

    load: () => api.get("/v1/workers"),

    render({ workers }, { query, refresh, go }) {
        const shown = workers.filter((worker) => fits(worker, query)).sort(ORDERS[query.get("sort")] ?? troubled);
        return [workers.length > 0 && filters(query, go, [
            { name: "name", label: "Host, process or queue contains" },
            { name: "status", label: "Status", options: ["in trouble", "well", "running", "quiet", "stopping"] },
            { name: "sort", label: "Order", none: "in trouble first", options: Object.keys(ORDERS) },
        ]), table({
            caption: "Workers",
            columns: [
                { head: "Worker", cell: (worker) => link(`/workers/${worker.id}`, `${worker.hostname} · ${worker.pid}`) },
                { head: "Queues", cell: (worker) => worker.queues.join(", ") },
                { head: "State", cell: doing },
                { head: "Running", number: true, cell: (worker) => busy(worker) },
                { head: "Lease", cell: lease },
                { head: "Loop delay", number: true, cell: loopDelay },
                { head: "Memory", number: true, cell: (worker) => worker.memory_bytes == null ? "–" : bytes(worker.memory_bytes) },
                { head: "Up for", cell: (worker) => ago(worker.started_at, { plain: true }) },
                { head: "Version", cell: (worker) => worker.version },
                { head: "", cell: (worker) => workerButtons(worker, refresh) },
            ],
            rows: shown,
            key: (worker) => worker.id,
            empty: workers.length > 0 ? empty("No worker matches", "Remove a part of the filter, or show all workers.") : empty(
                "No worker is alive",
                "Jobs wait for a worker. Start one with rowlock worker module:app; if it was started, check its log.",
            ),
        })];
    },
};

const byAge = (one, other) => Date.parse(one.started_at) - Date.parse(other.started_at);
const ORDERS = {
    oldest: byAge,
    busiest: (one, other) => other.running / other.concurrency - one.running / one.concurrency || byAge(one, other),
    memory: (one, other) => (other.memory_bytes ?? 0) - (one.memory_bytes ?? 0) || byAge(one, other),
    "loop delay": (one, other) => other.loop_delay_ms - one.loop_delay_ms || byAge(one, other),
};

/** How urgent its problem is: a lease that runs out, or a blocked event loop; 0 if it has none. */
const trouble = (worker) => remaining(worker) <= SHORT ? 2 : worker.loop_delay_ms >= LATE ? 1 : 0;
const troubled = (one, other) => trouble(other) - trouble(one) || byAge(one, other);

/** How many seconds its lease has left. */
const remaining = (worker) => (Date.parse(worker.expires_at) - now()) / 1000;

function has(worker, status) {
    if (status === "in trouble" || status === "well") return (trouble(worker) > 0) === (status === "in trouble");
    return status === null || worker.state === status;
}

function fits(worker, query) {
    const text = (query.get("name") ?? "").toLowerCase();
    const told = `${worker.hostname} · ${worker.pid} ${worker.id} ${worker.queues.join(", ")}`.toLowerCase();
    return told.includes(text) && has(worker, query.get("status"));
}

/** How many of a worker's slots are used. */
export function busy(worker) {
    const most = Math.max(worker.concurrency, worker.running);
    return element("span", { class: "busy" },
        element("meter", { min: 0, max: most, value: worker.running, "aria-hidden": "true" }),
        `${count(worker.running)} of ${count(worker.concurrency)}`);
}

/** When its lease ends; highlighted if that is soon. */
export function lease(worker) {
    const left = remaining(worker);
    if (left > SHORT) return element("span", {}, `${Math.round(left)} s left`);
    const text = left > 0 ? `runs out in ${Math.ceil(left)} s` : "has run out";
    return element("span", { class: "badge error", title: "It did not renew its lease: its jobs are rescued" }, text);
}

export function loopDelay(worker) {
    const text = `${count(worker.loop_delay_ms)} ms`;
    if (worker.loop_delay_ms < LATE) return text;
    return element("span", { class: "badge warning", title: "A handler blocks its event loop" }, text);
}
