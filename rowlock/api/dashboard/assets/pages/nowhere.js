// What is shown where there is no page.

import { empty, link } from "../kit.js";

export const page = {
    title: () => "Nothing is here",
    render: () => empty("There is no such page", "The address is not one of the dashboard's.", link("/", "To the overview")),
};
