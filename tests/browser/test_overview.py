"""The overview: numbers that follow, charts of a window of time, and what is wrong."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.async_api import Page, Route, expect

from rowlock import Rowlock
from tests.browser.visiting import row, visit

SEEN: Final = 90_000
"""How many milliseconds it may take: a reading that took long, as on a busy machine, will do for longer."""


@pytest.mark.slow
async def test_numbers_follow_what_happens(page: Page, app: Rowlock) -> None:
    await visit(page, "/", "Overview")
    scheduled = page.locator(".tile").filter(has_text="Scheduled")
    await expect(scheduled.locator("strong")).to_have_text("0")
    await app.enqueue("add", {"x": 1}, delay=3600)
    await expect(scheduled.locator("strong")).to_have_text("1", timeout=SEEN)
    await expect(row(page, "sums")).to_be_visible()
    await scheduled.click()
    await expect(page.get_by_role("row").filter(has_text="add")).to_be_visible()


async def test_window_of_the_charts_is_in_the_address(page: Page, app: Rowlock) -> None:
    await visit(page, "/", "Overview")
    await expect(page.get_by_role("heading", name="The last hour")).to_be_visible()
    await expect(page.locator(".chart canvas")).to_have_count(3)
    await page.get_by_role("link", name="7d").click()
    await expect(page.get_by_role("heading", name="The last 7 days")).to_be_visible()
    assert page.url.endswith("#/?window=7d")
    await page.go_back()
    await expect(page.get_by_role("heading", name="The last hour")).to_be_visible()


async def test_due_jobs_that_nobody_takes_are_told_with_the_reason(page: Page, app: Rowlock) -> None:
    await app.enqueue("add", {"x": 1}, queue="forgotten")
    async with app.worker(queues=["default"]):
        await visit(page, "/", "Overview")
        warning = page.locator(".panel.warning")
        await expect(warning).to_contain_text("1 due job is unclaimed")
        await expect(warning).to_contain_text("in forgotten")


async def test_cut_stream_is_told_and_the_numbers_are_asked_for(page: Page) -> None:
    async def cut(route: Route) -> None:
        await route.fulfill(status=429, content_type="application/problem+json", body="{}")

    await page.clock.install()
    await page.route("**/v1/events", cut)
    await visit(page, "/", "Overview")
    await page.clock.fast_forward(4000)
    await expect(page.get_by_text("Live updates are cut off")).to_be_visible()
    async with page.expect_request("**/v1/overview"):
        await page.clock.fast_forward(5000)
    await page.unroute("**/v1/events")
    await page.clock.fast_forward(15_000)
    await expect(page.get_by_text("Live updates are cut off")).to_have_count(0)
