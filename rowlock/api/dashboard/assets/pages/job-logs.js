// A job's logs, by level.

import { choice, Copy, element, empty, useState } from "../kit.js";

const LEVELS = ["debug", "info", "warning", "error", "critical"];
const SHOWN = 500;
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

export function Logs({ lines }) {
    const [level, setLevel] = useState("debug");
    const [all, setAll] = useState(false);
    if (lines.length === 0) return null;
    const found = lines.filter((line) => rank(line.level) >= LEVELS.indexOf(level));
    const shown = all ? found : found.slice(-SHOWN);
    return element("section", { class: "panel" },
        element("div", { class: "title" },
            element("h2", {}, "Logs"),
            element("div", { class: "acts" },
                element("label", { class: "for-readers", for: "level" }, "Level"),
                choice(LEVELS.map((name) => [name, name === "debug" ? "all levels" : `${name} and worse`]), level, {
                    id: "level", onChange: (event) => setLevel(event.target.value),
                }),
                element(Copy, { text: () => found.map(asText).join("\n"), about: "the logs" }))),
        found.length === 0
            ? empty("No line with this level", "Choose another one.")
            : element("div", { class: "logs", tabIndex: 0, role: "region", "aria-label": "Logs" },
                shown.length < found.length && element("button", { type: "button", class: "quiet", onClick: () => setAll(true) },
                    `Show ${found.length - shown.length} earlier lines`),
                element("ol", {}, ...shown.map((line, index) => element("li", { key: index, class: `level-${known(line.level)}` },
                    element("time", { dateTime: line.at, title: line.at }, CLOCK.format(new Date(line.at))),
                    element("span", { class: "level" }, line.level),
                    element("span", { class: "dim attempt", title: line.logger ?? "" }, `#${line.attempt}`),
                    element("span", { class: "said" }, line.text))))));
}

const known = (level) => LEVELS.includes(level) ? level : "info";
const rank = (level) => LEVELS.indexOf(known(level));
const asText = ({ at, level, logger, text }) => `${at} ${level} ${logger ?? ""} ${text}`;
