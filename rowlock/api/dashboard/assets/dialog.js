// The one dialog: it asks for confirmation, acts, and shows a problem at its field.

import { Problem } from "./api.js";
import { h as element, render } from "./vendor/preact.js";

/**
 * Ask for confirmation, then act: `perform` gets the values of the fields by name, and may throw a `Problem`,
 * which is shown at its field, or below all fields. A problem with the status of `remedy` is shown with the remedy's
 * button (`text`, `act`) instead, which ends the dialog. Resolves to whether the act was done.
 */
export function ask({ title, body, action, perform, isDanger = false, remedy = null }) {
    return new Promise((resolve) => {
        let isDone = false;
        const dialog = document.createElement("dialog");
        dialog.setAttribute("aria-labelledby", "dialog-title");
        /** Act, with the button disabled meanwhile, and close; or show the problem. */
        const attempt = async (form, pressed, act) => {
            clear(form);
            pressed.disabled = true;
            try {
                await act();
                dialog.close();
            } catch (error) {
                if (!(error instanceof Problem)) throw error;
                complain(form, error);
                if (remedy !== null) form.querySelector(".remedy").hidden = error.status !== remedy.status;
            } finally {
                pressed.disabled = false;
            }
        };
        const onSubmit = (event) => {
            event.preventDefault();
            const form = event.currentTarget;
            attempt(form, form.querySelector("[type=submit]"), async () => {
                await perform(Object.fromEntries(new FormData(form)));
                isDone = true;
            });
        };
        render(element("form", { onSubmit, novalidate: true },
            element("h2", { id: "dialog-title" }, title),
            ...body,
            element("p", { class: "wrong below", role: "alert" }),
            remedy !== null && element("button", {
                type: "button", class: "remedy", hidden: true,
                onClick: ({ currentTarget }) => attempt(currentTarget.form, currentTarget, remedy.act),
            }, remedy.text),
            element("div", { class: "acts" },
                element("button", { type: "button", onClick: () => dialog.close() },
                    action.startsWith("Cancel") ? "Back" : "Cancel"),
                element("button", { type: "submit", class: isDanger ? "danger" : "primary" }, action))), dialog);
        dialog.onclose = () => {
            render(null, dialog);
            dialog.remove();
            resolve(isDone);
        };
        document.body.append(dialog);
        dialog.showModal();
        dialog.querySelector(isDanger ? ".acts button" : "input, select, textarea, [type=submit]").focus();
    });
}

function clear(form) {
    for (const text of form.querySelectorAll(".wrong")) text.textContent = "";
    for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

/** Show a problem at its field, or below all fields. */
function complain(form, problem) {
    const input = problem.field === null ? null : form.elements.namedItem(problem.field);
    if (!(input instanceof HTMLElement)) {
        form.querySelector(".wrong.below").textContent = problem.message;
        return;
    }
    input.setAttribute("aria-invalid", "true");
    document.getElementById(`${input.id}-wrong`).textContent = problem.message;
    input.focus();
}
