// The keyboard: g and a letter goes to a section, / to the filter, r loads anew, ? says so.

import { ask } from "./dialog.js";
import { go } from "./places.js";
import { h as element } from "./vendor/preact.js";

const PLACES = { o: "/", j: "/jobs", q: "/queues", w: "/workers", s: "/schedules", d: "/dead-letters", a: "/operations" };
const HELP = [
    ["g o", "Overview"], ["g j", "Jobs"], ["g q", "Queues"], ["g w", "Workers"], ["g s", "Schedules"],
    ["g d", "Dead letters"], ["g a", "Operations"], ["/", "To the filter"], ["r", "Load anew"], ["?", "This list"],
];

/** Listen to single keys, but for those that are meant for a field. */
export function keys() {
    let isGoing = false;
    document.addEventListener("keydown", (event) => {
        const isWriting = event.target.closest?.("input, textarea, select, dialog") !== null;
        if (isWriting || event.ctrlKey || event.metaKey || event.altKey) return;
        const path = isGoing ? PLACES[event.key] : undefined;
        isGoing = event.key === "g";
        if (path !== undefined) go(path);
        else if (event.key === "/") focusFilter(event);
        else if (event.key === "r") document.dispatchEvent(new Event("visibilitychange"));
        else if (event.key === "?") help();
    });
}

function focusFilter(event) {
    const first = document.querySelector("main [role=search] :is(input, select)");
    if (first === null) return;
    event.preventDefault();
    first.focus();
}

function help() {
    ask({
        title: "Keys",
        body: [element("dl", { class: "facts" }, ...HELP.map(([key, what]) => element("div", {},
            element("dt", {}, element("kbd", {}, key)), element("dd", {}, what))))],
        action: "Close",
        perform: () => null,
    });
}
