// The client of the HTTP API, which is all that the dashboard uses: requests, problems, and the session's rights.

import { setClock } from "./formats.js";
import { forget, keep, kept } from "./last.js";

/** A refusal or failure of the API: `status` (0: no answer), `title`, `message`, and the invalid `field`. */
export class Problem extends Error {
    /** Whether it may end by itself after a while. */
    get isPassing() {
        return this.status === 0 || this.status === 429 || this.status >= 500;
    }

    constructor(status, detail, field = null, title = undefined) {
        super(detail);
        this.name = "Problem";
        this.status = status;
        this.field = field;
        this.title = title;
    }
}

async function request(method, path, body, { signal, exact, age, isTagged = false, tag = null } = {}) {
    let response;
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    if (age !== undefined) headers["Cache-Control"] = `max-age=${age}`;
    if (tag !== null) headers["If-Match"] = tag;
    try {
        response = await fetch(path.replace(/^\//, ""), {
            method,
            signal,
            headers,
            body: body === undefined ? undefined : JSON.stringify(body),
        });
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Problem(0, "The server does not answer. Check that rowlock api runs, and check the network.");
    }
    setClock(response.headers.get("Date"));
    if (response.status === 204) return null;
    let answer;
    try {
        const text = await response.text();
        answer = JSON.parse(text);
        if (exact !== undefined && response.ok) {
            const precise = parseExactly(text);
            for (const name of exact) answer[name] = precise[name];
        }
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Problem(response.status, `The server answered with status ${response.status}, and no JSON.`);
    }
    // A proxy that compresses makes a tag weak, and a weak tag never matches (RFC 9110, 13.1.1); the content is the same.
    if (isTagged && response.ok) answer.tag = response.headers.get("ETag")?.replace(/^W\//, "") ?? null;
    if (!response.ok) throw new Problem(response.status, answer.detail ?? answer.title, answer.field ?? null, answer.title);
    return answer;
}

/** JSON whose numbers keep their written form, if the browser can: 1.0, and numbers too long for JavaScript. */
export function parseExactly(text) {
    if (JSON.rawJSON === undefined) return JSON.parse(text);
    return JSON.parse(text, (_, value, { source }) => (
        typeof value === "number" && String(value) !== source ? JSON.rawJSON(source) : value
    ));
}

/**
 * `get` takes `exact`, the names of the members whose numbers keep their written form, and `age`, the accepted age of the
 * answer in seconds: the server then queries the database once for all readers of the same. With `isTagged`, the answer
 * has a `tag`; with it `patch` changes nothing if it was changed since it was read: a `Problem` of status 412.
 */
export const api = {
    get: (path, options) => request("GET", path, undefined, options),
    post: (path, body) => request("POST", path, body),
    put: (path, body) => request("PUT", path, body),
    patch: (path, body, options) => request("PATCH", path, body, options),
    remove: (path) => request("DELETE", path),
};

const INCLUDED = { operate: ["operate", "read"], admin: ["read", "enqueue", "operate", "admin"] };
let session = null;

/** The session's user and rights; null without a session. */
export const currentSession = () => session;

/**
 * Load the session. Throws a `Problem` of status 401 if a login is needed. While the server does not answer, it returns the
 * last session of this tab, if there was one, and `isOld`.
 */
export async function readSession() {
    let found;
    try {
        found = await api.get("/v1/session");
    } catch (problem) {
        const last = problem.isPassing ? kept("session") : null;
        if (last !== null) return session = { ...last.value, isOld: true };
        session = null;
        if (problem.status === 401) forget();
        if (problem.status !== 404) throw problem;
        found = { by: null, scopes: ["admin"], queues: null, expires_at: null, is_open: true };
    }
    const last = kept("session");
    if (last !== null && JSON.stringify([last.value.by, last.value.queues]) !== JSON.stringify([found.by, found.queues])) forget();
    keep("session", found);
    return session = found;
}

/** Whether this session has the scope. The server checks it again. */
export function may(scope) {
    return session !== null && session.scopes.some((given) => (INCLUDED[given] ?? [given]).includes(scope));
}
