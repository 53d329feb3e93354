// The acts of operators: who, what, on what, when, and from where.

import { ago, api, count, element, empty, filters, link, moment, pager, table } from "../kit.js";

const KINDS = ["job", "queue", "worker", "schedule", "key"];
const DONE = {
    cancel: "cancelled", reschedule: "rescheduled", retry: "retried", discard: "discarded", run_again: "ran again", pause: "paused",
    resume: "resumed", drain: "drained", scale: "scaled", keep: "changed how long jobs are kept of", create: "created",
    edit: "edited", delete: "deleted", run: "ran", revoke: "revoked", quiet: "quieted",
    stop: "stopped",
};
const PATHS = { job: "/jobs/", queue: "/queues/", worker: "/workers/", schedule: "/schedules/" };

export const page = {
    title: () => "Operations",
    every: 5,

    load: ({ query }) => api.get(`/v1/operations?${query}`),

    render({ operations, next }, { query, go }) {
        const isFiltered = [...query.keys()].length > 0;
        return [
            filters(query, go, [
                { name: "verb", label: "What was done", options: Object.keys(DONE) },
                { name: "target_kind", label: "To a", options: KINDS },
                { name: "target", label: "Which one", placeholder: "a name or an id" },
            ]),
            table({
                caption: "Operations",
                columns: [
                    { head: "When", cell: (operation) => ago(operation.at) },
                    { head: "Who", cell: (operation) => operation.by ?? element("span", { class: "dim" }, "unnamed") },
                    { head: "What", cell: sentence },
                    { head: "From", cell: (operation) => operation.source },
                    { head: "Details", cell: details },
                ],
                rows: operations,
                key: (operation) => operation.id,
                empty: isFiltered
                    ? empty("No act matches", "Remove a part of the filter.")
                    : empty("No acts yet", "Acts on jobs, queues, workers and schedules are listed here."),
            }),
            pager(next),
        ];
    },
};

/** The act in words, as nodes: the target is a link if it has a page. */
export function sentence({ verb, target_kind: kind, target, details: told }) {
    const done = Object.hasOwn(DONE, verb) ? DONE[verb] : verb;
    if (target === null) return element("span", {}, `${done} ${many(told, kind)}`);
    const place = Object.hasOwn(PATHS, kind) && verb !== "delete" ? PATHS[kind] : null;
    const called = kind === "key" && typeof told.name === "string" ? told.name : target;
    const name = place === null ? element("code", {}, called) : link(place + encodeURIComponent(target), target);
    return element("span", {}, `${done} ${kind} `, name, ...more(verb, told));
}

/** How many jobs were meant, and which: "3 failed jobs of task add". */
function many({ filter, ...told }, kind) {
    const { state, discarded, error_kind: like, ...rest } = filter ?? {};
    const number = Object.entries(told).reduce(
        (sum, [name, value]) => name !== "skipped" && typeof value === "number" ? sum + value : sum, 0,
    );
    const words = [count(number), discarded === true && "discarded", state, number === 1 ? kind : `${kind}s`];
    const parts = Object.entries(rest).map(([name, value]) => `${name} ${plain(value)}`);
    if (typeof like === "string") parts.push(like === "" ? "no error" : `error like “${like}”`);
    return `${words.filter(Boolean).join(" ")}${parts.length === 0 ? "" : ` of ${parts.join(", ")}`}`;
}

function more(verb, told) {
    if (verb === "scale") return [` to ${told.concurrency === null ? "no limit" : plain(told.concurrency)}`];
    if (["run", "run_again"].includes(verb) && typeof told.job === "string") return [" as job ", link(`/jobs/${encodeURIComponent(told.job)}`, told.job)];
    if (verb === "reschedule") return changes(told);
    if (verb === "cancel" && told.reason) return [`: ${plain(told.reason)}`];
    return [];
}

/** The changes of a reschedule, in words and nodes. */
function changes({ run_at: at, priority, queue }) {
    const parts = [
        at !== undefined && ["due ", Number.isNaN(Date.parse(at)) ? plain(at) : moment(at)],
        priority !== undefined && [`priority ${plain(priority)}`],
        queue !== undefined && [`queue ${plain(queue)}`],
    ].filter(Boolean);
    return parts.flatMap((part, index) => [index === 0 ? ": " : ", ", ...part]);
}

function details({ details: told }) {
    if (Object.keys(told).length === 0) return "–";
    return element("details", {},
        element("summary", {}, "Show"),
        element("pre", {}, JSON.stringify(told, null, 2)));
}

function plain(value) {
    return typeof value === "string" ? value : JSON.stringify(value);
}
