// Text in its stored order: characters that would change the direction of the text after them are made visible.

import { options } from "./vendor/preact.js";

/** The controls of the bidirectional algorithm (Unicode, annex 9). */
const CONTROLS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const SPOKEN = ["title", "aria-label"];

const plain = (text) => text.replace(CONTROLS, (one) => `⟨U+${one.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

const before = options.vnode;
options.vnode = (vnode) => {
    if (vnode.type === null && typeof vnode.props === "string") vnode.props = plain(vnode.props);
    if (typeof vnode.type === "string") {
        for (const name of SPOKEN) {
            if (typeof vnode.props[name] === "string") vnode.props[name] = plain(vnode.props[name]);
        }
    }
    before?.(vnode);
};
