// The page for unknown addresses.

import { empty, link } from "../kit.js";

export const page = {
    title: () => "Nothing is here",
    render: () => empty("Page not found", "The dashboard has no page at this address.", link("/", "To the overview")),
};
