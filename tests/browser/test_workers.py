"""The pages of the workers."""

from __future__ import annotations

import re

import asyncpg
from playwright.async_api import Page, expect

from rowlock import Rowlock
from tests.browser.visiting import confirm, row, shows, visit


async def test_workers_are_listed_with_what_they_run_and_scaled(
    page: Page, app: Rowlock, connection: asyncpg.Connection, worker: None
) -> None:
    job = await app.enqueue("wait_for_release")
    await visit(page, "/workers", "Workers")
    await expect(page.get_by_role("row")).to_have_count(2)
    await expect(row(page, "of 10")).to_contain_text("1 of 10")
    await page.get_by_role("table").get_by_role("link").click()
    await shows(page, re.compile(r"Worker .+ · \d+"))
    await expect(page.get_by_role("link", name=str(job.id))).to_have_attribute("href", f"#/jobs/{job.id}")
    await expect(page.get_by_role("link", name="sums")).to_have_attribute("href", "#/queues/sums")
    await expect(page.get_by_role("link", name="echo")).to_have_attribute("href", "#/tasks/echo")

    await page.get_by_role("button", name="Scale").click()
    await page.get_by_role("textbox", name="Jobs at once").fill("many")
    await page.get_by_role("dialog").get_by_role("button", name="Scale").click()
    await expect(page.get_by_role("dialog").get_by_role("alert").filter(has_text="concurrency")).to_be_visible()
    await page.get_by_role("textbox", name="Jobs at once").fill("3")
    await confirm(page, "Scale")
    await expect(page.get_by_text("1 of 3")).to_be_visible()
    assert await connection.fetchval("SELECT concurrency FROM rowlock.worker") == 3


async def test_worker_stands_out_whose_lease_runs_out_or_whose_loop_is_blocked(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    await visit(page, "/workers", "Workers")
    await expect(page.get_by_role("heading", name="No worker is alive")).to_be_visible()
    await connection.executemany(
        "INSERT INTO rowlock.worker"
        " (id, hostname, pid, version, queues, tasks, concurrency, expires_at, loop_delay_ms)"
        " VALUES (rowlock.uuid7(), $1, 1, '1', '{}', '{}', 1, clock_timestamp() + $2 * '1 second'::interval, $3)",
        [("weak", 5, 3), ("well", 14, 3), ("blocked", 14, 900)],
    )
    await expect(row(page, "weak").locator(".badge.error")).to_contain_text("runs out in")
    await expect(row(page, "well").locator(".badge")).to_have_count(0)
    await expect(row(page, "blocked").locator(".badge.warning")).to_have_text("900 ms")


async def test_page_of_a_worker_that_is_gone_says_so(page: Page) -> None:
    await page.goto("/#/workers/01a206a6-57d0-7da3-8225-a4bfe63bd356")
    await expect(page.get_by_role("alert")).to_contain_text("No live worker has the id")
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()


async def test_a_worker_is_quieted_resumed_and_stopped_after_a_question(
    page: Page, app: Rowlock, connection: asyncpg.Connection, worker: None
) -> None:
    await visit(page, "/workers", "Workers")
    here = row(page, "of 10")
    await here.get_by_role("button", name="Quiet").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(here).to_contain_text("running")
    await here.get_by_role("button", name="Quiet").click()
    await confirm(page, "Quiet")
    await expect(here.locator(".badge.warning")).to_have_text("quiet")
    await page.get_by_label("Status").select_option("stopping")
    await expect(page.get_by_role("heading", name="No worker matches")).to_be_visible()
    await page.get_by_label("Status").select_option("quiet")
    await here.get_by_role("button", name="Resume").click()
    await confirm(page, "Resume")
    await page.get_by_label("Status").select_option("running")
    await here.get_by_role("link").click()
    await shows(page, re.compile(r"Worker .+ · \d+"))
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("dialog")).to_contain_text("cannot be resumed")
    await confirm(page, "Stop")
    await expect(page.get_by_text("stopping").or_(page.get_by_text("No live worker has the id"))).to_be_visible()
    verbs = await app.operations(target_kind="worker")
    assert [one.verb for one in reversed(verbs)] == ["quiet", "resume", "stop"]
