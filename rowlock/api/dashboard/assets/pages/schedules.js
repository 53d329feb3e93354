// The schedules: when each runs next, the job of its last time, and its acts.

import { ago, api, button, element, empty, link, may, now, table } from "../kit.js";
import { createSchedule, scheduleButtons } from "./schedule-acts.js";

const LATE = 5 * 60_000;

export const page = {
    title: () => "Schedules",
    every: 5,

    load: () => api.get("/v1/schedules"),

    actions(_, { go }) {
        const create = async () => {
            const created = await createSchedule();
            if (created !== null) go(`/schedules/${encodeURIComponent(created.name)}`);
        };
        return may("admin") && button("New schedule", create, { kind: "primary" });
    },

    render({ schedules }, { refresh }) {
        return [
            table({
                caption: "Schedules",
                columns: [
                    { head: "Schedule", cell: (schedule) => link(`/schedules/${encodeURIComponent(schedule.name)}`, schedule.name) },
                    { head: "Task", cell: (schedule) => schedule.task },
                    { head: "When", cell: when },
                    { head: "Next", cell: next },
                    { head: "Last", cell: last },
                    { head: "From", cell: from },
                    { head: "", cell: (schedule) => scheduleButtons(schedule, refresh) },
                ],
                rows: schedules,
                key: (schedule) => schedule.name,
                empty: empty(
                    "There are no schedules",
                    "A task runs on a schedule once its code declares one, as in @app.task(schedule=\"0 3 * * *\"), or once a "
                    + "schedule is created here.",
                ),
            }),
        ];
    },
};

/** Its cron text, and its time zone if that is not UTC. */
export function when({ cron, timezone }) {
    return element("span", {}, element("code", {}, cron), timezone === "UTC" ? "" : ` ${timezone}`);
}

/** When it fires next; or that it is late by more than a deploy takes. */
export function next(schedule) {
    if (schedule.is_paused) return element("span", { class: "badge warning" }, "paused");
    if (schedule.next_run_at === null) return "never";
    if (now() - Date.parse(schedule.next_run_at) < LATE) return ago(schedule.next_run_at);
    return element("span", { class: "badge error" }, "not fired: due ", ago(schedule.next_run_at));
}

/** Its creator; and whether the code does not declare it any more. */
function from({ origin, undeclared_at: gone }) {
    if (gone !== null) return element("span", { class: "badge warning" }, "not in the code any more");
    return origin === "code" ? "the code" : "a person";
}

function last(schedule) {
    if (schedule.last_job_id === null) return "–";
    const text = schedule.last_tick_at === null ? "by hand" : ago(schedule.last_tick_at);
    return link(`/jobs/${schedule.last_job_id}`, text);
}
