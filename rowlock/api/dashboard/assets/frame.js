// One page at one address: load it, keep it up to date while it is visible, and show problems.

import { Failure } from "./failure.js";
import { keep, kept } from "./last.js";
import { listen } from "./live.js";
import { go } from "./places.js";
import { Component, h as element } from "./vendor/preact.js";

/** How many milliseconds a stream may be cut before the page shows it. */
const GRACE = 4000;
/** How often relative times are rendered again, in milliseconds. */
const TICK = 5000;
/** The accepted age of an automatic reload, in seconds. */
const AGE = 3;
/** The longest pause before a retry, in seconds, if the problem may end by itself. */
const AGAIN = 5;

/**
 * A page has `title(params)`, `load({params, query, signal, age})` (`age`: the accepted age of an automatic load, in
 * seconds), `render(data, context)` and optionally `every`
 * (seconds until it is loaded again), `isKept` (figures, of which the last are shown if no new ones are available),
 * `actions(data, context)` beside the title, `mayLoad()` (false: not now), and
 * `live(params)`, the path of a stream, with `hear(event, told, data)`: the new data, or undefined to load again; while the
 * stream is open, only every `seldom` seconds.
 */
export class Frame extends Component {
    state = { data: null, problem: null, isCut: false, isOther: false, keptAt: null };

    componentDidMount() {
        this.wake();
        document.addEventListener("visibilitychange", this.wake);
        if (Frame.shown) document.querySelector("main h1").focus({ preventScroll: true });
        Frame.shown = true;
        window.scrollTo(0, 0);
    }

    componentDidUpdate({ query }) {
        if (String(query) === String(this.props.query)) return;
        this.setState({ problem: null, isOther: true });
        this.load();
    }

    componentWillUnmount() {
        this.sleep();
        document.removeEventListener("visibilitychange", this.wake);
    }

    wake = () => {
        this.sleep();
        if (document.visibilityState !== "visible") return;
        const { page, params } = this.props;
        if (page.live !== undefined) this.silence = listen(page.live(params), { tell: this.tell, open: this.opened });
        this.ticking = setInterval(() => this.forceUpdate(), TICK);
        this.load();
    };

    sleep() {
        clearInterval(this.ticking);
        this.controller?.abort();
        this.silence?.();
        this.isOpen = false;
        clearTimeout(this.timer);
        clearTimeout(this.grace);
        this.grace = undefined;
    }

    opened = (isOpen) => {
        if (isOpen) {
            clearTimeout(this.grace);
            this.grace = undefined;
            this.setState({ isCut: false });
        } else {
            this.grace ??= setTimeout(() => this.setState({ isCut: true }), GRACE);
        }
        if (isOpen !== this.isOpen) {
            this.isOpen = isOpen;
            this.plan();
        }
    };

    tell = (event, told) => {
        if (this.state.data === null) return;
        const data = this.props.page.hear(event, told, this.state.data);
        if (data === undefined) this.load();
        else this.setState({ data });
    };

    refresh = () => this.load();

    load = async (age) => {
        clearTimeout(this.timer);
        this.controller?.abort();
        const { signal } = this.controller = new AbortController();
        const { page, params, query, lost } = this.props;
        try {
            const data = page.load === undefined ? {} : await page.load({ params, query, signal, age });
            if (!signal.aborted) {
                this.isFailing = false;
                this.setState({ data, problem: null, isOther: false, keptAt: null });
                if (page.isKept) keep(place(this.props), data);
            }
        } catch (problem) {
            if (signal.aborted) return;
            if (problem.status === 401) lost();
            this.isFailing = problem.isPassing === true;
            const last = this.isFailing && page.isKept ? kept(place(this.props)) : null;
            this.setState(({ data, isOther, keptAt }) => {
                const shown = isOther ? null : data;
                return shown === null && last !== null
                    ? { problem, isOther: false, data: last.value, keptAt: last.at }
                    : { problem, isOther: false, data: shown, keptAt };
            });
        }
        if (!signal.aborted) this.plan();
    };

    /** Load again after a while. */
    plan() {
        const { page } = this.props;
        let pause = this.isOpen ? page.seldom : page.every;
        if (this.isFailing) pause = Math.min(pause ?? AGAIN, AGAIN);
        clearTimeout(this.timer);
        if (pause === undefined || document.visibilityState !== "visible") return;
        this.timer = setTimeout(() => page.mayLoad?.() === false ? this.plan() : this.load(AGE), pause * 1000);
    }

    render({ page, params, query }, { data, problem, isCut, isOther, keptAt }) {
        const title = page.title(params, data);
        document.title = `${title} · Rowlock`;
        const context = { params, query, refresh: this.refresh, go };
        return element("main", { id: "main", "aria-busy": String(isOther || (data === null && problem === null)) },
            element("div", { class: "title" },
                element("h1", { tabIndex: -1 }, title),
                data !== null && page.actions?.(data, context)),
            problem !== null && element(Failure, { problem, again: this.refresh, isStale: data !== null, keptAt }),
            isCut && problem === null && element("p", { class: "cut", role: "status" },
                `Live updates are cut off: loaded every ${page.every} seconds instead, until they are back.`),
            data === null ? problem === null && element(Skeleton, {}) : page.render(data, context));
    }
}

/** The page's address: the key of its kept figures. */
const place = ({ path, query }) => `${path}?${query}`;

/** The placeholder until the page is loaded. */
function Skeleton() {
    return element("div", { class: "skeleton", role: "status" },
        element("span", { class: "for-readers" }, "Loading …"),
        element("i", { class: "low" }), element("i", {}), element("i", {}));
}
