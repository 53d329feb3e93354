// The acts on a queue: its buttons, and their dialogs. Shared by the list and by the queue's page.

import { api, ask, button, element, field, line, may, parseKeep, showKeep } from "../kit.js";

export const OUTCOMES = ["succeeded", "failed", "cancelled", "expired"];

export const path = (name, act = "") => `/v1/queues/${encodeURIComponent(name)}${act && `/${act}`}`;

/** The buttons of one queue that this session may use; `done` is called after each act. */
export function queueButtons(queue, done) {
    const options = { about: queue.name, done };
    const isPaused = queue.paused_at !== null;
    return element("div", { class: "acts" },
        may("operate") && !isPaused && button("Pause", () => pause(queue.name), options),
        may("operate") && isPaused && button("Resume", () => resume(queue.name), options),
        may("admin") && button("Limit", () => limit(queue), options));
}

function pause(name) {
    return ask({
        title: "Pause this queue?",
        body: [element("p", {}, "No job of ", element("strong", {}, name), " starts until it is resumed. "
            + "Running jobs continue, and jobs can still be enqueued.")],
        action: "Pause",
        perform: () => api.post(path(name, "pause")),
    });
}

function resume(name) {
    return ask({
        title: "Resume this queue?",
        body: [element("p", {}, "Jobs of ", element("strong", {}, name), " start again at once.")],
        action: "Resume",
        perform: () => api.post(path(name, "resume")),
    });
}

function limit(queue) {
    return ask({
        title: `Limit ${queue.name}`,
        body: [field("Jobs at once in each worker", "concurrency", line(queue.concurrency, { inputMode: "numeric" }),
            "Empty: each worker's own concurrency.")],
        action: "Set the limit",
        perform: ({ concurrency }) => api.post(path(queue.name, "scale"), {
            concurrency: concurrency.trim() === "" ? null : Number(concurrency),
        }),
    });
}

/** Ask for a queue's retention; `kept` is the current setting, if any. */
export function askKeep(name, kept) {
    return ask({
        title: `How long jobs of ${name} are kept`,
        body: [
            element("p", {}, "For example 12h, 30d, forever, or default for the general setting."),
            ...OUTCOMES.map((outcome) => field(`Jobs that ${outcome === "cancelled" ? "were " : ""}${outcome}`, outcome,
                line(showKeep(kept?.[outcome] ?? null)))),
        ],
        action: "Keep so long",
        perform: (given) => api.put(`/v1/retention/${encodeURIComponent(name)}`, Object.fromEntries(
            OUTCOMES.map((outcome) => [outcome, parseKeep(given[outcome])]),
        )),
    });
}
