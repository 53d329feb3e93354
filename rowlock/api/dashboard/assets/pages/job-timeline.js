// A job's timeline: a bar of its whole time, and below it each event, in order.

import { element, link, moment, now, seconds } from "../kit.js";

const OUTCOMES = {
    error: ["bad", "ended in an error"], failed: ["bad", "failed"], timeout: ["bad", "took too long"],
    crashed: ["bad", "ended with its worker"], cancelled: ["quiet", "was cancelled"], snoozed: ["quiet", "was put off"],
    released: ["quiet", "was given back"], retried: ["bad", "asked to be tried again"],
};

export function Timeline({ job }) {
    const spans = spansOf(job);
    return element("div", { class: "timeline" }, element(Bar, { spans }), element("ol", {}, ...eventsOf(job).map(event)));
}

/** The spans of the job's time: kind, start and end (milliseconds). */
function spansOf(job) {
    const runs = runsOf(job);
    const spans = [];
    let at = Date.parse(job.created_at);
    const until = (time, kind, text) => {
        if (time > at) spans.push({ from: at, to: time, kind, text });
        at = Math.max(at, time);
    };
    for (const [index, run] of runs.entries()) {
        if (index === 0) until(Math.min(Date.parse(job.run_at), run.from), "later", "was not due");
        until(run.from, index === 0 ? "waiting" : "later", index === 0 ? "waited" : "waited for the next attempt");
        until(run.to, run.kind, `attempt ${run.number} ${run.text}`);
    }
    const end = job.finished_at === null ? now() : Date.parse(job.finished_at);
    if (job.state !== "running") {
        until(Math.min(end, Date.parse(job.run_at)), "later", runs.length === 0 ? "was not due" : "waited for the next attempt");
        until(end, "waiting", "waited");
    }
    return spans;
}

/** The attempts that began, in order: the recorded ones, and the last one. */
function runsOf(job) {
    const runs = job.attempts.filter((attempt) => attempt.started_at !== null).map((attempt) => {
        const [kind, text] = OUTCOMES[attempt.outcome] ?? ["quiet", attempt.outcome];
        return { number: attempt.attempt, from: Date.parse(attempt.started_at), to: Date.parse(attempt.finished_at), kind, text };
    });
    if (job.started_at === null || runs.some(({ number }) => number >= job.attempt)) return runs;
    if (job.state === "running") {
        return [...runs, { number: job.attempt, from: Date.parse(job.started_at), to: now(), kind: "running", text: "runs" }];
    }
    if (job.state === "succeeded") {
        const to = Date.parse(job.finished_at);
        return [...runs, { number: job.attempt, from: Date.parse(job.started_at), to, kind: "good", text: "succeeded" }];
    }
    return runs;
}

function Bar({ spans }) {
    const whole = spans.length === 0 ? 0 : spans.at(-1).to - spans[0].from;
    if (whole <= 0) return null;
    return element("div", { class: "bar", role: "img", "aria-label": spans.map(inWords).join(", ") },
        ...spans.map((span, index) => element("i", {
            key: index, class: span.kind, title: inWords(span), style: { flexGrow: Math.max(1, (span.to - span.from) * 1000 / whole) },
        })));
}

const inWords = ({ from, to, text }) => `${text}: ${seconds((to - from) / 1000)}`;

/** Each event: when, what, and how long after the one before. */
function eventsOf(job) {
    const events = [{ at: job.created_at, kind: "quiet", text: "Enqueued" }];
    for (const attempt of job.attempts) {
        const [kind, text] = OUTCOMES[attempt.outcome] ?? ["quiet", attempt.outcome];
        if (attempt.started_at !== null) events.push({ at: attempt.started_at, kind: "running", text: `Attempt ${attempt.attempt} started`, worker: attempt.worker });
        events.push({ at: attempt.finished_at, kind, text: `Attempt ${attempt.attempt} ${text}`, why: why(attempt) });
    }
    if (job.started_at !== null && !job.attempts.some(({ attempt }) => attempt >= job.attempt)) {
        if (job.state === "running" || job.state === "succeeded") {
            events.push({ at: job.started_at, kind: "running", text: `Attempt ${job.attempt} started`, worker: job.worker });
        }
    }
    if (job.cancel_requested_at !== null) events.push({ at: job.cancel_requested_at, kind: "quiet", text: "Told to stop" });
    if (job.finished_at !== null) {
        const kind = { succeeded: "good", failed: "bad" }[job.state] ?? "quiet";
        events.push({ at: job.finished_at, kind, text: job.state === "cancelled" ? "Cancelled" : job.state[0].toUpperCase() + job.state.slice(1) });
    }
    if (job.discarded_at !== null) events.push({ at: job.discarded_at, kind: "quiet", text: "Discarded" });
    if (job.finished_at === null && job.state !== "running") {
        const text = job.state === "blocked" ? "Blocked" : Date.parse(job.run_at) > now() ? "Will be due" : "Due";
        events.push({ at: job.run_at, kind: "waiting", text });
    }
    return events.sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
}

const why = ({ error_type: type, message }) => [type, message].filter(Boolean).join(": ");

function event({ at, kind, text, why: reason, worker }, index, all) {
    const after = index === 0 ? 0 : (Date.parse(at) - Date.parse(all[index - 1].at)) / 1000;
    return element("li", { key: index, class: kind },
        element("span", { class: "what" }, text,
            worker && [" by ", link(`/workers/${worker}`, `worker …${worker.slice(-4)}`)]),
        element("span", { class: "dim" }, moment(at), after > 0 && ` · ${seconds(after)} later`),
        reason && element("span", { class: "reason" }, reason));
}
