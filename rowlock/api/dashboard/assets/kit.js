// All parts for pages.

export { api, currentSession, may, parseExactly, Problem } from "./api.js";
export { Chart, charts, figures, Numbers } from "./charts.js";
export { ask } from "./dialog.js";
export { ago, attempts, bytes, count, moment, now, parseKeep, seconds, showKeep } from "./formats.js";
export {
    button, choice, empty, facts, field, filters, json, line, link, notify, pager, panel, parseJson, state, table,
} from "./parts.js";
export { go, here } from "./places.js";
export { Copy, Id, Tree } from "./values.js";
export { h as element } from "./vendor/preact.js";
export { useEffect, useRef, useState } from "./vendor/preact-hooks.js";
