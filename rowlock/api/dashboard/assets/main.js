// The frame around all pages: navigation, session, and the current page, which it keeps up to date.

import "./plain-text.js";
import { currentSession, may, readSession } from "./api.js";
import { Failure } from "./failure.js";
import { Frame } from "./frame.js";
import { keys } from "./keys.js";
import { OF_QUEUES, PAGES, SECTIONS } from "./pages.js";
import * as login from "./pages/login.js";
import { button } from "./parts.js";
import { here, match } from "./places.js";
import { Component, h as element, render } from "./vendor/preact.js";

/** The page at this address, and its parameters; otherwise the page for unknown addresses. */
function pageAt({ path }) {
    for (const [pattern, page] of Object.entries(PAGES)) {
        const params = match(pattern, path);
        if (params !== null) return { page, params };
    }
    return { page: PAGES["/nowhere"], params: {} };
}

/** The sections that this session may see: a key limited to queues sees only sections of queues. */
function sections() {
    if (!may("read")) return [];
    const isLimited = currentSession().queues !== null;
    return Object.entries(SECTIONS).filter(([path]) => !isLimited || OF_QUEUES.includes(path));
}

/** After how many milliseconds the session is loaded again, if the server did not answer. */
const AGAIN = 3000;

class Dashboard extends Component {
    state = { session: null, place: here(), isOpen: false };

    componentDidMount() {
        window.addEventListener("hashchange", () => this.setState({ place: here(), isOpen: false }));
        this.enter();
    }

    /** Load the session; show the login if there is none. */
    enter = async () => {
        clearTimeout(this.timer);
        let isUncertain = false;
        try {
            const session = await readSession();
            isUncertain = session.isOld === true;
            this.setState({ session, problem: null });
        } catch (problem) {
            isUncertain = problem.isPassing;
            this.setState({ session: null, problem });
        }
        if (isUncertain) this.timer = setTimeout(this.enter, AGAIN);
    };

    render(_, { session, problem, place, isOpen }) {
        if (session === null) {
            if (problem == null) return null;
            if (problem.status === 401) return element(login.Page, { enter: this.enter });
            return element("main", {}, element(Failure, { problem, again: this.enter }));
        }
        const { page, params } = pageAt(place);
        const section = `/${place.path.split("/")[1]}`;
        return [
            element("a", { class: "skip", href: "#main", onClick: skip }, "To the content"),
            element("header", { class: "top" },
                element("a", { class: "brand", href: "#/" }, element("img", { src: "assets/icon.svg", alt: "" }), "Rowlock"),
                element("button", {
                    type: "button", class: "menu", "aria-expanded": String(isOpen), "aria-controls": "sections",
                    onClick: () => this.setState({ isOpen: !isOpen }),
                }, "Menu"),
                element("nav", { id: "sections", "aria-label": "Sections", class: isOpen ? "open" : null },
                    ...sections().map(([path, text]) => element("a", {
                        href: `#${path}`, "aria-current": path === section ? "page" : null,
                    }, text))),
                element("div", { class: "who" }, element(Theme, {}), element(Who, { left: this.enter }))),
            element(Frame, { key: place.path, path: place.path, page, params, query: place.query, lost: this.enter }),
        ];
    }
}

function skip(event) {
    event.preventDefault();
    document.querySelector("main h1").focus();
}

const THEMES = { system: ["◐", "light"], light: ["☀", "dark"], dark: ["☾", "system"] };

/** The switch between light, dark, and the system's setting. */
class Theme extends Component {
    change = () => {
        const [, next] = THEMES[this.chosen()];
        if (next === "system") {
            delete document.documentElement.dataset.theme;
            localStorage.removeItem("rowlock-theme");
        } else {
            document.documentElement.dataset.theme = next;
            localStorage.setItem("rowlock-theme", next);
        }
        window.dispatchEvent(new Event("themechange"));
        this.forceUpdate();
    };

    chosen() {
        return document.documentElement.dataset.theme ?? "system";
    }

    render() {
        const chosen = this.chosen();
        const text = `Theme: ${chosen}`;
        return element("button", {
            type: "button", class: "quiet theme", "aria-label": `${text}. Use ${THEMES[chosen][1]}`, title: text, onClick: this.change,
        }, THEMES[chosen][0]);
    }
}

/** The session's user, and the logout. */
function Who({ left }) {
    const session = currentSession();
    if (session === null || session.is_open) return null;
    return [
        element("span", { class: "dim" }, session.by ?? "a key"),
        button("Log out", async () => {
            await login.leave();
            left();
        }, { kind: "quiet" }),
    ];
}

keys();
render(element(Dashboard, {}), document.getElementById("dashboard"));
