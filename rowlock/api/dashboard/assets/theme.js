// Light or dark: as the system has it, unless somebody chose. Runs before the page is painted.

(() => {
    const chosen = localStorage.getItem("rowlock-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
