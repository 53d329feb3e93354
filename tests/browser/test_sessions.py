"""Logging in and out, and what a key that allows less is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from playwright.async_api import BrowserContext, Page, expect

from rowlock import JobFailed, Rowlock
from rowlock.api import create_app
from tests.browser.visiting import barriers, fits, row, shows, visit

HARMLESS = {"Filter", "Try again", "Copy", "Log out", "Close", "{", "["}


@pytest_asyncio.fixture(loop_scope="session")
async def site(app: Rowlock) -> AsyncIterator[str]:
    """The dashboard as it is by default: somebody must log in."""
    async with TestServer(create_app(app)) as server:
        yield str(server.make_url("/")).rstrip("/")


async def _log_in(page: Page, key: str) -> None:
    await page.goto("/")
    await page.get_by_label("Key", exact=True).fill(key)
    await page.keyboard.press("Enter")
    await shows(page, "Overview")


async def test_one_logs_in_by_keyboard_and_out_again(
    page: Page, context: BrowserContext, app: Rowlock, connection: asyncpg.Connection
) -> None:
    key = await app.keys.create("ada", scopes=["admin"])
    await page.goto("/#/queues")
    field = page.get_by_label("Key", exact=True)
    await expect(field).to_be_focused()
    assert await fits(page)
    assert not await barriers(page)
    await page.keyboard.type("rowlock_nothing")
    await page.keyboard.press("Enter")
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_text("This key is unknown")).to_be_visible()
    await field.fill(key.text)
    await page.keyboard.press("Enter")
    await shows(page, "Queues")
    await expect(page.get_by_role("banner")).to_contain_text("ada")
    (cookie,) = await context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert key.text not in await page.evaluate(
        "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])"
    )
    assert key.text not in cookie["value"]

    await app.enqueue("add", {"x": 1})
    await page.get_by_role("button", name="Pause sums").click()
    await page.keyboard.press("Enter")
    await expect(row(page, "sums")).to_contain_text("paused")
    assert await connection.fetchval("SELECT by FROM rowlock.operation WHERE verb = 'pause'") == "ada"

    await page.get_by_role("button", name="Log out").click()
    await expect(field).to_be_visible()
    await page.reload()
    await expect(field).to_be_visible()
    assert await connection.fetchval("SELECT count(*) FROM rowlock.api_session WHERE expires_at > now()") == 0


async def test_session_that_has_ended_leads_to_the_login_and_back(page: Page, app: Rowlock) -> None:
    key = await app.keys.create("ada", scopes=["read"])
    await _log_in(page, key.text)
    await visit(page, "/workers", "Workers")
    await app.keys.revoke("ada")
    await expect(page.get_by_label("Key", exact=True)).to_be_visible()
    other = await app.keys.create("grace", scopes=["read"])
    await page.get_by_label("Key", exact=True).fill(other.text)
    await page.keyboard.press("Enter")
    await shows(page, "Workers")


async def test_key_that_may_only_read_is_shown_everything_and_no_button_that_acts(
    page: Page, app: Rowlock, worker: None
) -> None:
    key = await app.keys.create("reader", scopes=["read"])
    failed = await app.enqueue("explode", {"how": "fail"})
    running = await app.enqueue("wait_for_release")
    await app.schedules.create(name="hourly", task="add", cron="@hourly", args={"x": 1})
    with pytest.raises(JobFailed):
        await failed.result(timeout=10)
    (live,) = await app.workers.list()
    await _log_in(page, key.text)
    for path, title in (
        ("/", "Overview"),
        ("/jobs", "Jobs"),
        (f"/jobs/{failed.id}", "explode"),
        (f"/jobs/{running.id}", "wait_for_release"),
        ("/queues", "Queues"),
        ("/queues/default", "Queue default"),
        ("/workers", "Workers"),
        (f"/workers/{live.id}", f"Worker {live.hostname}"),
        ("/schedules", "Schedules"),
        ("/schedules/hourly", "Schedule hourly"),
        ("/dead-letters", "Dead letters"),
        ("/operations", "Operations"),
    ):
        await visit(page, path, title)
        buttons = await page.get_by_role("main").get_by_role("button").all_inner_texts()
        names = {name.strip() for name in buttons} - {""}
        assert names <= HARMLESS, (path, names)
        await expect(page.get_by_role("alert")).to_have_count(0)


async def test_key_that_may_operate_is_offered_no_deletion(page: Page, app: Rowlock, worker: None) -> None:
    key = await app.keys.create("ada", scopes=["operate"])
    done, later = await app.enqueue("echo"), await app.enqueue("echo", delay=3600)
    await done.result(timeout=10)
    await _log_in(page, key.text)
    await visit(page, f"/jobs/{later.id}", "echo")
    await expect(page.get_by_role("button", name="Run now")).to_be_visible()
    await visit(page, f"/jobs/{done.id}", "echo")
    await expect(page.get_by_role("button", name="Run again")).to_be_visible()
    await expect(page.get_by_role("button", name="Delete for good")).to_have_count(0)


async def test_key_of_one_queue_is_shown_that_queue_and_told_what_it_may_not_see(page: Page, app: Rowlock) -> None:
    key = await app.keys.create("sums", scopes=["operate"], queues=["sums"])
    await app.enqueue("add", {"x": 1})
    hidden = await app.enqueue("echo")
    await _log_in(page, key.text)
    await visit(page, "/queues", "Queues")
    await expect(page.get_by_role("row")).to_have_count(2)
    await expect(page.get_by_role("button", name="Pause sums")).to_be_visible()
    await expect(page.get_by_role("button", name="Limit")).to_have_count(0)
    await page.get_by_role("link", name="sums").click()
    await shows(page, "Queue sums")
    await expect(page.get_by_role("alert")).to_have_count(0)
    await page.goto(f"/#/jobs/{hidden.id}")
    await expect(page.get_by_role("alert")).to_contain_text("There is no job")
    await page.goto("/#/workers")
    await expect(page.get_by_role("alert")).to_contain_text("limited to queues")


async def test_sections_that_a_key_may_not_see_are_not_offered(page: Page, app: Rowlock) -> None:
    limited = await app.keys.create("limited", scopes=["read"], queues=["sums"])
    await _log_in(page, limited.text)
    links = page.get_by_role("navigation", name="Sections").get_by_role("link")
    if not await links.first.is_visible():
        await page.get_by_role("button", name="Menu").click()
    await expect(links).to_have_text(["Overview", "Jobs", "Queues", "Dead letters"])
