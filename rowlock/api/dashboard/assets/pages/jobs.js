// The jobs, newest first: filters in the address, and acts on one, on some, or on all matching jobs.

import { ago, api, attempts, count, currentSession, element, empty, here, Id, link, may, now, pager, seconds, state, table, useState } from "../kit.js";
import { askEnqueue } from "./enqueue.js";
import { chips, FilterBar, meant, States } from "./job-filter.js";
import { actOnAll, actOnChosen, ACTS } from "./job-acts.js";

/** For so many milliseconds. */
const REMEMBERED = 30_000;

const chosen = new Set();

export const page = {
    title: () => "Jobs",
    every: 5,
    mayLoad: () => chosen.size === 0 && !here().query.has("before"),

    async load({ query, signal, age }) {
        const [found, queues, tasks] = await Promise.all([
            api.get(`/v1/jobs?${query}`, { signal, age }),
            known("queues", signal),
            known("tasks", signal),
        ]);
        return { ...found, queues, tasks };
    },

    actions: ({ tasks }, { refresh }) => may("enqueue") && element("button", {
        type: "button", class: "primary", onClick: async () => { if (await askEnqueue(tasks)) refresh(); },
    }, "Enqueue a job"),

    render: (data, context) => element(Jobs, { ...data, ...context }),
};

const heard = { by: null };

/** All queues or tasks for the filter, perhaps slightly old; a key limited to queues may not see them all. */
async function known(what, signal) {
    if (heard.by !== currentSession()) {
        for (const name of Object.keys(heard)) delete heard[name];
        heard.by = currentSession();
    }
    const isOld = heard[what] === undefined || Date.now() - heard[what].at > REMEMBERED;
    if (isOld || heard[what].all.length === 0) {
        heard[what] = { at: Date.now(), all: await all(what, signal) };
    }
    return heard[what].all;
}

async function all(what, signal) {
    try {
        return (await api.get(`/v1/${what}`, { signal }))[what];
    } catch (problem) {
        if (problem.status === 403) return [];
        throw problem;
    }
}

function Jobs({ jobs, next, searched_until: until = null, queues, tasks, query, refresh, go }) {
    const [, setCount] = useState(0);
    for (const id of chosen) if (!jobs.some((job) => job.id === id)) chosen.delete(id);
    const choose = (ids, isChosen) => {
        for (const id of ids) isChosen ? chosen.add(id) : chosen.delete(id);
        setCount((count) => count + 1);
    };
    const done = () => {
        chosen.clear();
        refresh();
    };
    return [
        element(States, { query }),
        element(FilterBar, { query, queues, tasks, go }),
        chips(query),
        jobs.length > 0 && element(Bar, { jobs: jobs.filter(({ id }) => chosen.has(id)), query, done, choose, until: next === null ? null : until, shown: jobs.length }),
        table({
            caption: "Jobs",
            kind: "jobs",
            columns: columns(jobs, choose),
            rows: jobs,
            key: (job) => job.id,
            empty: nothing({ query, next, until }),
        }),
        element("div", { class: "pages" },
            query.has("before") && element("a", { href: `#/jobs?${without(query, "before")}` }, "Newest"),
            jobs.length > 0 && pager(next, until === null ? "Older" : "Search further back")),
    ];
}

function columns(jobs, choose) {
    const isAll = jobs.every(({ id }) => chosen.has(id));
    const box = (label, isChecked, ids) => element("input", {
        type: "checkbox", "aria-label": label, checked: isChecked, onChange: (event) => choose(ids, event.target.checked),
    });
    return [
        ...may("operate") ? [{
            head: box("Choose all jobs of this page", isAll, jobs.map(({ id }) => id)), isChoice: true,
            cell: (job) => box(`Choose ${job.task} ${job.id}`, chosen.has(job.id), [job.id]),
        }] : [],
        { head: "State", cell: (job) => state(job.state) },
        { head: "Task", cell: task },
        { head: "Id", cell: (job) => element(Id, { id: job.id, path: `/jobs/${job.id}` }) },
        { head: "Queue", cell: (job) => link(`/queues/${encodeURIComponent(job.queue)}`, job.queue) },
        { head: "Attempt", number: true, cell: attempts },
        { head: "Created", cell: (job) => ago(job.created_at) },
        { head: "When", cell: when },
        { head: "Took", number: true, cell: (job) => seconds(took(job)) },
    ];
}

/** The task, linked to the job, and the error. */
function task(job) {
    return element("div", { class: "task" },
        link(`/jobs/${job.id}`, job.task),
        job.tags?.map((tag) => element("span", { class: "tag", key: tag }, tag)),
        job.error !== null && element("div", { class: "why", title: job.error }, job.error));
}

/** The job's next event, or its last one. */
function when(job) {
    if (job.finished_at !== null) return element("span", {}, "ended ", ago(job.finished_at));
    if (job.started_at !== null && job.state === "running") return element("span", {}, "since ", ago(job.started_at, { plain: true }));
    return element("span", {}, "due ", ago(job.run_at));
}

/** How long its last attempt ran, in seconds. */
export function took({ started_at: start, finished_at: end, state: current }) {
    if (start === null || (end === null && current !== "running")) return null;
    return Math.max(0, ((end === null ? now() : Date.parse(end)) - Date.parse(start)) / 1000);
}

/** The acts: on the chosen jobs, or on all that match the filter. */
function Bar({ jobs, query, done, choose, shown, until }) {
    const filter = meant(query);
    const isChosen = jobs.length > 0;
    const isFiltered = Object.keys(filter).length > 0;
    const acts = Object.values(ACTS).filter((act) => isChosen ? jobs.some(act.fits) : isFiltered && act.fitsState(filter.state ?? null));
    const perform = async (act) => {
        const isDone = isChosen ? await actOnChosen(act, jobs.filter(act.fits)) : await actOnAll(act, filter);
        if (isDone) done();
    };
    return element("div", { class: isChosen ? "bulk chosen" : "bulk" },
        element("span", { role: "status" }, isChosen
            ? `${count(jobs.length)} chosen`
            : [`${count(shown)} shown, newest first`, until !== null && [", searched back to ", ago(until)]]),
        may("operate") && element("div", { class: "acts" },
            ...acts.map((act) => element("button", { type: "button", key: act.verb, onClick: () => perform(act) },
                isChosen ? `${act.name} ${count(jobs.filter(act.fits).length)}` : `${act.name} all that fit`)),
            isChosen && element("button", { type: "button", class: "quiet", onClick: () => choose(jobs.map(({ id }) => id), false) },
                "Choose none")));
}

function without(query, name) {
    const rest = new URLSearchParams(query);
    rest.delete(name);
    return rest;
}

/** The text without jobs: how to get one, or how to search further. */
function nothing({ query, next, until }) {
    if (next !== null) {
        return empty("Nothing found so far",
            element("span", {}, "Few jobs match. Searched back to ", until === null ? "some time ago" : ago(until), "."),
            link(`/jobs${next.slice(next.indexOf("?"))}`, "Search on"));
    }
    if ([...query.keys()].length > 0) {
        return empty("No job matches", "Remove a part of the filter, or show all jobs.", link("/jobs", "Show all jobs"));
    }
    return empty("There are no jobs yet", "Enqueue one from your code, or from a terminal:",
        element("pre", {}, "rowlock enqueue send_email '{\"recipient\": \"ada@example.com\"}'"));
}
