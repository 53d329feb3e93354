// Figures over time, drawn by uPlot in the colours of the theme, and a summary in a few numbers.

import { count, seconds } from "./formats.js";
import { facts, table } from "./parts.js";
import { useEffect, useRef, useState } from "./vendor/preact-hooks.js";
import { h as element } from "./vendor/preact.js";

const HEIGHT = 150;

/** The totals of the whole time. */
export function figures(total) {
    return facts([
        ["Succeeded", count(total.succeeded)],
        ["Failed", count(total.failed)],
        ["Errors", count(total.errors)],
        ["Duration, median", seconds(total.duration_p50)],
        ["Duration, 95 %", seconds(total.duration_p95)],
        ["Wait, 95 %", seconds(total.wait_p95)],
    ]);
}

/** The time as three charts: how many jobs ended, how long they took, and how many there were. */
export function charts({ points, step, until }) {
    const times = points.map(({ at }) => Date.parse(at) / 1000);
    const lasted = (at) => Math.min(step, (Date.parse(until) - Date.parse(at)) / 1000);
    const rate = (name) => points.map((point) => lasted(point.at) < step / 4 ? null : point[name] * 60 / lasted(point.at));
    const value = (name) => points.map((point) => point[name]);
    return element("div", { class: "charts" },
        element(Chart, {
            title: "Jobs a minute", times, unit: count, lines: [
                { label: "succeeded", colour: "--good", values: rate("succeeded"), isFilled: true },
                { label: "failed", colour: "--bad", values: rate("failed"), isFilled: true },
            ],
        }),
        element(Chart, {
            title: "How long they took", times, unit: seconds, lines: [
                { label: "median", colour: "--accent", values: value("duration_p50") },
                { label: "95 %", colour: "--warning", values: value("duration_p95") },
            ],
        }),
        element(Chart, {
            title: "Backlog", times, unit: count, lines: [
                { label: "waiting", colour: "--accent", values: value("waiting"), isFilled: true },
                { label: "running", colour: "--good", values: value("running") },
            ],
        }));
}

/** The same as a table of numbers; it is created when it is opened. */
export function Numbers({ points }) {
    const [isOpen, setOpen] = useState(false);
    const columns = [
        ["Succeeded", "succeeded", count], ["Failed", "failed", count], ["Median", "duration_p50", seconds],
        ["95 %", "duration_p95", seconds], ["Waiting", "waiting", count], ["Running", "running", count],
    ];
    return element("details", { class: "numbers", onToggle: (event) => setOpen(event.currentTarget.open) },
        element("summary", {}, "As a table"),
        isOpen && table({
            caption: "The charts in numbers",
            columns: [
                { head: "From", cell: ({ at }) => MOMENT.format(Date.parse(at)) },
                ...columns.map(([head, name, unit]) => ({ head, number: true, cell: (point) => show(point[name], unit) })),
            ],
            rows: points.toReversed(),
            key: ({ at }) => at,
            empty: null,
        }));
}

/** One chart of the numbers in `lines`; screen readers read the last ones. */
export function Chart({ title, times, lines, unit }) {
    const place = useRef(null);
    const plot = useRef(null);
    const latest = useRef(null);
    const data = [times, ...lines.map(({ values }) => values)];
    const [pointed, setPointed] = useState(null);
    latest.current = data; // a change of the theme draws the latest data again

    useEffect(() => {
        const box = place.current;
        const draw = () => {
            plot.current?.destroy();
            plot.current = new window.uPlot(options(box, lines, unit, setPointed), latest.current, box);
        };
        draw();
        const observer = new ResizeObserver(() => plot.current.setSize({ width: box.clientWidth, height: HEIGHT }));
        observer.observe(box);
        const schemes = matchMedia("(prefers-color-scheme: dark)");
        window.addEventListener("themechange", draw);
        schemes.addEventListener("change", draw);
        return () => {
            observer.disconnect();
            window.removeEventListener("themechange", draw);
            schemes.removeEventListener("change", draw);
            plot.current.destroy();
        };
    }, []);
    useEffect(() => { plot.current?.setData(data); }, [JSON.stringify(data)]);

    const last = lines.map(({ label, values }) => `${label} ${showLast(values, unit)}`).join(", ");
    const isPointed = pointed !== null && pointed < times.length;
    return element("figure", { class: "chart" },
        element("figcaption", {}, isPointed ? element("span", {}, MOMENT.format(times[pointed] * 1000)) : title,
            element("span", { class: "legend" }, ...lines.map(({ label, colour, values }) => element("span", {},
                element("i", { class: `swatch ${colour.slice(2)}` }), label,
                isPointed && element("b", {}, ` ${show(values[pointed], unit)}`))))),
        element("div", { ref: place, role: "img", "aria-label": `${title}, at last: ${last}` }));
}

function showLast(values, unit) {
    return show(values.findLast((value) => value !== null), unit);
}

const show = (value, unit) => value === undefined || value === null ? "–" : unit(Math.round(value * 1000) / 1000);

/** Points without a line to them. */
function lonely(plot, index) {
    const values = plot.data[index];
    const isThere = (place) => values[place] !== null && values[place] !== undefined;
    return values.map((_, place) => place).filter((place) => isThere(place) && !isThere(place - 1) && !isThere(place + 1));
}

/** A colour of look.css for the canvas: the browser computes it for this theme. */
function resolve(place, name) {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    place.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
}

const HOURS = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const DAYS = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** The times below a chart: times of day, or days if there are more than two. */
function clock(_, all) {
    const format = all.at(-1) - all[0] > 36 * 3600 ? DAYS : HOURS;
    return all.map((time) => format.format(new Date(time * 1000)));
}

function options(place, lines, unit, point) {
    const axis = {
        font: `12px ${getComputedStyle(place).fontFamily}`,
        stroke: resolve(place, "--dim"),
        grid: { stroke: resolve(place, "--line"), width: 1 },
        ticks: { show: false },
    };
    return {
        width: place.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "charts" } },
        hooks: { setCursor: [(plot) => point(plot.cursor.idx ?? null)] },
        scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        axes: [
            { ...axis, size: 28, space: 70, values: clock },
            { ...axis, size: 58, values: (_, all) => all.map((value) => unit(value)) },
        ],
        series: [{}, ...lines.map(({ label, colour, isFilled }) => ({
            label,
            stroke: resolve(place, colour),
            fill: isFilled ? `color-mix(in srgb, ${resolve(place, colour)} 18%, transparent)` : undefined,
            width: 1.5,
            spanGaps: false,
            points: { show: true, size: 5, filter: lonely },
        }))],
    };
}
