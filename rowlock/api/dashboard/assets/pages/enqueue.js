// Enqueue a job by hand: any task that workers have registered, with arguments as JSON.

import { api, ask, choice, element, field, line, notify, parseJson, Problem } from "../kit.js";
import { argumentsField } from "./job-acts.js";

/** The form for a new job. Resolves to whether it was enqueued. */
export function askEnqueue(tasks) {
    if (tasks.length === 0) {
        notify("No worker has registered a task yet. Start one with rowlock worker: it registers its tasks.");
        return false;
    }
    return ask({
        title: "Enqueue a job",
        body: [
            field("Task", "task", choice(tasks.map(({ name, queue }) => [name, `${name} (${queue})`]), tasks[0].name)),
            argumentsField({}),
            element("details", {},
                element("summary", {}, "Options"),
                field("Queue", "queue", line("", { placeholder: "the task's own" })),
                field("Delay in seconds", "delay", line("", { inputMode: "decimal", placeholder: "none" })),
                field("Priority", "priority", line("", { inputMode: "numeric", placeholder: "the task's own" })),
                field("Maximum attempts", "max_attempts", line("", { inputMode: "numeric", placeholder: "the task's own" })),
                field("Unique key", "unique", line("", { placeholder: "none" }), "Only one waiting or running job can have it."),
                field("Tags", "tags", line("", { placeholder: "none" }), "Separated by commas."),
                field("Metadata", "metadata", element("textarea", {
                    rows: 2, spellcheck: false, autocomplete: "off", placeholder: "none",
                }), "One a line, for example customer:42.")),
        ],
        action: "Enqueue",
        perform: async (form) => {
            const task = tasks.find(({ name }) => name === form.task);
            const job = await api.post("/v1/jobs", {
                task: form.task,
                args: parseJson(form.args, "args"),
                args_version: task.args_version,
                ...options(form),
            });
            notify(element("span", {}, job.is_duplicate ? "Already enqueued as " : "Enqueued as ",
                element("a", { href: `#/jobs/${job.id}` }, `job ${job.id}`), "."));
        },
    });
}

/** The options from the form; an empty field keeps the task's own setting. */
function options(form) {
    const given = {};
    for (const name of ["queue", "unique"]) if (form[name].trim() !== "") given[name] = form[name].trim();
    for (const name of ["delay", "priority", "max_attempts"]) {
        if (form[name].trim() === "") continue;
        given[name] = Number(form[name]);
        if (Number.isNaN(given[name])) throw new Problem(422, "This must be a number.", name);
    }
    const tags = form.tags.split(",").map((tag) => tag.trim()).filter(Boolean);
    if (tags.length > 0) given.tags = tags;
    const pairs = form.metadata.split("\n").map((pair) => pair.trim()).filter(Boolean);
    if (pairs.some((pair) => !pair.includes(":"))) throw new Problem(422, "Each line must be a key, a colon and a text.", "metadata");
    if (pairs.length > 0) given.metadata = Object.fromEntries(pairs.map((pair) => pair.split(/:(.*)/s, 2).map((part) => part.trim())));
    return given;
}
