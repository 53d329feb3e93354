// The formats of numbers and times.

import { h as element } from "./vendor/preact.js";

const NUMBER = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };

/** How many milliseconds the server's clock is ahead of this one, if more than a request takes. */
let ahead = 0;

export function setClock(date) {
    const by = Date.parse(date) - Date.now();
    ahead = Math.abs(by) > 3000 ? by : 0;
}

/** The time now, in milliseconds, by the server's clock. */
export const now = () => Date.now() + ahead;

export const count = (number) => NUMBER.format(number);

export function bytes(number) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, number)) / 3));
    return `${SHORT.format(number / 1000 ** power)} ${units[power]}`;
}

/** A duration in seconds, in its two largest units. */
export function seconds(duration) {
    if (duration === null || duration === undefined) return "–";
    if (duration < 0.9995) return `${SHORT.format(duration * 1000)} ms`;
    if (duration < 59.95) return `${SHORT.format(duration)} s`;
    const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    const first = parts.findIndex(([, length]) => duration >= length);
    let rest = Math.round(duration);
    return parts.slice(first, first + 2).map(([unit, length]) => {
        const whole = Math.floor(rest / length);
        rest -= whole * length;
        return whole > 0 || unit === parts[first][0] ? `${whole} ${unit}` : "";
    }).filter(Boolean).join(" ");
}

/** A time in the local time zone. */
export function moment(iso) {
    if (iso === null || iso === undefined) return "–";
    return element("time", { dateTime: iso, title: iso }, MOMENT.format(new Date(iso)));
}

/** How long ago a time was, or how soon it will be; `plain`: how long it has been. */
export function ago(iso, { plain = false } = {}) {
    if (iso === null || iso === undefined) return "–";
    const passed = (now() - Date.parse(iso)) / 1000;
    const whole = Math.max(1, Math.round(Math.abs(passed)));
    const long = Math.abs(passed) < 1 && !plain ? null : seconds(whole < 60 ? whole : whole - whole % 60);
    const text = long === null ? "now" : plain ? long : passed > 0 ? `${long} ago` : `in ${long}`;
    return element("time", { dateTime: iso, title: MOMENT.format(new Date(iso)) }, text);
}

/** The number of the attempt, of how many; without the limit after a retry, a snooze or a crash, which use none up. */
export function attempts(job) {
    return job.attempt > job.max_attempts ? count(job.attempt) : `${job.attempt} of ${job.max_attempts}`;
}

/** A retention in the form that people write: 12h, 30d, forever, or default. */
export function showKeep(kept) {
    if (kept === null) return "default";
    if (typeof kept !== "number") return kept;
    const [unit, length] = Object.entries(UNITS).reverse().find(([, one]) => kept % one === 0) ?? ["s", 1];
    return `${kept / length}${unit}`;
}

/** A retention in the API's form: seconds, or a word. */
export function parseKeep(text) {
    const match = /^(\d+(?:\.\d+)?)\s*([smhdw]?)$/.exec(text.trim());
    if (match !== null) return Number(match[1]) * UNITS[match[2] || "s"];
    return text.trim() || "default";
}
