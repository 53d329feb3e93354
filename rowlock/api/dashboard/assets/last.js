// The last figures and session of this tab, for when the server does not answer. Gone with the browser's session.

const PREFIX = "rowlock-last:";

/** Keep a value under this name. If the browser stores nothing, nothing is kept. */
export function keep(name, value) {
    try {
        sessionStorage.setItem(PREFIX + name, JSON.stringify({ at: Date.now(), value }));
    } catch {
        // full, or not allowed
    }
}

/** The kept value: `{at, value}`, or null. */
export function kept(name) {
    try {
        return JSON.parse(sessionStorage.getItem(PREFIX + name));
    } catch {
        return null;
    }
}

/** Forget all kept values. */
export function forget() {
    for (const name of Object.keys(sessionStorage)) if (name.startsWith(PREFIX)) sessionStorage.removeItem(name);
}
