// The frame around all pages: where one is, who one is, and what is shown there; it keeps what is shown up to date.

import { readSession, whoever } from "./api.js";
import { keys } from "./keys.js";
import { PAGES, SECTIONS } from "./pages.js";
import { button, link } from "./parts.js";
import { go, here, match } from "./places.js";
import { Component, h as element, render } from "./vendor/preact.js";

/** The page at this address, and its parameters; the page that says that there is none. */
function pageAt({ path }) {
    for (const [pattern, page] of Object.entries(PAGES)) {
        const params = match(pattern, path);
        if (params !== null) return { page, params };
    }
    return { page: PAGES["/nowhere"], params: {} };
}

class Dashboard extends Component {
    state = { session: null, place: here(), isOpen: false };

    componentDidMount() {
        window.addEventListener("hashchange", () => this.setState({ place: here(), isOpen: false }));
        this.enter();
    }

    /** Find out who is there: somebody who must log in first is shown the login. */
    enter = async () => {
        try {
            this.setState({ session: await readSession(), problem: null });
        } catch (problem) {
            this.setState({ session: null, problem });
        }
    };

    render(_, { session, problem, place, isOpen }) {
        if (session === null) {
            if (problem == null) return null;
            if (problem.status === 401) return element(PAGES["/login"].Page, { enter: this.enter });
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
                    ...Object.entries(SECTIONS).map(([path, text]) => element("a", {
                        href: `#${path}`, "aria-current": path === section ? "page" : null,
                    }, text))),
                element("div", { class: "who" }, element(Theme, {}), element(Who, { left: this.enter }))),
            element(Frame, { key: place.path + place.query, page, params, query: place.query, lost: this.enter }),
        ];
    }
}

function skip(event) {
    event.preventDefault();
    document.querySelector("main h1").focus();
}

/** One page at one address: loads what it shows, again and again while somebody may be looking. */
class Frame extends Component {
    state = { data: null, problem: null };

    componentDidMount() {
        this.controller = new AbortController();
        this.load();
        document.addEventListener("visibilitychange", this.wake);
        if (Frame.shown) document.querySelector("main h1").focus({ preventScroll: true });
        Frame.shown = true;
        window.scrollTo(0, 0);
    }

    componentWillUnmount() {
        this.controller.abort();
        clearTimeout(this.timer);
        document.removeEventListener("visibilitychange", this.wake);
    }

    wake = () => {
        if (document.visibilityState === "visible") this.load();
    };

    load = async () => {
        clearTimeout(this.timer);
        const { page, params, query, lost } = this.props;
        const { signal } = this.controller;
        try {
            const data = page.load === undefined ? {} : await page.load({ params, query, signal });
            if (!signal.aborted) this.setState({ data, problem: null });
        } catch (problem) {
            if (signal.aborted) return;
            if (problem.status === 401) lost();
            this.setState({ problem });
        }
        if (page.every && !signal.aborted && document.visibilityState === "visible") {
            this.timer = setTimeout(this.load, page.every * 1000);
        }
    };

    render({ page, params, query }, { data, problem }) {
        const title = page.title(params);
        document.title = `${title} · Rowlock`;
        return element("main", { id: "main", "aria-busy": String(data === null && problem === null) },
            element("h1", { tabIndex: -1 }, title),
            problem !== null && element(Failure, { problem, again: this.load, isStale: data !== null, query }),
            data === null
                ? problem === null && element("p", { class: "loading" }, "Loading …")
                : page.render(data, { params, query, refresh: this.load, go }));
    }
}

/** What did not work, and what to do about it. */
function Failure({ problem, again, isStale = false, query = null }) {
    return element("div", { class: "failure", role: "alert" },
        element("p", {}, isStale ? "What is shown here is old. " : "", problem.message),
        problem.status === 422 && query !== null ? link(here().path, "Show all") : button("Try again", again));
}

/** The switch between light, dark, and as the system has it. */
class Theme extends Component {
    render() {
        const isDark = (document.documentElement.dataset.theme
            ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
        const other = isDark ? "light" : "dark";
        const onClick = () => {
            document.documentElement.dataset.theme = other;
            localStorage.setItem("rowlock-theme", other);
            window.dispatchEvent(new Event("themechange"));
            this.forceUpdate();
        };
        return element("button", { type: "button", class: "quiet", "aria-label": `Use the ${other} theme`, onClick },
            isDark ? "☀" : "☾");
    }
}

/** Who is logged in, and the way out. */
function Who({ left }) {
    const session = whoever();
    if (session === null || session.is_open) return null;
    return [
        element("span", { class: "dim" }, session.by ?? "a key"),
        button("Log out", async () => {
            await PAGES["/login"].leave();
            left();
        }, { kind: "quiet" }),
    ];
}

keys();
render(element(Dashboard, {}), document.getElementById("dashboard"));
