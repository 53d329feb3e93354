// The overview: the current numbers, live, and the charts of a window of time.

import { ago, api, charts, count, element, empty, figures, here, link, Numbers, panel, Problem, seconds, table } from "../kit.js";
import { status } from "./queues.js";

const WINDOWS = { "1h": "hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days" };
const LATE = 60;

export const page = {
    title: () => "Overview",
    isKept: true,
    every: 5,
    seldom: 20,
    live: () => "/v1/events",
    hear: (event, told, data) => event === "overview" ? { ...data, overview: told } : data,

    async load({ query, signal }) {
        const [overview, statistics] = await Promise.all([
            api.get("/v1/overview", { signal }),
            api.get(`/v1/statistics?${new URLSearchParams({ window: windowOf(query) })}`, { signal }),
        ]);
        return { overview, statistics, unclaimed: overview.unclaimed > 0 ? await reasons(signal) : [] };
    },

    actions: () => element("nav", { class: "tabs", "aria-label": "Time" },
        ...Object.entries(WINDOWS).map(([window, text]) => element("a", {
            href: `#/?${new URLSearchParams({ window })}`, key: window, title: `The last ${text}`,
            "aria-current": windowOf(here().query) === window ? "true" : null,
        }, window))),

    render({ overview, statistics, unclaimed }, { query }) {
        return [
            element(Tiles, { overview }),
            overview.unclaimed > 0 && unclaimedWarning(overview, unclaimed),
            panel(`The last ${WINDOWS[windowOf(query)]}`, charts(statistics), figures(statistics.total),
                element(Numbers, statistics)),
            element("h2", { class: "above" }, "Queues"),
            queuesTable(overview.queues),
            statistics.tasks.length > 0 && [element("h2", { class: "above" }, "Tasks"), tasksTable(statistics.tasks)],
        ];
    },
};

function windowOf(query) {
    const asked = query.get("window");
    return Object.hasOwn(WINDOWS, asked) ? asked : "1h";
}

/** Why no worker takes due jobs; the API hides this from a key limited to queues. */
async function reasons(signal) {
    try {
        return (await api.get("/v1/unclaimed", { signal })).kinds;
    } catch (problem) {
        if (problem instanceof Problem && problem.status === 403) return [];
        throw problem;
    }
}

/** How many seconds the longest-waiting job has been due, in queues that are not paused. */
function lateness({ at, queues }) {
    const due = queues.filter((queue) => queue.paused_at === null && queue.oldest_due_at !== null);
    return Math.max(0, ...due.map((queue) => (Date.parse(at) - Date.parse(queue.oldest_due_at)) / 1000));
}

function Tiles({ overview }) {
    const { last_minute: minute } = overview;
    const late = lateness(overview);
    return element("div", { class: "tiles" },
        tile("Waiting", count(overview.waiting), {
            path: "/jobs?state=queued", isBad: late > LATE,
            note: late > 0 ? `oldest due ${seconds(Math.round(late))} ago` : "none is late",
        }),
        tile("Running", count(overview.running), { path: "/jobs?state=running", note: "now" }),
        tile("Scheduled", count(overview.scheduled), {
            path: "/jobs?state=scheduled", note: overview.blocked > 0 ? `${count(overview.blocked)} blocked` : "due later",
        }),
        tile("Succeeded", count(minute.succeeded), {
            path: "/jobs?state=succeeded",
            note: minute.duration_p50 === null ? "in a minute" : `in a minute, took ${seconds(minute.duration_p50)}`,
        }),
        tile("Failed", count(minute.failed), {
            path: "/jobs?state=failed", isBad: minute.failed > 0, note: `in a minute; ${errors(minute.errors)}`,
        }),
        tile("Wait", seconds(minute.wait_p95), { path: "/queues", note: "95 % waited less" }),
        tile("Workers", count(overview.workers), {
            path: "/workers", isBad: overview.workers === 0, note: overview.workers === 0 ? "start one" : "alive",
        }),
        tile("Dead letters", count(overview.dead_letters), {
            path: "/dead-letters", isBad: overview.dead_letters > 0,
            note: overview.dead_letters === 0 ? "nothing to decide" : "to be decided",
        }));
}

const errors = (number) => number === 0 ? "no errors" : number === 1 ? "1 error" : `${count(number)} errors`;

function tile(name, value, { note, path, isBad = false }) {
    return element("a", { class: isBad ? "tile bad" : "tile", href: `#${path}`, key: name },
        element("span", { class: "what" }, name),
        element("strong", {}, value),
        element("small", {}, note));
}

function unclaimedWarning({ unclaimed, workers }, kinds) {
    return element("section", { class: "panel warning", role: "status" },
        element("h2", {}, unclaimed === 1 ? "1 due job is unclaimed" : `${count(unclaimed)} due jobs are unclaimed`),
        kinds.length === 0
            ? element("p", {}, workers === 0 ? "No worker is alive. Start one with rowlock worker." : "No live worker would claim them.")
            : element("ul", {}, ...kinds.slice(0, 5).map((kind) => element("li", { key: `${kind.queue} ${kind.task}` },
                link(`/jobs?${new URLSearchParams({ state: "queued", queue: kind.queue, task: kind.task })}`,
                    `${count(kind.jobs)} of ${kind.task}`),
                ` in ${kind.queue}, for ${seconds(kind.waiting)}: ${kind.why}`))));
}

function queuesTable(queues) {
    return table({
        caption: "Queues",
        columns: [
            { head: "Queue", cell: (queue) => link(`/queues/${encodeURIComponent(queue.name)}`, queue.name) },
            { head: "Status", cell: status },
            { head: "Waiting", number: true, cell: (queue) => count(queue.waiting) },
            { head: "Oldest due", cell: (queue) => queue.oldest_due_at === null ? "–" : ago(queue.oldest_due_at) },
            { head: "Running", number: true, cell: (queue) => count(queue.running) },
            { head: "Scheduled", number: true, cell: (queue) => count(queue.scheduled) },
            { head: "Workers", number: true, cell: (queue) => link("/workers", count(queue.workers)) },
        ],
        rows: queues,
        key: (queue) => queue.name,
        empty: empty("There are no queues yet", "Start a worker, and enqueue a job:",
            element("pre", {}, "rowlock worker module:app\nrowlock enqueue send_email '{\"recipient\": \"ada@example.com\"}'")),
    });
}

function tasksTable(tasks) {
    const name = (task) => task === "*" ? "all others" : link(`/tasks/${encodeURIComponent(task)}`, task);
    return table({
        caption: "Tasks",
        columns: [
            { head: "Task", cell: ({ task }) => name(task) },
            { head: "Succeeded", number: true, cell: (task) => count(task.succeeded) },
            { head: "Failed", number: true, cell: (task) => count(task.failed) },
            { head: "Errors", number: true, cell: (task) => count(task.errors) },
            { head: "Median", number: true, cell: (task) => seconds(task.duration_p50) },
            { head: "95 %", number: true, cell: (task) => seconds(task.duration_p95) },
            { head: "Wait, 95 %", number: true, cell: (task) => seconds(task.wait_p95) },
        ],
        rows: tasks,
        key: ({ task }) => task,
        empty: null,
    });
}
