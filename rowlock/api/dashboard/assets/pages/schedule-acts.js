// The acts on a schedule: its buttons, and their forms.

import { api, ask, button, choice, element, field, line, link, may, notify, parseJson, Problem } from "../kit.js";

export const schedulePath = (name, act = "") => `/v1/schedules/${encodeURIComponent(name)}${act && `/${act}`}`;

/** The buttons that this session may use. `isPage`: those of the schedule's own page, which has all of them. */
export function scheduleButtons(schedule, done, { isPage = false, gone = done } = {}) {
    const options = { about: schedule.name, done };
    return element("div", { class: "acts" },
        may("operate") && button("Run now", () => run(schedule), options),
        may("operate") && !schedule.is_paused && button("Pause", () => pause(schedule), options),
        may("operate") && schedule.is_paused && button("Resume", () => resume(schedule), options),
        may("admin") && isPage && button("Edit", () => edit(schedule), options),
        may("admin") && isPage && button("Delete", () => remove(schedule), { ...options, done: gone }));
}

function run(schedule) {
    return ask({
        title: "Run this schedule now?",
        body: [element("p", {}, "A job of ", element("strong", {}, schedule.task), " is enqueued at once. The times of ",
            element("strong", {}, schedule.name), " stay as they are.")],
        action: "Run now",
        perform: async () => {
            const job = await api.post(schedulePath(schedule.name, "run"));
            notify(element("span", {}, "Enqueued ", link(`/jobs/${job.id}`, `a job of ${job.task}`), "."));
        },
    });
}

function pause(schedule) {
    return ask({
        title: "Pause this schedule?",
        body: [element("p", {}, element("strong", {}, schedule.name), " enqueues no jobs until it is resumed.")],
        action: "Pause",
        perform: () => api.post(schedulePath(schedule.name, "pause")),
    });
}

function resume(schedule) {
    return ask({
        title: "Resume this schedule?",
        body: [element("p", {}, element("strong", {}, schedule.name), " makes jobs again, from its next time on. Those of "
            + "the pause are not made up for.")],
        action: "Resume",
        perform: () => api.post(schedulePath(schedule.name, "resume")),
    });
}

function remove(schedule) {
    const back = schedule.origin === "code" ? " The code declares it: it comes back with the next worker that starts." : "";
    return ask({
        title: "Delete this schedule?",
        body: [element("p", {}, element("strong", {}, schedule.name), ` makes no more jobs; those that it made stay.${back}`)],
        action: "Delete",
        isDanger: true,
        perform: () => api.remove(schedulePath(schedule.name)),
    });
}

const CHANGED = 412;
const OVERTAKEN = "The schedule was changed since it was read, so nothing was done. Your input is still here: copy "
    + "what you want to keep before you load the new state.";
const NEW = {
    task: "", cron: "", timezone: "UTC", args: {}, misfire: "latest", overlap: "allow", jitter: 0, queue: null,
    priority: null, max_attempts: null,
};

/** Ask for a new schedule, and create it. Resolves to it, or to null if the user cancelled. */
export async function createSchedule() {
    let created = null;
    await ask({
        title: "New schedule",
        body: [field("Name", "name", line("")), ...await fieldsOf(NEW)],
        action: "Create",
        perform: async (given) => {
            created = await api.post("/v1/schedules", { name: given.name.trim(), ...read(given) });
        },
    });
    return created;
}

/** Ask for changes, and make them, unless the schedule was changed since it was read. */
async function edit(schedule) {
    let fresh = null;
    const isDone = await ask({
        title: `Edit ${schedule.name}`,
        body: await fieldsOf(schedule),
        action: "Save",
        perform: async (given) => {
            const changes = Object.entries(read(given)).filter(
                ([name, value]) => value !== undefined && JSON.stringify(value) !== JSON.stringify(schedule[name]),
            );
            if (changes.length === 0) return;
            try {
                await api.patch(schedulePath(schedule.name), Object.fromEntries(changes), { tag: schedule.tag });
            } catch (problem) {
                throw problem.status === CHANGED ? new Problem(CHANGED, OVERTAKEN) : problem;
            }
        },
        remedy: {
            status: CHANGED,
            text: "Load the new state",
            act: async () => { fresh = await api.get(schedulePath(schedule.name), { isTagged: true }); },
        },
    });
    return fresh === null ? isDone : edit(fresh);
}

/** The fields of a schedule. They suggest registered tasks, and accept others. */
async function fieldsOf(schedule) {
    const { tasks } = await api.get("/v1/tasks");
    const text = (name, more) => line(schedule[name], more);
    return [
        field("Task", "task", text("task", { list: "tasks-known" })),
        element("datalist", { id: "tasks-known" }, ...tasks.map((task) => element("option", { value: task.name }))),
        field("Cron", "cron", text("cron", { placeholder: "0 3 * * *" }),
            "Minute, hour, day, month, weekday; six fields begin with the seconds; or @hourly."),
        field("Time zone", "timezone", text("timezone"), "For example Europe/Berlin."),
        field("Arguments", "args", element("textarea", {
            rows: 4, spellcheck: false, defaultValue: schedule.args === null ? "" : JSON.stringify(schedule.args, null, 2),
        }), schedule.args === null ? "Hidden: the task is sensitive. Empty: unchanged." : "A JSON object."),
        field("While no worker runs", "misfire", choice(["latest", "all", "skip"], schedule.misfire),
            "Enqueue a job for the latest missed time, for all of them, or for none (skip)."),
        field("While its last job runs", "overlap", choice(["allow", "skip"], schedule.overlap), "Whether to enqueue another one."),
        field("Delayed by up to", "jitter", text("jitter"), "Seconds, chosen at random for each job."),
        field("Queue", "queue", text("queue"), "Empty: the task's."),
        field("Priority", "priority", text("priority"), "0 to 9; empty: the task's."),
        field("Attempts", "max_attempts", text("max_attempts"), "Empty: the task's."),
    ];
}

/** The form's values in the API's form. Throws a `Problem` at a field. */
function read(given) {
    const number = (name) => {
        const text = given[name].trim();
        if (text === "") return null;
        if (Number.isNaN(Number(text))) throw new Problem(422, `This must be a number; got ${text}.`, name);
        return Number(text);
    };
    return {
        task: given.task.trim(),
        cron: given.cron.trim(),
        timezone: given.timezone.trim(),
        args: given.args.trim() === "" ? undefined : parseJson(given.args, "args"),
        misfire: given.misfire,
        overlap: given.overlap,
        jitter: number("jitter") ?? 0,
        queue: given.queue.trim() || null,
        priority: number("priority"),
        max_attempts: number("max_attempts"),
    };
}
