"""What every browser test fails on, tried on a site that does all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page

from tests.browser.corpus import TEXTS, made_of_texts, not_shown
from tests.browser.visiting import barriers, fits
from tests.browser.watching import MARKER, Watch
from tests.waiting import eventually

_PAGE = """<!doctype html><meta charset=utf-8><title>x</title><link rel=icon href=data:,>
<script>%s</script>"""

_MISDEEDS = {
    "console error: broken": 'console.error("broken")',
    "console warning: odd": 'console.warn("odd")',
    "uncaught: Error: thrown": 'setTimeout(() => { throw new Error("thrown") })',
    "uncaught: Error: rejected": 'Promise.reject(new Error("rejected"))',
    "left the server: GET http://elsewhere.example/x.png": 'new Image().src = "http://elsewhere.example/x.png"',
    "left the server: GET http://127.0.0.1:9/": 'fetch("http://127.0.0.1:9/").catch(() => {})',
    "left the server: POST http://elsewhere.example/beacon": 'navigator.sendBeacon("http://elsewhere.example/beacon")',
    "left the server: GET http://elsewhere.example/style.css": (
        'document.head.append(Object.assign(document.createElement("link"),'
        '{rel: "stylesheet", href: "http://elsewhere.example/style.css"}))'
    ),
    "left the server: GET http://elsewhere.example/icon": (
        'document.querySelector("[rel=icon]").href = "http://elsewhere.example/icon"'
    ),
    "opened a web socket: ws://elsewhere.example/": 'new WebSocket("ws://elsewhere.example/")',
    "status 500: GET": 'fetch("/broken")',
    "/missing": 'fetch("/missing")',
    "A script of a job was called: 1": f"{MARKER}(1)",
}


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[str]:
    async def show(request: web.Request) -> web.Response:
        return web.Response(text=_PAGE % request.query.get("do", ""), content_type="text/html")

    async def strict(request: web.Request) -> web.Response:
        response = await show(request)
        response.headers["Content-Security-Policy"] = "default-src 'self'; img-src data:"
        return response

    async def broken(request: web.Request) -> web.Response:
        return web.Response(status=500)

    async def refused(request: web.Request) -> web.Response:
        return web.Response(status=404)

    app = web.Application()
    app.add_routes(
        [
            web.get("/", show),
            web.get("/strict", strict),
            web.get("/broken", broken),
            web.get("/v1/refused", refused),
        ]
    )
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


async def test_each_misdeed_of_a_page_fails_the_test(page: Page, watch: Watch) -> None:
    await page.goto("/")
    for script in _MISDEEDS.values():
        await page.evaluate(
            "text => { document.body.append(Object.assign(document.createElement('script'), {text})) }", script
        )

    def unnoticed() -> list[str]:
        return [misdeed for misdeed in _MISDEEDS if not any(misdeed in text for text in watch.complaints)]

    await eventually(lambda: not unnoticed())
    with pytest.raises(AssertionError, match="The browser has complained"):
        watch.verify()
    watch.tolerate("")


async def test_script_that_the_policy_forbids_fails_the_test(page: Page, watch: Watch) -> None:
    await page.goto(f"/strict?do={MARKER}(2)")
    await eventually(lambda: watch.complaints)
    assert any("CSP: script-src-elem forbids inline" in text for text in watch.complaints)
    assert not any("was called" in text for text in watch.complaints)
    watch.tolerate("")


async def test_text_has_a_font(page: Page) -> None:
    await page.set_content("<span id=narrow>iiiiii</span> <span id=wide>WWWWWW</span>")
    narrow, wide = [await page.locator(one).bounding_box() for one in ("#narrow", "#wide")]
    assert narrow is not None
    assert wide is not None
    assert 10 < narrow["width"] < wide["width"] / 2


async def test_refusal_of_the_api_is_none(page: Page, watch: Watch) -> None:
    await page.goto("/")
    assert await page.evaluate("fetch('/v1/refused').then(answer => answer.status)") == 404
    await page.evaluate("console.error('the last')")
    await eventually(lambda: watch.complaints)
    assert ["the last" in text for text in watch.complaints] == [True]
    watch.tolerate("")


async def test_what_the_tests_look_for_is_found_where_it_is(page: Page, watch: Watch) -> None:
    await page.goto("/")
    await page.set_content("<html lang=en><title>x</title><main><h1>x</h1><button></button><p style='color: #ccc'>pale")
    found = " ".join(await barriers(page))
    assert "button-name" in found
    assert "color-contrast" in found
    assert await fits(page)
    await page.set_content("<div style='width: 3000px'>wide</div>")
    assert not await fits(page)
    for name, text in TEXTS.items():
        assert await not_shown(page, [text]) == [text], name
    for name in ("details", "html link", "frame", "base", "form", "handler", "svg"):
        await page.set_content(f"<div>{TEXTS[name]}</div>")
        assert await made_of_texts(page), name
    watch.tolerate("")  # they did all that they can
