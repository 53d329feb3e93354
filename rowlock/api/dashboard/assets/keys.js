// The keyboard: g and a letter go to a section, / to the filter, j and k through the rows, r loads again, ? shows help.

import { ask } from "./dialog.js";
import { go } from "./places.js";
import { h as element } from "./vendor/preact.js";

const PLACES = { o: "/", j: "/jobs", q: "/queues", w: "/workers", s: "/schedules", d: "/dead-letters", a: "/operations" };
const HELP = [
    ["g o", "Overview"], ["g j", "Jobs"], ["g q", "Queues"], ["g w", "Workers"], ["g s", "Schedules"],
    ["g d", "Dead letters"], ["g a", "Operations"], ["/", "To the filter"],
    ["j", "Next row"], ["k", "Row before"], ["Enter", "Open the row"], ["x", "Choose the row"], ["r", "Load again"], ["?", "This list"],
];

/** Listen to single keys, except those typed into a field. */
export function keys() {
    let isGoing = false;
    document.addEventListener("keydown", (event) => {
        const isWriting = event.target.closest?.("input, textarea, select, dialog") !== null;
        if (isWriting || event.ctrlKey || event.metaKey || event.altKey) return;
        const path = isGoing ? PLACES[event.key] : undefined;
        isGoing = event.key === "g";
        if (path !== undefined) go(path);
        else if (event.key === "/") focusFilter(event);
        else if (event.key === "j") step(1);
        else if (event.key === "k") step(-1);
        else if (event.key === "Enter" && event.target.matches("tr")) event.target.querySelector("a")?.click();
        else if (event.key === "x") event.target.closest("tr")?.querySelector("[type=checkbox]")?.click();
        else if (event.key === "r") document.dispatchEvent(new Event("visibilitychange"));
        else if (event.key === "?") help();
    });
}

/** Move by so many rows of the tables. */
function step(by) {
    const rows = [...document.querySelectorAll("main tbody tr")];
    if (rows.length === 0) return;
    const now = rows.indexOf(document.activeElement.closest("tr"));
    const row = rows[Math.max(0, Math.min(rows.length - 1, now + by))];
    row.tabIndex = -1;
    row.focus();
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
