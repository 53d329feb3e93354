"""The page at /docs: the document as people read it, and requests sent from it."""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import BrowserContext, Page, expect

from rowlock import Rowlock
from rowlock.api import create_app, nobody_is_asked
from tests.browser.watching import Watch


async def _ask_for_the_queues(page: Page) -> None:
    await expect(page.get_by_role("heading", name="Rowlock")).to_be_visible()
    operation = page.locator("#operations-queues-list_queues")
    await operation.get_by_role("button", name="get").first.click()
    await operation.get_by_role("button", name="Execute").click()
    await expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    await expect(operation.locator(".live-responses-table").last).to_contain_text('"queues"')


async def test_document_is_shown_and_requests_are_sent_from_it(page: Page) -> None:
    await page.goto("/docs")
    await _ask_for_the_queues(page)


async def test_requests_go_to_where_the_api_is_mounted(app: Rowlock, context: BrowserContext, watch: Watch) -> None:
    site = web.Application()
    site.add_subapp("/queue", create_app(app, authenticate=nobody_is_asked))
    async with TestServer(site) as server:
        watch.origin = str(server.make_url("")).rstrip("/")
        page = await context.new_page()
        await page.goto(str(server.make_url("/queue/docs")))
        await _ask_for_the_queues(page)
