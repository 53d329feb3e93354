// A problem and its remedy, with a title for each kind of problem.

import { moment } from "./formats.js";
import { button, link } from "./parts.js";
import { here } from "./places.js";
import { h as element } from "./vendor/preact.js";

const TITLES = {
    0: "The server is unreachable",
    401: "Your session is over",
    403: "You may not see this",
    404: "Not found",
    429: "Too many requests",
    503: "The database does not answer",
};

function remedy(status, again) {
    if (status === 403) return null;
    const { path, query } = here();
    return status === 422 && [...query.keys()].length > 0 ? link(path, "Show all") : button("Try again", again);
}

/** The problem; `isStale`: the content below is old: from `keptAt`, if another page loaded it. */
export function Failure({ problem, again, isStale = false, keptAt = null }) {
    const { status = null, title, message } = problem;
    return element("div", { class: "failure", role: "alert" },
        element("div", {},
            element("strong", {}, title ?? TITLES[status] ?? "Something went wrong"),
            element("p", {}, message,
                isStale && [" What is shown below is from ", keptAt === null ? "before" : moment(new Date(keptAt).toISOString()), "."],
                problem.isPassing && " It is tried again by itself.")),
        remedy(status, again));
}
