"""The login, and what a session that may not do everything is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from aiohttp.test_utils import TestServer
from playwright.async_api import BrowserContext, Page, expect

from rowlock import Rowlock
from rowlock.api import create_app
from tests.browser.visiting import barriers, fits, shows, visit


@pytest_asyncio.fixture(loop_scope="session")
async def site(app: Rowlock) -> AsyncIterator[str]:
    """A dashboard that asks for a key."""
    async with TestServer(create_app(app)) as server:
        yield str(server.make_url("/")).rstrip("/")


async def _log_in(page: Page, key: str) -> None:
    await page.get_by_label("Key").fill(key)
    await page.get_by_role("button", name="Log in").click()


async def test_key_opens_the_dashboard_and_logging_out_closes_it(
    page: Page, app: Rowlock, context: BrowserContext
) -> None:
    key = await app.keys.create("ada", scopes=["admin"])
    await page.goto("/#/queues")
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert await fits(page)
    assert not await barriers(page)
    await _log_in(page, "no such key")
    await expect(page.get_by_role("alert")).to_contain_text("This key is not known")
    await _log_in(page, key.text)
    await shows(page, "Queues")  # where one wanted to go
    await expect(page.get_by_role("banner")).to_contain_text("ada")
    assert await page.evaluate("document.cookie") == ""

    await page.reload()
    await shows(page, "Queues")
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert not [cookie for cookie in await context.cookies() if "session" in cookie.get("name", "")]


async def test_session_that_ends_leads_back_to_the_login(page: Page, app: Rowlock) -> None:
    key = await app.keys.create("ada", scopes=["read"])
    await page.goto("/#/queues")
    await _log_in(page, key.text)
    await shows(page, "Queues")
    await app.keys.revoke("ada")
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_what_a_session_may_not_do_has_no_button(page: Page, app: Rowlock) -> None:
    handle = await app.enqueue("add", {"x": 1}, delay=3600)
    key = await app.keys.create("ada", scopes=["read"])
    await page.goto("/")
    await _log_in(page, key.text)
    await shows(page, "Overview")
    await visit(page, "/jobs", "Jobs")
    await expect(page.get_by_role("row")).to_have_count(2)
    await expect(page.get_by_role("checkbox")).to_have_count(0)
    await expect(page.get_by_role("button", name="Enqueue a job")).to_have_count(0)
    await visit(page, f"/jobs/{handle.id}", "add")
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


async def test_key_for_one_queue_sees_that_alone(page: Page, app: Rowlock) -> None:
    await app.enqueue("add", {"x": 1}, delay=3600)
    other = await app.enqueue("echo", {"value": "other"}, delay=3600)
    key = await app.keys.create("ada", scopes=["operate"], queues=["sums"])
    await page.goto("/")
    await _log_in(page, key.text)
    await shows(page, "Overview")
    await expect(page.get_by_role("row").filter(has_text="sums")).to_be_visible()
    await expect(page.get_by_role("row").filter(has_text="default")).to_have_count(0)
    await page.goto(f"/#/jobs/{other.id}")
    await expect(page.get_by_role("alert")).to_contain_text("There is no such job")
