// One schedule: its settings, its next times, and its last jobs.

import { ago, api, element, empty, facts, json, link, moment, panel, state, table } from "../kit.js";
import { scheduleButtons, schedulePath } from "./schedule-acts.js";
import { next, when } from "./schedules.js";

const MISFIRE = {
    latest: "one job for the latest of them", all: "one job for each of them", skip: "no job for any of them",
};
const OVERLAP = { allow: "a job is made all the same", skip: "no job is made" };

export const page = {
    title: ({ schedule }) => `Schedule ${schedule}`,
    every: 5,

    load: ({ params: { schedule } }) => api.get(schedulePath(schedule), { isTagged: true }),

    actions: (schedule, { refresh, go }) => scheduleButtons(schedule, refresh, { isPage: true, gone: () => go("/schedules") }),

    render(schedule) {
        return [
            panel(null,
                facts([
                    ["Task", link(`/tasks/${encodeURIComponent(schedule.task)}`, schedule.task)],
                    ["When", when(schedule)],
                    ["Next", next(schedule)],
                    ["Queue", schedule.queue === null ? "the task's" : link(`/queues/${encodeURIComponent(schedule.queue)}`, schedule.queue)],
                    ["Priority", schedule.priority === null ? "the task's" : String(schedule.priority)],
                    ["Attempts", schedule.max_attempts === null ? "as the task has" : String(schedule.max_attempts)],
                    ["While no worker runs", MISFIRE[schedule.misfire]],
                    ["While its last job runs", OVERLAP[schedule.overlap]],
                    ["Delayed by up to", `${schedule.jitter} s`],
                    ...(schedule.undeclared_at === null ? []
                        : [["Not in the code", element("span", {}, "since ", moment(schedule.undeclared_at), ": it goes on firing")]]),
                    ["Comes from", schedule.origin === "code" ? "the code: edits last until the code changes" : "a person"],
                    ["Changed", moment(schedule.updated_at)],
                ])),
            panel("Arguments", schedule.args === null
                ? element("p", { class: "dim" }, "Hidden: the task is sensitive.") : json(schedule.args)),
            panel("The next times",
                schedule.is_paused || schedule.next_ticks.length === 0
                    ? element("p", {}, schedule.is_paused ? "None: it is paused." : "None: no time matches.")
                    : element("ol", { class: "times" }, ...schedule.next_ticks.map((at) => element("li", {}, moment(at), " ", ago(at))))),
            element("section", {},
                element("h2", {}, "The last times"),
                table({
                    caption: "The last times",
                    columns: [
                        { head: "Time", cell: (tick) => moment(tick.tick_at) },
                        { head: "Fired", cell: (tick) => ago(tick.fired_at) },
                        { head: "Job", cell: (tick) => link(`/jobs/${tick.job}`, element("code", {}, tick.job)) },
                        { head: "State", cell: (tick) => tick.state === null ? "removed since" : state(tick.state) },
                    ],
                    rows: schedule.ticks,
                    empty: empty("It has not fired yet", "A worker enqueues its job at the next time. Run now enqueues one at once."),
                })),
        ];
    },
};
