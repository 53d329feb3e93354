// Light or dark: the system's setting, unless the user chose. Runs before the page is painted.

(() => {
    const chosen = localStorage.getItem("rowlock-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
