// The HTTP API, which is all that the dashboard has: requests, problems, and what this session may do.

/** What the API refused, or could not do: `status` (0: it did not answer), `field` (which part of the request), `message`. */
export class Problem extends Error {
    constructor(status, detail, field = null) {
        super(detail);
        this.name = "Problem";
        this.status = status;
        this.field = field;
    }
}

async function request(method, path, body, signal) {
    let response;
    try {
        response = await fetch(path.replace(/^\//, ""), {
            method,
            signal,
            headers: body === undefined ? {} : { "Content-Type": "application/json" },
            body: body === undefined ? undefined : JSON.stringify(body),
        });
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Problem(0, "The server does not answer. Look whether rowlock api still runs, and at the network.");
    }
    if (response.status === 204) return null;
    let answer;
    try {
        answer = await response.json();
    } catch {
        throw new Problem(response.status, `The server answered with status ${response.status}, and no JSON.`);
    }
    if (!response.ok) throw new Problem(response.status, answer.detail ?? answer.title, answer.field ?? null);
    return answer;
}

export const api = {
    get: (path, { signal } = {}) => request("GET", path, undefined, signal),
    post: (path, body) => request("POST", path, body),
    put: (path, body) => request("PUT", path, body),
    patch: (path, body) => request("PATCH", path, body),
    remove: (path) => request("DELETE", path),
};

const INCLUDED = { operate: ["operate", "read"], admin: ["read", "enqueue", "operate", "admin"] };
let session = null;

/** Who is logged in, and what they may do; null while nobody is. */
export const whoever = () => session;

/** Ask who is logged in. Throws a `Problem` of status 401 if somebody must log in first. */
export async function readSession() {
    session = null;
    try {
        session = await api.get("/v1/session");
    } catch (problem) {
        if (problem.status !== 404) throw problem;
        session = { by: null, scopes: ["admin"], queues: null, expires_at: null, is_open: true };
    }
    return session;
}

/** Whether this session may do what needs this scope. The server checks it again. */
export function may(scope) {
    return session !== null && session.scopes.some((given) => (INCLUDED[given] ?? [given]).includes(scope));
}
