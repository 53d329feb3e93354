// The login: a key becomes a session, whose cookie no script can read. The page does not store the key.

import { forget } from "../last.js";
import { api, element, field, line, Problem, useState } from "../kit.js";

/** The login page; it calls `enter` after the login. */
export function Page({ enter }) {
    const [wrong, setWrong] = useState("");
    const [isBusy, setBusy] = useState(false);
    document.title = "Log in · Rowlock";
    const onSubmit = async (event) => {
        event.preventDefault();
        const input = event.currentTarget.elements.namedItem("key");
        setBusy(true);
        try {
            await api.post("/v1/session", { key: input.value.trim() });
            input.value = "";
            await enter();
        } catch (problem) {
            if (!(problem instanceof Problem)) throw problem;
            setWrong(problem.status === 401 ? "This key is unknown or has ended." : problem.message);
            input.select();
        } finally {
            setBusy(false);
        }
    };
    return element("main", { class: "login" },
        element("form", { class: "panel", onSubmit },
            element("div", { class: "brand" }, element("img", { src: "assets/icon.svg", alt: "" }), "Rowlock"),
            element("h1", {}, "Log in"),
            field("Key", "key", line("", {
                type: "password", required: true, autofocus: true, autocomplete: "current-password",
                "aria-invalid": wrong === "" ? null : "true",
            }), "Create one on the server: rowlock keys create", wrong),
            element("button", { type: "submit", class: "primary wide", disabled: isBusy }, isBusy ? "Logging in …" : "Log in")));
}

/** End the session. */
export async function leave() {
    await api.remove("/v1/session");
    forget();
}
