// Values of jobs for people: collapsible JSON, ids, and the button that copies them. All of it is text.

import { count } from "./formats.js";
import { notify } from "./parts.js";
import { useState } from "./vendor/preact-hooks.js";
import { h as element } from "./vendor/preact.js";

/** How many levels are open at first, and how many members of one level are shown at once. */
const OPEN = 2;
const SHOWN = 100;

/** JSON as a tree, with a button that copies it. */
export function Tree({ value, name }) {
    return element("div", { class: "tree" },
        element(Copy, { text: () => JSON.stringify(value, null, 2), about: name }),
        element("pre", { tabIndex: 0, "aria-label": name }, element(Branch, { value, level: 0 })));
}

function Branch({ value, level }) {
    const [isOpen, setOpen] = useState(level < OPEN);
    const [shown, setShown] = useState(SHOWN);
    const isList = Array.isArray(value);
    if (!isList && (typeof value !== "object" || value === null || JSON.isRawJSON?.(value))) return leaf(value);
    const [left, right] = isList ? "[]" : "{}";
    const all = isList ? value : Object.entries(value);
    if (all.length === 0) return left + right;
    const members = all.slice(0, shown).map((member, index) => element("div", { class: "member", key: index },
        !isList && [element("span", { class: "name" }, JSON.stringify(member[0])), ": "],
        element(Branch, { value: isList ? member : member[1], level: level + 1 }),
        index < all.length - 1 && ","));
    const text = isList ? `${count(all.length)} items` : `${count(all.length)} members`;
    return element("span", {},
        element("button", {
            type: "button", class: "fold", "aria-expanded": String(isOpen),
            "aria-label": isOpen ? `Close ${text}` : `Open ${text}`, onClick: () => setOpen(!isOpen),
        }, left, !isOpen && element("span", { class: "dim" }, ` ${text} `), !isOpen && right),
        isOpen && [
            ...members,
            all.length > shown && element("button", { type: "button", class: "fold", onClick: () => setShown(shown + 10 * SHOWN) },
                `… ${count(all.length - shown)} more`),
            right,
        ]);
}

function leaf(value) {
    const kind = value === null ? "null" : typeof value === "object" ? "number" : typeof value;
    return element("span", { class: `value ${kind}` }, JSON.stringify(value));
}

/** An id, shortened; its button copies the full id, and its title shows it. */
export function Id({ id, path = null, name = "id" }) {
    const text = element("code", { title: id }, id.length > 16 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id);
    return element("span", { class: "id" },
        path === null ? text : element("a", { href: `#${path}` }, text),
        element(Copy, { text: () => id, about: `${name} ${id}` }));
}

/** A button that copies a text. */
export function Copy({ text, about }) {
    const [isDone, setDone] = useState(false);
    const onClick = async () => {
        if (!await copied(text())) {
            notify("The browser blocks copying on this page. Select the text and copy it yourself.", { isError: true });
            return;
        }
        setDone(true);
        setTimeout(() => setDone(false), 1500);
    };
    return element("button", { type: "button", class: "copy", title: "Copy", "aria-label": `Copy ${about}`, onClick },
        element("span", { class: isDone ? "icon done" : "icon copy", "aria-hidden": "true" }),
        isDone && element("span", { class: "for-readers", role: "status" }, "Copied"));
}

/** Copy the text, also on a page over plain HTTP, where the browser blocks the clipboard. */
async function copied(text) {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        const place = document.createElement("textarea");
        place.value = text;
        (document.querySelector("dialog[open]") ?? document.body).append(place);
        place.select();
        const isDone = document.execCommand("copy");
        place.remove();
        return isDone;
    }
}
