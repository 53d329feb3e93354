// The addresses of pages: `#/queues/email?window=24h` is a path and a query, wherever the dashboard is mounted.

/** The path and the query of an address; by default, the current one. */
export function here(hash = location.hash) {
    const [path, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
    return { path: path || "/", query: new URLSearchParams(query) };
}

export function go(path) {
    location.hash = path;
}

/** The parameters of a path that matches the pattern (`/queues/{queue}`), or null. */
export function match(pattern, path) {
    const wanted = pattern.split("/");
    const given = path.split("/");
    if (wanted.length !== given.length) return null;
    const params = {};
    for (const [place, part] of wanted.entries()) {
        if (!part.startsWith("{")) {
            if (part !== given[place]) return null;
            continue;
        }
        try {
            params[part.slice(1, -1)] = decodeURIComponent(given[place]);
        } catch {
            return null;
        }
    }
    return params;
}
