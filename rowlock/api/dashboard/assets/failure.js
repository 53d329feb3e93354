// What did not work, and what to do about it: each kind of trouble in its own words.

import { moment } from "./formats.js";
import { button, link } from "./parts.js";
import { here } from "./places.js";
import { h as element } from "./vendor/preact.js";

const TITLES = {
    0: "The server cannot be reached",
    401: "Your session is over",
    403: "You may not see this",
    404: "There is no such thing",
    429: "That was too often",
    503: "The database does not answer",
};

function remedy(status, again) {
    if (status === 403) return null;
    const { path, query } = here();
    return status === 422 && [...query.keys()].length > 0 ? link(path, "Show all") : button("Try again", again);
}

/** The problem; `isStale`: of what is shown below, which is old now: from `keptAt`, if it was loaded by another page. */
export function Failure({ problem, again, isStale = false, keptAt = null }) {
    const { status = null, title, message } = problem;
    return element("div", { class: "failure", role: "alert" },
        element("div", {},
            element("strong", {}, title ?? TITLES[status] ?? "This did not work"),
            element("p", {}, message,
                isStale && [" What is shown below is from ", keptAt === null ? "before" : moment(new Date(keptAt).toISOString()), "."],
                problem.isPassing && " It is tried again by itself.")),
        remedy(status, again));
}
