// One task: how often its jobs run and fail, how long they take, its jobs by state, and its registration by workers.

import { ago, api, attempts, charts, count, element, empty, facts, figures, here, Id, link, Numbers, panel, state, table } from "../kit.js";

const WINDOWS = { "1h": "hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days" };
const STATES = ["queued", "scheduled", "retrying", "running", "succeeded", "failed", "cancelled", "expired"];
/** How many of its jobs are shown, the newest. */
const NEWEST = 10;

export const page = {
    title: ({ task }) => task,
    every: 10,

    async load({ params: { task }, query, signal }) {
        const [statistics, { jobs }, { tasks }] = await Promise.all([
            api.get(`/v1/statistics?${new URLSearchParams({ task, window: windowOf(query) })}`, { signal }),
            api.get(`/v1/jobs?${new URLSearchParams({ task, limit: NEWEST })}`, { signal }),
            api.get("/v1/tasks", { signal }),
        ]);
        return { statistics, jobs, known: tasks.find(({ name }) => name === task) ?? null };
    },

    actions: () => element("nav", { class: "tabs", "aria-label": "Time" },
        ...Object.entries(WINDOWS).map(([window, text]) => element("a", {
            href: `#${here().path}?${new URLSearchParams({ window })}`, key: window, title: `The last ${text}`,
            "aria-current": windowOf(here().query) === window ? "true" : null,
        }, window))),

    render: ({ statistics, jobs, known }, { params: { task }, query }) => [
        panel(null, known === null
            ? element("p", { class: "dim" }, "No worker has registered it: its jobs wait until one does.")
            : facts([
                ["Queue", link(`/queues/${encodeURIComponent(known.queue)}`, known.queue)],
                ["Priority", count(known.priority)],
                ["Attempts", count(known.max_attempts)],
                ["Version of its arguments", count(known.args_version)],
                ["Arguments and results", known.is_sensitive ? "hidden: it is sensitive" : "shown"],
            ])),
        panel(`The last ${WINDOWS[windowOf(query)]}`, charts(statistics), figures(statistics.total), element(Numbers, statistics)),
        panel("Its jobs", element("p", { class: "links" },
            ...STATES.map((one) => link(`/jobs?${new URLSearchParams({ task, state: one })}`, one)),
            link(`/jobs?${new URLSearchParams({ task })}`, "all"))),
        jobsTable(jobs),
    ],
};

function jobsTable(jobs) {
    return table({
        caption: "Its newest jobs",
        columns: [
            { head: "State", cell: (job) => state(job.state) },
            { head: "Id", cell: (job) => element(Id, { id: job.id, path: `/jobs/${job.id}` }) },
            { head: "Queue", cell: (job) => link(`/queues/${encodeURIComponent(job.queue)}`, job.queue) },
            { head: "Attempt", number: true, cell: attempts },
            { head: "Created", cell: (job) => ago(job.created_at) },
        ],
        rows: jobs,
        key: (job) => job.id,
        empty: empty("No jobs", "None were enqueued, or retention has removed them."),
    });
}

function windowOf(query) {
    const asked = query.get("window");
    return Object.hasOwn(WINDOWS, asked) ? asked : "24h";
}
