// One queue: its numbers, its last hours, its retention, and a link to its jobs.

import { ago, api, button, charts, count, element, facts, figures, link, may, panel, showKeep } from "../kit.js";
import { OUTCOMES, askKeep, path, queueButtons } from "./queue-acts.js";
import { status } from "./queues.js";

const STATES = ["queued", "scheduled", "retrying", "running", "blocked", "succeeded", "failed", "cancelled", "expired"];

export const page = {
    title: ({ queue }) => `Queue ${queue}`,
    every: 5,

    async load({ params: { queue } }) {
        const [found, retention, statistics] = await Promise.all([
            api.get(path(queue)),
            api.get("/v1/retention").catch(unseen),
            api.get(`/v1/statistics?${new URLSearchParams({ window: "24h", queue })}`).catch(unseen),
        ]);
        return { queue: found, kept: retention?.queues ?? [], statistics };
    },

    actions: ({ queue }, { refresh }) => queueButtons(queue, refresh),

    render({ queue, kept, statistics }, { refresh }) {
        const said = kept.find((one) => one.queue === queue.name);
        const usual = kept.find((one) => one.queue === "*");
        return [
            panel(null,
                facts([
                    ["Status", status(queue)],
                    ["Waiting", count(queue.waiting)],
                    ["Oldest due", queue.oldest_due_at === null ? "nothing waits" : ago(queue.oldest_due_at)],
                    ["Running", count(queue.running)],
                    ["Scheduled", count(queue.scheduled)],
                    ["Blocked", count(queue.blocked)],
                    ["Workers", link("/workers", count(queue.workers))],
                    ["Limit in each worker", queue.concurrency === null ? "its own concurrency" : count(queue.concurrency)],
                ])),
            panel("Its jobs", element("p", { class: "links" }, ...STATES.map((state) => link(
                `/jobs?${new URLSearchParams({ queue: queue.name, state })}`, state,
            )))),
            statistics !== null && panel("The last 24 hours", figures(statistics.total), charts(statistics)),
            panel("How long its finished jobs are kept",
                facts(OUTCOMES.map((outcome) => [outcome, keeping(said?.[outcome] ?? null, usual?.[outcome] ?? null)])),
                may("admin") && button("Change how long", () => askKeep(queue.name, said), { done: refresh })),
        ];
    },
};

/** Omit what a key limited to queues may not see. */
function unseen(problem) {
    if (problem.status === 403 || problem.status === 404) return null;
    throw problem;
}

function keeping(said, usual) {
    if (said !== null) return showKeep(said);
    return usual === null ? "by the default" : `${showKeep(usual)}, as for all queues`;
}
