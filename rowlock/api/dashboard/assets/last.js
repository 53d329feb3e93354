// What was shown last in this tab: figures, and who was logged in, for when the server cannot say. Gone with the session.

const PREFIX = "rowlock-last:";

/** Keep a value under this name. Where the browser keeps nothing, it is as if nothing had been shown. */
export function keep(name, value) {
    try {
        sessionStorage.setItem(PREFIX + name, JSON.stringify({ at: Date.now(), value }));
    } catch {
        // full, or not allowed
    }
}

/** What was kept: `{at, value}`, or null. */
export function kept(name) {
    try {
        return JSON.parse(sessionStorage.getItem(PREFIX + name));
    } catch {
        return null;
    }
}

/** Forget all of it. */
export function forget() {
    for (const name of Object.keys(sessionStorage)) if (name.startsWith(PREFIX)) sessionStorage.removeItem(name);
}
