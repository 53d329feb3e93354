// The parts of pages: links, tables, fields, filters, and their texts when there is nothing to show.
// All are Preact's virtual elements, whose children can only be text: a job's data never becomes markup.

import { here } from "./places.js";
import { Problem, parseExactly } from "./api.js";
import { h as element, render } from "./vendor/preact.js";

/** A link to a page of the dashboard. */
export function link(path, ...children) {
    return element("a", { href: `#${path}` }, ...children);
}

/** A job's state. */
export function state(name) {
    return element("span", { class: `badge state-${name}` }, name);
}

/** A button with an action; it calls `done` after a success. `about` names its object for screen readers. */
export function button(text, act, { about = null, done = () => {}, kind = null, ...more } = {}) {
    return element("button", {
        type: "button",
        class: kind,
        "aria-label": about === null ? null : `${text} ${about}`,
        onClick: async () => { if (await act()) done(); },
        ...more,
    }, text);
}

/** A table, which becomes a list of cards on a phone; `key` identifies a row. Without rows it shows `empty`.
 * An `isChoice` column has checkboxes. */
export function table({ caption, columns, rows, empty: nothing, key = null, kind = null }) {
    if (rows.length === 0) return nothing;
    const head = columns.map(({ head: text, number, isChoice }) => text === ""
        ? element("th", { scope: "col" }, element("span", { class: "for-readers" }, "Actions"))
        : element("th", { scope: "col", class: number ? "number" : isChoice ? "choice" : null }, text));
    const body = rows.map((row) => element("tr", { key: key === null ? undefined : key(row) },
        ...columns.map(({ head: text, cell, number, isChoice }) => element("td",
            { class: number ? "number" : isChoice ? "choice" : null, "data-head": isChoice ? "" : text }, cell(row)))));
    return element("div", { class: kind === null ? "table" : `table ${kind}`, tabIndex: 0, role: "region", "aria-label": caption },
        element("table", {},
            element("thead", {}, element("tr", {}, ...head)),
            element("tbody", {}, ...body)));
}

/** A titled part of a page. */
export function panel(title, ...children) {
    return element("section", { class: "panel" }, title && element("h2", {}, title), ...children);
}

/** The text for an empty list, and what to do about it. */
export function empty(title, text, ...more) {
    return element("div", { class: "empty" }, element("h2", {}, title), element("p", {}, text), ...more);
}

/** Names and values. */
export function facts(pairs) {
    return element("dl", { class: "facts" }, ...pairs.map(([name, value]) => element("div", {},
        element("dt", {}, name), element("dd", {}, value))));
}

/** JSON, as text. */
export function json(value) {
    return element("pre", { class: "json", tabIndex: 0 }, JSON.stringify(value, null, 2));
}

/** An input with its label, a hint, and its problem (dialog.js shows problems there, too). */
export function field(label, name, input, hint = "", wrong = null) {
    const id = `field-${name}`;
    input.props.id = id;
    input.props.name = name;
    input.props["aria-describedby"] = hint ? `${id}-hint ${id}-wrong` : `${id}-wrong`;
    return element("div", { class: "field" },
        element("label", { for: id }, label), input,
        hint && element("small", { id: `${id}-hint` }, hint),
        element("small", { id: `${id}-wrong`, class: "wrong", role: "alert" }, wrong));
}

/** A text input. */
export function line(value, more = {}) {
    return element("input", { type: "text", defaultValue: value ?? "", autocomplete: "off", spellcheck: false, ...more });
}

/** A select; options are texts, or pairs of a value and a text. */
export function choice(options, chosen, more = {}) {
    return element("select", more, ...options.map((option) => {
        const [value, text] = Array.isArray(option) ? option : [option, option];
        return element("option", { value, selected: value === chosen }, text);
    }));
}

/** Parse JSON that the user wrote. Throws a `Problem` at the field. */
export function parseJson(text, name) {
    try {
        return parseExactly(text);
    } catch (error) {
        throw new Problem(422, `This is not JSON: ${error.message}`, name);
    }
}

/** The filter form above a list, bound to the address. `none` is a select's text for no choice. */
export function filters(query, go, all) {
    const inputs = all.map(({ name, label, options, placeholder, none = "all" }) => {
        const value = query.get(name) ?? "";
        const id = `filter-${name}`;
        const input = options === undefined
            ? line(value, { id, name, placeholder, type: "search" })
            : choice([["", none], ...options], value, { id, name, onChange: (event) => event.target.form.requestSubmit() });
        return element("div", { class: "field" }, element("label", { for: id }, label), input);
    });
    const onSubmit = (event) => {
        event.preventDefault();
        const given = [...new FormData(event.currentTarget)].filter(([, value]) => value.trim() !== "");
        go(`${here().path}?${new URLSearchParams(given)}`);
    };
    return element("form", { class: "filters", role: "search", key: String(query), onSubmit }, ...inputs,
        element("div", { class: "acts" },
            element("button", { type: "submit" }, "Filter"),
            [...query.keys()].length > 0 && link(here().path, "Show all")));
}

/** The link to the next page of a list; `next` is the path from the API. */
export function pager(next, text = "Older") {
    if (next === null) return null;
    return element("nav", { class: "pager", "aria-label": "Pages" },
        link(here().path + next.slice(next.indexOf("?")), text));
}

/** Show a message for a while, at the edge of the page. */
export function notify(what, { isError = false } = {}) {
    const place = document.createElement("div");
    const close = () => { render(null, place); place.remove(); };
    document.getElementById("notices").append(place);
    render(element("div", { class: isError ? "notice error" : "notice", role: isError ? "alert" : "status" },
        element("span", {}, what),
        element("button", { type: "button", "aria-label": "Close", onClick: close }, "×")), place);
    if (!isError) setTimeout(close, 8000);
}
