// The acts on a worker: quiet, resume, stop, scale.

import { api, ask, button, element, field, line, may } from "../kit.js";

/** Whether it takes jobs. */
export function doing(worker) {
    if (worker.state === "running") return "running";
    const title = worker.state === "quiet" ? "It claims no new jobs until it is resumed" : "It ends after its jobs";
    return element("span", { class: "badge warning", title }, worker.state);
}

/** The buttons of one worker that this session may use; `done` is called after each act. */
export function workerButtons(worker, done) {
    const options = { about: `${worker.hostname} ${worker.pid}`, done };
    const { state } = worker;
    return element("div", { class: "acts" },
        may("operate") && state === "running" && button("Quiet", () => quiet(worker), options),
        may("operate") && state === "quiet" && button("Resume", () => resume(worker), options),
        may("operate") && state !== "stopping" && button("Stop", () => stop(worker), options),
        may("admin") && button("Scale", () => scale(worker), options));
}

const name = (worker) => element("strong", {}, `${worker.hostname} · ${worker.pid}`);

function quiet(worker) {
    return ask({
        title: "Quiet this worker?",
        body: [element("p", {}, name(worker), " claims no new jobs until it is resumed. Running jobs continue.")],
        action: "Quiet",
        perform: () => api.post(`/v1/workers/${worker.id}/quiet`),
    });
}

function resume(worker) {
    return ask({
        title: "Resume this worker?",
        body: [element("p", {}, name(worker), " takes jobs again at once.")],
        action: "Resume",
        perform: () => api.post(`/v1/workers/${worker.id}/resume`),
    });
}

function stop(worker) {
    return ask({
        title: "Stop this worker?",
        body: [element("p", {}, name(worker), " takes no new jobs, and ends once those that it runs have ended, or its grace "
            + "period is over. It cannot be resumed, and its supervisor does not replace it.")],
        action: "Stop",
        perform: () => api.post(`/v1/workers/${worker.id}/stop`),
    });
}

function scale(worker) {
    return ask({
        title: `Scale ${worker.hostname}`,
        body: [field("Jobs at once", "concurrency", line(worker.concurrency, { inputMode: "numeric" }),
            "As long as the worker lives. A lower number stops no running job.")],
        action: "Scale",
        perform: ({ concurrency }) => api.post(`/v1/workers/${worker.id}/scale`, { concurrency: Number(concurrency) }),
    });
}
