// One job: its options, its timeline, its arguments and result, and its acts.

import {
    ago, api, attempts, button, Copy, count, element, facts, Id, link, may, moment, panel, Problem, seconds, state, table, Tree,
} from "../kit.js";
import { actsOn } from "./job-acts.js";
import { Logs } from "./job-logs.js";
import { Timeline } from "./job-timeline.js";
import { took } from "./jobs.js";
import { sentence } from "./operations.js";

export const page = {
    title: (_, data) => data === null || data === undefined ? "Job" : data.job.task,
    every: 5,
    seldom: 30,
    live: ({ id }) => `/v1/events?${new URLSearchParams({ job: id })}`,
    hear: (event, told, data) => isNews(event, told, data.job) ? undefined : data,

    async load({ params: { id }, signal }) {
        const path = `/v1/jobs/${encodeURIComponent(id)}`;
        const [job, { lines }, operations] = await Promise.all([
            api.get(path, { signal, exact: ["args", "result"] }),
            api.get(`${path}/logs`, { signal }),
            said(id, signal),
        ]);
        return { job, lines, operations };
    },

    actions: ({ job }, { refresh, go }) => element("div", { class: "acts" }, ...actsOn(job)
        .filter(({ scope }) => may(scope))
        .map(({ text, act, isFirst, isLast }) => button(text, act, {
            done: isLast ? () => go("/jobs") : refresh, kind: isFirst ? "primary" : null, key: text,
        }))),

    render: ({ job, lines, operations }) => [
        element("p", { class: "under" }, state(job.state), element(Id, { id: job.id }),
            job.is_sensitive && element("span", { class: "badge", title: "Its arguments and result are hidden" }, "sensitive"),
            job.cancel_requested_at !== null && job.finished_at === null
                && element("span", { class: "badge warning" }, "asked to stop ", ago(job.cancel_requested_at)),
            job.discarded_at !== null && element("span", { class: "badge" }, "discarded ", ago(job.discarded_at)),
            job.tags?.map((tag) => link(`/jobs?${new URLSearchParams({ tag })}`, element("span", { class: "tag", key: tag }, tag))),
            Object.entries(job.metadata ?? {}).sort().map(([key, text]) => link(
                `/jobs?${new URLSearchParams({ metadata: `${key}:${text}` })}`,
                element("span", { class: "tag", key: `${key}:` }, `${key}: ${text}`),
            ))),
        job.progress !== null && job.state === "running" && progress(job.progress),
        job.error !== null && element("section", { class: "panel bad" },
            element("h2", {}, job.state === "failed" ? "Why it failed" : job.state === "cancelled" ? "Why it was cancelled" : "The last error"),
            element("pre", { class: "error", tabIndex: 0 }, job.error)),
        panel(null, facts(about(job))),
        panel("What happened", element(Timeline, { job })),
        element("div", { class: "pair" },
            panel("Arguments", job.args === null
                ? element("p", { class: "dim" }, "They are hidden: the task is sensitive. So are its errors and logs.")
                : element(Tree, { value: job.args, name: "the arguments" })),
            panel("Result", result(job))),
        job.attempts.some(({ traceback }) => traceback) && panel("Tracebacks", ...job.attempts.toReversed().map(traceback)),
        element(Logs, { lines }),
        operations.length > 0 && [element("h2", { class: "above" }, "Who acted on it"), acted(operations)],
    ],
};

/** Whether an event is about this job, and not a repetition: then the page is loaded again. */
function isNews(event, told, job) {
    if (event === "operation") return told.target === job.id;
    if (event !== "job") return false;
    return ["state", "attempt", "run_at", "priority", "queue", "finished_at", "cancel_requested_at", "discarded_at"].some((name) => told[name] !== job[name])
        || JSON.stringify(told.progress) !== JSON.stringify(job.progress)
        || told.attempts.length !== job.attempts.length;
}

/** The acts on it; the API hides them from a key limited to queues. */
async function said(id, signal) {
    try {
        return (await api.get(`/v1/operations?${new URLSearchParams({ target_kind: "job", target: id })}`, { signal })).operations;
    } catch (problem) {
        if (problem instanceof Problem && (problem.status === 403 || problem.status === 422)) return [];
        throw problem;
    }
}

function about(job) {
    return [
        ["Task", link(`/tasks/${encodeURIComponent(job.task)}`, job.task)],
        ["Queue", link(`/queues/${encodeURIComponent(job.queue)}`, job.queue)],
        ["Attempt", attempts(job)],
        ["Created", ago(job.created_at)],
        job.finished_at === null
            ? ["Due", ago(job.run_at)]
            : ["Ended", ago(job.finished_at)],
        ["Took", seconds(took(job))],
        ["Priority", count(job.priority)],
        ...job.errors > 0 ? [["Errors", `${job.errors} of ${job.max_attempts}`]] : [],
        ...job.crashes > 0 ? [["Crashes", count(job.crashes)]] : [],
        ...job.worker !== null ? [["Worker", job.finished_at === null
            ? element(Id, { id: job.worker, path: `/workers/${job.worker}`, name: "worker" })
            : element(Id, { id: job.worker, name: "worker" })]] : [],
        ...job.timeout !== null ? [["Timeout", seconds(job.timeout)]] : [],
        ...job.expires_at !== null ? [["Expires", ago(job.expires_at)]] : [],
        ...job.deadline !== null ? [["Deadline", ago(job.deadline)]] : [],
        ...job.unique !== null ? [["Unique key", element("code", {}, job.unique)]] : [],
        ...job.args_version > 1 ? [["Version of the arguments", count(job.args_version)]] : [],
    ];
}

function progress({ fraction, message, updated_at: at }) {
    return element("div", { class: "progress" },
        element("progress", { max: 1, value: fraction, "aria-label": "Progress" }),
        element("span", {}, `${Math.round(fraction * 100)} %`, message !== null && ` · ${message}`),
        element("small", {}, ago(at)));
}

function result(job) {
    if (job.state === "succeeded" && job.is_sensitive) {
        return element("p", { class: "dim" }, "It is hidden: the task is sensitive.");
    }
    if (job.state === "succeeded") return element(Tree, { value: job.result, name: "the result" });
    return element("p", { class: "dim" }, job.finished_at === null ? "No result yet." : "No result: the job did not succeed.");
}

function traceback(attempt, index) {
    if (!attempt.traceback) return null; // empty if the message is all there is
    return element("details", { key: attempt.attempt, open: index === 0, class: "traceback" },
        element("summary", {}, `Attempt ${attempt.attempt}: `, element("strong", {}, attempt.error_type ?? attempt.outcome),
            attempt.message !== null && ` ${attempt.message}`),
        element("div", { class: "tree" },
            element(Copy, { text: () => attempt.traceback, about: `the traceback of attempt ${attempt.attempt}` }),
            element("pre", { tabIndex: 0 }, attempt.traceback)));
}

function acted(operations) {
    return table({
        caption: "Who acted on it",
        columns: [
            { head: "When", cell: (operation) => moment(operation.at) },
            { head: "Who", cell: (operation) => operation.by ?? element("span", { class: "dim" }, "unnamed") },
            { head: "What", cell: sentence },
            { head: "From", cell: (operation) => operation.source },
        ],
        rows: operations,
        key: (operation) => operation.id,
        empty: null,
    });
}
