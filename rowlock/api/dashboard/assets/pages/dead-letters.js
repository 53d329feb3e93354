// The dead letters, by task and error: inspect, retry or discard them.

import {
    ago, api, ask, attempts, button, count, element, empty, filters, link, may, notify, table, useState,
} from "../kit.js";

const SHOWN = 20;

export const page = {
    title: () => "Dead letters",
    every: 10,

    load: ({ query }) => api.get(`/v1/dead-letters/groups?${query}`),

    render({ groups, searched_until: until }, { query, go, refresh }) {
        const isFiltered = [...query.keys()].length > 0;
        return [
            filters(query, go, [
                { name: "task", label: "Task" },
                { name: "queue", label: "Queue" },
                { name: "error", label: "Error contains" },
            ]),
            table({
                caption: "Dead letters by task and error",
                columns: [
                    { head: "Task", cell: (group) => group.task },
                    { head: "Error", cell: (group) => element(Group, { group, query }) },
                    { head: "Jobs", number: true, cell: (group) => link(`/jobs?${searching(group, query)}`, count(group.jobs)) },
                    { head: "First", cell: (group) => ago(group.first_at) },
                    { head: "Last", cell: (group) => ago(group.last_at) },
                    { head: "", cell: (group) => buttons(group, query, refresh) },
                ],
                rows: groups,
                key: nameOf,
                empty: isFiltered
                    ? empty("No dead letter matches", "Remove a part of the filter.")
                    : empty("No dead letters", "A job that failed at its last attempt waits here for a decision."),
            }),
            until && element("p", {}, "Searched back to ", ago(until), ": older ones are not all counted."),
        ];
    },
};

/** The filter for exactly a group's jobs. The errors of sensitive tasks are not distinguished. */
export function meaning({ task, error: text, is_sensitive: isSensitive }, query) {
    const filter = { state: "failed", discarded: false, task };
    if (!isSensitive) filter.error_kind = text;
    for (const name of ["queue", "error"]) if (query.get(name)) filter[name] = query.get(name);
    return filter;
}

function searching(group, query) {
    return new URLSearchParams(Object.entries(meaning(group, query)).map(([name, value]) => [name, String(value)]));
}

const nameOf = (group) => JSON.stringify([group.task, group.error]);

const said = ({ error: text, is_sensitive: isSensitive }) => text || (isSensitive ? "hidden" : "no error");

/** The error, which opens to the first of the jobs. They are loaded when it is opened. */
function Group({ group, query }) {
    const [found, setFound] = useState(null);
    const open = async (event) => {
        if (!event.currentTarget.open) return;
        const { state, discarded, ...rest } = meaning(group, query);
        try {
            setFound(await api.get(`/v1/dead-letters?${new URLSearchParams({ ...rest, limit: SHOWN })}`));
        } catch (problem) {
            setFound({ problem });
        }
    };
    return element("details", { onToggle: open },
        element("summary", {}, said(group)),
        element("div", { class: "inside" }, ...inside(found, group, query)));
}

function inside(found, group, query) {
    if (found === null) return ["Loading …"];
    if (found.problem !== undefined) return [element("p", { role: "alert" }, found.problem.message)];
    return [...found.jobs.map(line), found.next !== null && link(`/jobs?${searching(group, query)}`, "All of them")];
}

function line(job) {
    return element("p", {},
        link(`/jobs/${job.id}`, element("code", {}, job.id)), " failed ", ago(job.finished_at),
        `, attempt ${attempts(job)}`,
        job.error !== null && element("div", { class: "why" }, job.error));
}

function buttons(group, query, done) {
    const options = { about: `${group.task}: ${said(group)}`, done };
    return may("operate") && element("div", { class: "acts" },
        button("Retry all", () => retry(meaning(group, query)), options),
        button("Discard all", () => discard(meaning(group, query)), options));
}

const retry = (filter) => actOnAll("retry", filter, "Retry", "Put back", "They are queued again, with all their attempts.");
const discard = (filter) => actOnAll("discard", filter, "Discard", "Discarded", "They stay in the archive, and leave this list.");

/** Count first, then ask for confirmation, then act. */
async function actOnAll(act, filter, verb, done, meant) {
    let counted;
    try {
        counted = await api.post(`/v1/jobs/bulk/${act}`, { filter, dry_run: true });
    } catch (problem) {
        notify(problem.message, { isError: true });
        return false;
    }
    const jobs = counted.count === 1 ? "1 job" : `${count(counted.count)} jobs`;
    return ask({
        title: `${verb} ${jobs}?`,
        body: [
            element("p", {}, "All dead letters of the task ", element("strong", {}, filter.task),
                ...(filter.error_kind === "" ? [" without an error"] : []),
                ...(filter.error_kind ? [" with errors like ", element("code", {}, filter.error_kind)] : []),
                ...(filter.error === undefined ? [] : [" whose error contains ", element("code", {}, filter.error)]),
                ...(filter.queue === undefined ? [] : [" in the queue ", element("strong", {}, filter.queue)]),
                ". ", meant),
        ],
        action: `${verb} ${jobs}`,
        isDanger: act === "discard",
        perform: async () => {
            const { count: number, skipped } = await api.post(`/v1/jobs/bulk/${act}`, { filter });
            const rest = skipped > 0 ? `; ${count(skipped)} could not be, as they have changed, or their unique key is held` : "";
            notify(`${done}: ${count(number)} ${number === 1 ? "job" : "jobs"}${rest}.`);
        },
    });
}
