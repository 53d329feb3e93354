"""Texts that would do something in a page that takes them for more than texts, and what shows that one did."""

from __future__ import annotations

import re
from typing import Final

from playwright.async_api import Page

from tests.browser.watching import MARKER

_CALL = f"{MARKER}(1)"

SMUGGLED: Final = "smuggled"
"""The class of every element that these texts try to make."""

TEXTS: Final = {
    "script": f"<script class={SMUGGLED}>{_CALL}</script>",
    "end of script": f"</script><script class={SMUGGLED}>{_CALL}</script>",
    "end of title": f"</title></textarea></style><b class={SMUGGLED}>x</b>",
    "comment": f"--><b class={SMUGGLED}>x</b><!--",
    "handler": f"<img class={SMUGGLED} src=x onerror={_CALL}>",
    "handler in an attribute": f'" class="{SMUGGLED}" autofocus onfocus="{_CALL}" x="',
    "handler in a quoted attribute": f"' class='{SMUGGLED}' onmouseover='{_CALL}' x='",
    "details": f"<details class={SMUGGLED} open ontoggle={_CALL}>x</details>",
    "svg": f"<svg class={SMUGGLED} onload={_CALL}><animate onbegin={_CALL} attributeName=x dur=1s></svg>",
    "svg script": f"<svg class={SMUGGLED}><script>{_CALL}</script></svg>",
    "math": f"<math class={SMUGGLED}><mtext><img src=x onerror={_CALL}></mtext></math>",
    "frame": f'<iframe class={SMUGGLED} srcdoc="<script>parent.{_CALL}</script>"></iframe>',
    "object": f'<object class={SMUGGLED} data="data:text/html,<script>{_CALL}</script>"></object>',
    "base": f'<base class={SMUGGLED} href="http://elsewhere.example/">',
    "refresh": f'<meta class={SMUGGLED} http-equiv=refresh content="0;url=http://elsewhere.example/">',
    "form": f'<form class={SMUGGLED} action="http://elsewhere.example/"><button>x</button></form>',
    "style": f"<style class={SMUGGLED}>* {{ display: none !important }}</style>",
    "css": "}</style>*{background:url(http://elsewhere.example/css)}",
    "css value": "red;background:url(//elsewhere.example/css)",
    "javascript link": f"javascript:{_CALL}",
    "javascript link in disguise": f"JaVaScRiPt:{_CALL}//",
    "data link": f"data:text/html,<script>{_CALL}</script>",
    "html link": f'<a class={SMUGGLED} href="javascript:{_CALL}">x</a>',
    "foreign link": "//elsewhere.example/path",
    "entities": f"&lt;b class={SMUGGLED}&gt; &amp;amp; &#60;script&#62; &nbsp;",
    "template": "{{constructor.constructor('" + _CALL + "')()}} ${" + _CALL + "} #{7*7} <%= 7*7 %> [[7*7]]",
    "template literal": "`${" + _CALL + "}`",
    "json": '"}];' + _CALL + ";[{",
    "json end": "\\u003cscript\\u003e " + "\\x3cscript\\x3e",
    "prototype": "__proto__",
    "constructor": "constructor",
    "right to left": "invoice\u202efdp.exe\u202c and \u2067more\u2069",
    "invisible": "zero\u200bwidth\u200djoiner\ufeffmark",
    "separators": "line\u2028paragraph\u2029end",
    "control characters": "bell\x07escape\x1b[31mred\x1b[0m delete\x7f",
    "astral": "𝕏 👩\u200d👩\u200d👧 e\u0301\u0301\u0301",
    "percent": "%3Cscript%3E %s %n %00",
    "path": "../../../etc/passwd",
    "query": "x?y=1&z=2#fragment",
    "sql": "'; DROP TABLE rowlock.job; --",
}
"""By what they try. PostgreSQL stores no NUL: there is none in any field."""

LONG: Final = "W" * 50_000 + f"<b class={SMUGGLED}>long</b>" + "w" * 50_000

SHORT: Final = [f"<b class={SMUGGLED}>", f"<img onerror={_CALL}>", f"javascript:{_CALL}", "__proto__", "a b&c?d=/#%2e"]
"""What fits into a name."""

ALL: Final = "\n".join(TEXTS.values())
"""All of them, a line each."""

_LINES: Final = "text => text.replaceAll(/[\\s\\u200b\\u200d\\u2028\\u2029\\ufeff]+/g, ' ')"
_SHOWN: Final = f"""(wanted) => {{
    const plain = {_LINES};
    const fields = [...document.querySelectorAll("input, textarea")].map((field) => field.value);
    const shown = plain([document.body.innerText, ...fields].join(" "));
    const ways = (text) => [text, JSON.stringify(text).slice(1, -1)];
    return wanted.filter((text) => !ways(text).some((way) => shown.includes(plain(way).trim())));
}}"""
_MADE: Final = f"""() => {{
    const made = [...document.querySelectorAll(".{SMUGGLED}, iframe, object, embed, base, form[action^=http]")];
    for (const element of document.querySelectorAll("*")) {{
        for (const {{name, value}} of element.attributes) {{
            const isCode = name.startsWith("on") || /^\\s*(javascript|data:text)/i.test(value) && name !== "value"
                && name !== "title" && !name.startsWith("aria-") && !name.startsWith("data-");
            const isForeign = ["href", "src", "action"].includes(name) && element[name] !== ""
                && !/^data:image|^#/.test(value) && new URL(value, location.href).origin !== location.origin;
            if (isCode || isForeign) made.push(element);
        }}
    }}
    return made.map((element) => element.outerHTML.slice(0, 200));
}}"""


def plain(text: str) -> str:
    """The text as it is shown: with the names of the characters that would turn it around."""
    return re.sub("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


async def not_shown(page: Page, texts: list[str]) -> list[str]:
    """Those of the texts that cannot be read on the page, letter by letter, or as JSON has them, but for spaces."""
    missing: list[str] = await page.evaluate(_SHOWN, texts)
    return missing


async def made_of_texts(page: Page) -> list[str]:
    """The elements of the page that no dashboard has: made by a text, running a text, or leading elsewhere."""
    made: list[str] = await page.evaluate(_MADE)
    return made
