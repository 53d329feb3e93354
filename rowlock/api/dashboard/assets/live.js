// Live changes by server-sent events. While the stream is cut, pages poll.

const EVENTS = ["overview", "operation", "job"];
const FIRST = 1000;
const MOST = 15_000;

/**
 * Listen until the returned function is called. `tell(event, told)` for each event; `open(isOpen)` when the
 * stream opens, and when it is cut: then it reconnects by itself, at first soon.
 */
export function listen(path, { tell, open }) {
    let source = null;
    let timer = null;
    let pause = FIRST;
    const start = () => {
        source = new EventSource(path.replace(/^\//, ""));
        source.onopen = () => {
            pause = FIRST;
            open(true);
        };
        source.onerror = () => {
            source.close();
            open(false);
            timer = setTimeout(start, pause);
            pause = Math.min(2 * pause, MOST);
        };
        for (const name of EVENTS) {
            source.addEventListener(name, (event) => tell(name, JSON.parse(event.data)));
        }
    };
    start();
    return () => {
        clearTimeout(timer);
        source.close();
    };
}
