// The acts on jobs: on one, on some, or on all that match a filter, which are counted before the confirmation.

import { api, ask, count, element, field, line, notify, now, parseJson, Problem } from "../kit.js";
import { inWords } from "./job-filter.js";

const LIVE = ["queued", "scheduled", "retrying", "running", "blocked"];
const WAITING = ["queued", "scheduled", "retrying"];
const BACK = ["failed", "cancelled", "expired"];

const waits = (job) => WAITING.includes(job.state) && job.cancel_requested_at === null;

/** The acts on many jobs: whether a job, or the state in the filter, allows it. */
export const ACTS = {
    cancel: {
        verb: "cancel", name: "Cancel", done: "Cancelled", isDanger: true,
        fits: (job) => LIVE.includes(job.state),
        fitsState: (state) => state === null || LIVE.includes(state),
        meant: "Waiting jobs never start. Running jobs are asked to stop.",
    },
    reschedule: {
        verb: "reschedule", name: "Run now", done: "Due now", isDanger: false,
        fits: (job) => waits(job) && Date.parse(job.run_at) > now(),
        fitsState: (state) => ["scheduled", "retrying"].includes(state),
        meant: "They are due at once, and start as soon as a worker is free.",
    },
    retry: {
        verb: "retry", name: "Retry", done: "Put back", isDanger: false,
        fits: (job) => BACK.includes(job.state),
        fitsState: (state) => state === null || BACK.includes(state),
        meant: "They are queued again, with all their attempts.",
    },
    discard: {
        verb: "discard", name: "Discard", done: "Discarded", isDanger: true,
        fits: (job) => job.state === "failed" && job.discarded_at === null,
        fitsState: (state) => state === null || state === "failed",
        meant: "They stay in the archive, and are not dead letters any more.",
    },
};

export const path = (job, act = "") => `/v1/jobs/${job.id}${act && `/${act}`}`;
const many = (number) => number === 1 ? "1 job" : `${count(number)} jobs`;
const reason = () => field("Reason", "reason", line("", { maxLength: 500 }), "Recorded with the jobs. Optional.");
const given = (act, { reason: text }) => {
    if (act.verb === "reschedule") return { delay: 0 };
    return act.verb === "cancel" && text.trim() !== "" ? { reason: text.trim() } : {};
};

/** Count the matching jobs, ask for confirmation, and act. Resolves to whether it was done. */
export async function actOnAll(act, filter) {
    let counted;
    try {
        counted = await api.post(`/v1/jobs/bulk/${act.verb}`, { filter, dry_run: true, ...given(act, { reason: "" }) });
    } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        notify(problem.message, { isError: true });
        return false;
    }
    if (counted.count === 0) {
        notify(`None of the jobs that fit can be ${{ cancel: "cancelled", reschedule: "run now", retry: "retried", discard: "discarded" }[act.verb]}.`);
        return false;
    }
    return ask({
        title: `${act.name} ${many(counted.count)}?`,
        body: [
            element("p", {}, "All that fit: ", element("strong", {}, inWords(filter).join(", ")), "; also those on other pages. ", act.meant),
            act.verb === "cancel" && reason(),
        ],
        action: `${act.name} ${many(counted.count)}`,
        isDanger: act.isDanger,
        perform: async (form) => {
            const done = await api.post(`/v1/jobs/bulk/${act.verb}`, { filter, ...given(act, form) });
            notify([
                `${act.done}: ${many(done.count)}`,
                done.requested > 0 ? `; ${count(done.requested)} of them run, and were asked to stop` : "",
                done.skipped > 0 ? `; ${count(done.skipped)} could not be, as they have changed, their time is over, or their unique key is held` : "",
                ".",
            ].join(""));
        },
    });
}

/** Ask for confirmation, and act on each of these jobs, one after the other. */
export function actOnChosen(act, jobs) {
    return ask({
        title: `${act.name} ${many(jobs.length)}?`,
        body: [element("p", {}, act.meant), act.verb === "cancel" && reason()],
        action: `${act.name} ${many(jobs.length)}`,
        isDanger: act.isDanger,
        perform: async (form) => {
            const wrong = [];
            for (const job of jobs) {
                try {
                    await api.post(path(job, act.verb), act.verb === "discard" ? undefined : given(act, form));
                } catch (problem) {
                    if (!(problem instanceof Problem) || problem.status === 0 || problem.status === 401) throw problem;
                    wrong.push(problem.message);
                }
            }
            if (wrong.length < jobs.length) notify(`${act.done}: ${many(jobs.length - wrong.length)}.`);
            if (wrong.length > 0) notify(`${many(wrong.length)} could not be: ${wrong[0]}`, { isError: true });
        },
    });
}

/** The acts on this job, for its buttons: text and function. After an `isLast` act the job is gone. */
export function actsOn(job) {
    const isSafe = job.args !== null;
    return [
        ACTS.cancel.fits(job) && job.cancel_requested_at === null && { text: "Cancel", scope: "operate", act: () => cancel(job) },
        ACTS.reschedule.fits(job) && { text: "Run now", scope: "operate", act: () => runNow(job), isFirst: true },
        waits(job) && { text: "Change…", scope: "operate", act: () => change(job) },
        ACTS.retry.fits(job) && { text: "Retry", scope: "operate", act: () => retry(job), isFirst: true },
        ACTS.retry.fits(job) && isSafe && { text: "Retry with other arguments", scope: "operate", act: () => retryWith(job) },
        job.finished_at !== null && { text: "Run again", scope: "operate", act: () => runAgain(job) },
        ACTS.discard.fits(job) && { text: "Discard", scope: "operate", act: () => discard(job) },
        job.finished_at !== null && { text: "Delete for good", scope: "admin", act: () => remove(job), isLast: true },
    ].filter(Boolean);
}

function cancel(job) {
    return ask({
        title: "Cancel this job?",
        body: [element("p", {}, job.state === "running"
            ? "It runs: it is asked to stop, and gets a while to do so."
            : "It has not started, and never will."), reason()],
        action: "Cancel the job",
        isDanger: true,
        perform: async (form) => {
            const { answer } = await api.post(path(job, "cancel"), given(ACTS.cancel, form));
            notify(answer === "cancelled" ? "Cancelled." : "It was asked to stop.");
        },
    });
}

function runNow(job) {
    return ask({
        title: "Run this job now?",
        body: [element("p", {}, "It is due at once, and starts as soon as a worker is free.")],
        action: "Run now",
        perform: async () => {
            await api.post(path(job, "reschedule"), { delay: 0 });
            notify("Due now.");
        },
    });
}

function change(job) {
    const shown = { run_at: local(job.run_at), priority: String(job.priority), queue: job.queue };
    return ask({
        title: "Change this job",
        body: [
            field("Due", "run_at", line(shown.run_at, { type: "datetime-local", step: 1 }), "In this browser's time zone. A time in the past means now."),
            field("Priority", "priority", line(shown.priority), "0 (last) to 9 (first)."),
            field("Queue", "queue", line(shown.queue)),
        ],
        action: "Change",
        perform: async (form) => {
            const changed = Object.keys(shown).filter((name) => form[name].trim() !== shown[name]);
            if (changed.length === 0) throw new Problem(422, "Nothing has changed yet.");
            const read = { run_at: instant, priority: number, queue: (text) => text };
            await api.post(path(job, "reschedule"), Object.fromEntries(changed.map((name) => [name, read[name](form[name].trim())])));
            notify("Changed.");
        },
    });
}

/** A time in the form of its field: in the browser's time zone, to the second. */
function local(iso) {
    const at = new Date(iso);
    return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

function instant(text) {
    const at = new Date(text);
    if (Number.isNaN(at.getTime())) throw new Problem(422, "Enter a day and a time.", "run_at");
    return at.toISOString();
}

function number(text) {
    if (text === "" || Number.isNaN(Number(text))) throw new Problem(422, `Priority must be a number; got ${text || "nothing"}.`, "priority");
    return Number(text);
}

function remove(job) {
    return ask({
        title: "Delete this job for good?",
        body: [element("p", {}, "It is deleted with its attempts, logs, arguments and result. This cannot be undone. The audit records that "
            + "you deleted it.")],
        action: "Delete for good",
        isDanger: true,
        perform: async () => {
            await api.remove(path(job));
            notify("Deleted for good.");
        },
    });
}

function retry(job) {
    return ask({
        title: "Retry this job?",
        body: [element("p", {}, "It is queued again unchanged, with all its attempts.")],
        action: "Retry",
        perform: async () => {
            await api.post(path(job, "retry"), {});
            notify("Put back.");
        },
    });
}

function retryWith(job) {
    return ask({
        title: "Retry with other arguments",
        body: [element("p", {}, "The job is queued again with these arguments, and keeps them."), argumentsField(job.args)],
        action: "Retry",
        perform: async ({ args }) => {
            await api.post(path(job, "retry"), { args: parseJson(args, "args") });
            notify("Queued again, with other arguments.");
        },
    });
}

function runAgain(job) {
    let made = null;
    return ask({
        title: "Run this job again?",
        body: [
            element("p", {}, "A new job of the same task is enqueued. This one stays as it is."),
            job.args !== null && argumentsField(job.args),
        ],
        action: "Run again",
        perform: async ({ args }) => {
            made = await api.post(path(job, "run-again"), args === undefined ? {} : changed(args, job.args));
            notify(element("span", {}, "Enqueued as ", element("a", { href: `#/jobs/${made.id}` }, `job ${made.id}`), "."));
        },
    });
}

function changed(text, before) {
    const args = parseJson(text, "args");
    return JSON.stringify(args) === JSON.stringify(before) ? {} : { args };
}

function discard(job) {
    return ask({
        title: "Discard this dead letter?",
        body: [element("p", {}, "It stays in the archive, and leaves the list of dead letters.")],
        action: "Discard",
        isDanger: true,
        perform: async () => {
            await api.post(path(job, "discard"));
            notify("Discarded.");
        },
    });
}

/** A field for arguments, as JSON. */
export function argumentsField(args) {
    const text = JSON.stringify(args, null, 2);
    return field("Arguments", "args", element("textarea", {
        rows: Math.max(4, Math.min(16, text.split("\n").length + 1)), spellcheck: false, autocomplete: "off", defaultValue: text,
    }), "A JSON object.");
}
