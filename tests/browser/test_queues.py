"""The pages of the queues."""

from __future__ import annotations

import re

import asyncpg
from playwright.async_api import Page, expect

from rowlock import Rowlock
from tests.browser.visiting import confirm, fact, row, shows, visit


async def test_queues_are_listed_paused_resumed_and_limited(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    await app.enqueue("add", {"x": 1})
    await app.enqueue("add", {"x": 1}, delay=60)
    await visit(page, "/queues", "Queues")
    cells = row(page, "sums").get_by_role("cell")
    await expect(cells).to_have_text(
        ["sums", "no worker", "1", re.compile("now|ago"), "0", "1", "0", "0", "–", "PauseLimit"]
    )

    await page.get_by_role("button", name="Pause sums").click()
    await expect(page.get_by_role("dialog")).to_contain_text("No job of sums starts until it is resumed")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert await connection.fetchval("SELECT count(paused_at) FROM rowlock.queue") == 0
    await page.get_by_role("button", name="Pause sums").click()
    await confirm(page, "Pause")
    await expect(row(page, "sums")).to_contain_text("paused")
    assert await connection.fetchval("SELECT paused_at FROM rowlock.queue WHERE name = 'sums'") is not None

    await page.get_by_role("button", name="Limit sums").click()
    limit = page.get_by_role("textbox", name="Jobs at once in each worker")
    await limit.fill("0")
    await page.get_by_role("button", name="Set the limit").click()
    await expect(limit).to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_role("dialog").get_by_role("alert").filter(has_text="concurrency")).to_be_visible()
    await limit.fill("7")
    await confirm(page, "Set the limit")
    await expect(cells.nth(8)).to_have_text("7")
    assert await connection.fetchval("SELECT concurrency FROM rowlock.queue WHERE name = 'sums'") == 7

    await page.get_by_role("button", name="Resume sums").click()
    await confirm(page, "Resume")
    await expect(row(page, "sums")).not_to_contain_text("paused")
    verbs = await connection.fetch("SELECT verb FROM rowlock.operation ORDER BY id")
    assert [verb["verb"] for verb in verbs] == ["pause", "scale", "resume"]


async def test_page_of_a_queue_leads_to_its_jobs_and_says_how_long_they_are_kept(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    await app.enqueue("add", {"x": 1})
    await visit(page, "/queues", "Queues")
    await page.get_by_role("link", name="sums").click()
    await shows(page, "Queue sums")
    assert await fact(page, "Waiting") == "1"
    assert await fact(page, "failed") == "by the default"
    await expect(page.get_by_role("link", name="failed")).to_have_attribute("href", "#/jobs?queue=sums&state=failed")

    await page.get_by_role("button", name="Change how long").click()
    failed = page.get_by_role("textbox", name="Jobs that failed")
    await failed.fill("5 minutes")
    await page.get_by_role("button", name="Keep so long").click()
    await expect(page.get_by_role("dialog").get_by_role("alert").filter(has_text="failed")).to_be_visible()
    await failed.fill("36h")
    await page.get_by_role("textbox", name="Jobs that succeeded").fill("forever")
    await confirm(page, "Keep so long")
    await expect(page.locator("dl.facts").filter(has_text="forever")).to_contain_text("36h")
    kept = await connection.fetchrow("SELECT keep_failed, keep_cancelled FROM rowlock.queue WHERE name = 'sums'")
    assert kept is not None
    assert (kept["keep_failed"].total_seconds(), kept["keep_cancelled"]) == (36 * 3600, None)


async def test_without_queues_the_page_says_how_to_get_one(page: Page) -> None:
    await visit(page, "/queues", "Queues")
    await expect(page.get_by_role("heading", name="There are no queues yet")).to_be_visible()
    await expect(page.get_by_text("start a worker with rowlock worker")).to_be_visible()
