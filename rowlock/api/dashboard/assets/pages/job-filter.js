// The filter of jobs: states as tabs, the rest as a form, active conditions as chips. The address's query holds all of it.

import { api, choice, element, line, link, parseExactly, Problem, useEffect, useRef } from "../kit.js";

export const STATES = ["queued", "scheduled", "retrying", "running", "blocked", "succeeded", "failed", "cancelled", "expired"];
const AGES = [["300", "5 minutes"], ["3600", "hour"], ["86400", "24 hours"], ["604800", "7 days"], ["2592000", "30 days"]];

/** The conditions with a field in the form, and their text on a chip. */
const FIELDS = {
    queue: (value) => `queue ${value}`,
    task: (value) => `task ${value}`,
    tag: (value) => `tag ${value}`,
    metadata: (value) => `metadata ${value}`,
    text: (value) => `arguments contain “${value}”`,
    error: (value) => `error contains “${value}”`,
    newer_than: (value) => `created in the last ${ageOf(value)}`,
    created_after: (value) => `created after ${local(value)}`,
    created_before: (value) => `created before ${local(value)}`,
};
/** Conditions without a field: only an address, a link or a chip has them. */
const OTHERS = {
    error_kind: (value) => value === "" ? "no error" : `error like “${value}”`,
    args: (value) => `arguments ${value}`,
    older_than: (value) => `older than ${ageOf(value)}`,
    discarded: (value) => value === "true" ? "discarded" : "not discarded",
    after: (value) => `enqueued after ${value}`,
};
const NUMBERS = ["older_than", "newer_than"];
/** A key, a colon and a text, as metadata in the address: once for each key. */
const PAIR = /^([^:]*):(.*)$/s;

const ageOf = (value) => AGES.find(([seconds]) => seconds === value)?.[1] ?? `${value} seconds`;
const local = (value) => new Date(value).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** The filter of an address, in the form of acts on many jobs. */
export function meant(query) {
    const filter = {};
    for (const name of ["state", ...Object.keys(FIELDS), ...Object.keys(OTHERS)]) {
        const value = query.get(name);
        if (value === null) continue;
        if (NUMBERS.includes(name)) filter[name] = Number(value);
        else if (name === "discarded") filter[name] = value === "true";
        else if (name === "metadata") filter[name] = Object.fromEntries(query.getAll(name).map((pair) => PAIR.exec(pair)?.slice(1) ?? [pair, ""]));
        else filter[name] = name === "args" ? parseExactly(value) : value;
    }
    return filter;
}

/** The filter in words. */
export function inWords(filter) {
    const { state, ...rest } = filter;
    const said = Object.entries(rest).flatMap(([name, value]) => {
        const say = FIELDS[name] ?? OTHERS[name];
        if (name === "metadata") return Object.entries(value).map(([key, text]) => say(`${key}:${text}`));
        return [say(typeof value === "string" ? value : JSON.stringify(value))];
    });
    return [...state === undefined ? [] : [`state ${state}`], ...said];
}

/** The states as tabs; if they do not fit, scroll to the current one. */
export function States({ query }) {
    const now = query.get("state");
    const place = useRef(null);
    useEffect(() => {
        const tab = place.current.querySelector("[aria-current]");
        if (tab !== null) place.current.scrollLeft = tab.offsetLeft - (place.current.clientWidth - tab.offsetWidth) / 2;
    }, [now]);
    const tab = (state, text) => element("a", {
        href: `#/jobs?${changed(query, { state })}`, key: text, "aria-current": now === state ? "true" : null,
    }, text);
    return element("nav", { class: "tabs", "aria-label": "States", ref: place },
        tab(null, "all"), ...STATES.map((state) => tab(state, state)));
}

/** The active conditions, each with a button to remove it. */
export function chips(query) {
    const all = Object.entries({ ...FIELDS, ...OTHERS }).flatMap(([name, say]) => (
        query.getAll(name).map((value) => ({ name, value, text: say(value) }))
    ));
    if (all.length === 0) return null;
    return element("ul", { class: "chips", "aria-label": "Filtered by" },
        ...all.map(({ name, value, text }) => element("li", { key: `${name} ${value}` },
            element("span", {}, text),
            element("a", {
                href: `#/jobs?${changed(query, { [name]: query.getAll(name).filter((other) => other !== value) })}`,
                "aria-label": `Do not filter by ${text}`,
            }, "×"))),
        element("li", { class: "plain" }, link(`/jobs?${changed(new URLSearchParams(), { state: query.get("state") })}`, "Clear all")));
}

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Whether there is a job with this id; otherwise it may be the program's own id, among the arguments. */
async function isThere(id) {
    try {
        await api.get(`/v1/jobs/${id}`);
        return true;
    } catch (problem) {
        if (problem instanceof Problem) return false;
        throw problem;
    }
}

/** The form; a job's full id leads to the job. */
export function FilterBar({ query, queues, tasks, go }) {
    const onSubmit = async (event) => {
        event.preventDefault();
        const form = event.currentTarget;
        const wanted = new FormData(form).get("text").trim();
        if (ID.test(wanted) && await isThere(wanted)) return go(`/jobs/${wanted.toLowerCase()}`);
        const given = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, said(name, value)]));
        if (given.created_after || given.created_before) given.newer_than = null;
        given.metadata = withPair(query.getAll("metadata"), given.metadata);
        go(`/jobs?${changed(query, given)}`);
    };
    const submit = (event) => event.target.form.requestSubmit();
    const place = (name, label, input) => {
        input.props.id = `filter-${name}`;
        input.props.name = name;
        return element("div", { class: "field", key: name }, element("label", { for: `filter-${name}` }, label), input);
    };
    const text = (name, label, more = {}) => place(name, label, line(query.get(name), { type: "search", ...more }));
    const isExact = query.has("created_after") || query.has("created_before");
    return element("form", { class: "filters", role: "search", "aria-label": "Filter the jobs", key: String(query), onSubmit },
        text("text", "Arguments contain", { placeholder: "a word, or a job's id" }),
        text("task", "Task", { list: "tasks" }),
        place("queue", "Queue", choice([["", "all"], ...names(queues, query.get("queue"))], query.get("queue") ?? "", { onChange: submit })),
        place("newer_than", "Created", choice([["", "any time"], ...ages(query.get("newer_than"))], query.get("newer_than") ?? "", { onChange: submit })),
        element("details", { class: "further", open: isExact || query.has("tag") || query.has("metadata") || query.has("error") },
            element("summary", {}, "More"),
            element("div", { class: "fields" },
                text("error", "Error contains"),
                text("tag", "Tag"),
                place("metadata", "Metadata", line("", { type: "search", placeholder: "customer:42" })),
                place("created_after", "Created after", moment(query.get("created_after"))),
                place("created_before", "Created before", moment(query.get("created_before"))))),
        element("button", { type: "submit" }, "Filter"),
        element("datalist", { id: "tasks" }, ...tasks.map(({ name }) => element("option", { value: name, key: name }))));
}

const names = (queues, chosen) => [...new Set([...queues.map(({ name }) => name), ...chosen === null ? [] : [chosen]])];
const ages = (chosen) => [...AGES.map(([seconds, text]) => [seconds, `in the last ${text}`]),
    ...chosen === null || AGES.some(([seconds]) => seconds === chosen) ? [] : [[chosen, `in the last ${chosen} s`]]];

function moment(value) {
    const time = value === null ? null : new Date(value);
    const shown = time === null || Number.isNaN(time.valueOf())
        ? "" : new Date(time - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
    return line(shown, { type: "datetime-local" });
}

/** The metadata conditions with one more: the others are chips, the field has this one. */
function withPair(pairs, more) {
    if (more === "") return pairs;
    const [, key, text] = PAIR.exec(more) ?? [];
    if (key === undefined) return [...pairs, more];
    return [...pairs.filter((pair) => !pair.startsWith(`${key.trim()}:`)), `${key.trim()}:${text.trim()}`];
}

/** A field's value in the form of the address. */
function said(name, value) {
    const text = value.trim();
    if (text === "" || !name.startsWith("created_")) return text;
    return new Date(text).toISOString();
}

/** The query with other values; without the page, because it is another list now. */
function changed(query, values) {
    const rest = new URLSearchParams(query);
    rest.delete("before");
    for (const [name, value] of Object.entries(values)) {
        if (Array.isArray(value)) {
            rest.delete(name);
            for (const one of value) rest.append(name, one);
        } else if (value === null || value === "") rest.delete(name);
        else rest.set(name, value);
    }
    return rest;
}
