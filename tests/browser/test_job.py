"""The page of one job: what happened to it, and what can be done with it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from playwright.async_api import Page, expect

from rowlock import JobFailed, JobNotFound, Rowlock
from tests.browser.visiting import confirm, fact, row, shows, visit


async def test_failed_job_says_why_and_is_retried_with_other_arguments(page: Page, app: Rowlock) -> None:
    handle = await app.enqueue("explode", {"how": "error", "message": "no such card"})
    await app.worker().drain()
    await visit(page, f"/jobs/{handle.id}", "explode")
    await expect(page.locator("pre.error")).to_contain_text("ValueError: no such card")
    await expect(page.get_by_role("group")).to_contain_text("Traceback (most recent call last)")
    await expect(page.locator(".timeline li")).to_have_count(4)
    assert await fact(page, "Attempt") == "1 of 1"

    await page.get_by_role("button", name="Retry with other arguments").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Arguments").fill('["no object"]')
    await dialog.get_by_role("button", name="Retry").click()
    await expect(dialog.get_by_role("alert").filter(has_text="object")).to_be_visible()
    await dialog.get_by_label("Arguments").fill('{"how": "cancel", "message": "given up"}')
    await confirm(page, "Retry")
    await expect(page.locator(".under .state-queued")).to_be_visible()
    await expect(row(page, "retried job")).to_be_visible()

    async with app.worker():
        await expect(page.locator(".under .state-cancelled")).to_be_visible()
    await expect(page.locator("pre.error")).to_contain_text("given up")
    assert await fact(page, "Attempt") == "2", "and not 2 of 1"


async def test_numbers_stay_as_they_are_written_through_an_edit(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    handle = await app.enqueue("echo", {"value": {"long": 12345678901234567890, "whole": 1.0}}, delay=3600)
    await app.jobs.cancel(handle.id)
    await visit(page, f"/jobs/{handle.id}", "echo")
    await expect(page.get_by_label("the arguments", exact=True)).to_contain_text("12345678901234567890")
    await page.get_by_role("button", name="Retry with other arguments").click()
    area = page.get_by_role("dialog").get_by_label("Arguments")
    await area.fill((await area.input_value()).replace("long", "longer"))
    await confirm(page, "Retry")
    await expect(page.locator(".under .state-queued")).to_be_visible()
    args = await connection.fetchval("SELECT args::text FROM rowlock.job WHERE id = $1", handle.id)
    assert '"longer": 12345678901234567890' in args
    assert '"whole": 1.0' in args


async def test_running_job_is_followed_live_and_cancelled(page: Page, app: Rowlock, release: asyncio.Event) -> None:
    handle = await app.enqueue("wait_for_release")
    await visit(page, f"/jobs/{handle.id}", "wait_for_release")
    await expect(page.locator(".under .state-queued")).to_be_visible()
    async with app.worker():
        await expect(page.locator(".under .state-running")).to_be_visible()
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("dialog").get_by_label("Reason").fill("too slow")
        await confirm(page, "Cancel the job")
        await expect(page.locator(".under .state-cancelled")).to_be_visible()
        await expect(row(page, "cancelled job")).to_contain_text("too slow")
        await expect(page.get_by_role("heading", name="Tracebacks")).to_have_count(0)


async def test_logs_are_shown_by_level_and_the_job_runs_again(page: Page, app: Rowlock, worker: None) -> None:
    handle = await app.enqueue("tell", {"text": "mind the gap"})
    await handle.result(timeout=10)
    await visit(page, f"/jobs/{handle.id}", "tell")
    await expect(page.get_by_role("region", name="Logs")).to_contain_text("mind the gap")
    await page.get_by_label("Level").select_option("error")
    await expect(page.get_by_role("heading", name="No line with this level")).to_be_visible()

    await page.get_by_role("button", name="Run again").click()
    await confirm(page, "Run again")
    await page.get_by_role("status").get_by_role("link").click()
    await expect(page.locator(".under code")).not_to_have_attribute("title", str(handle.id))
    await expect(page.locator(".under .state-succeeded")).to_be_visible()


async def test_dead_letter_is_discarded(page: Page, app: Rowlock, worker: None) -> None:
    handle = await app.enqueue("explode", {"how": "fail"})
    with pytest.raises(JobFailed):
        await handle.result(timeout=10)
    await visit(page, f"/jobs/{handle.id}", "explode")
    await page.get_by_role("button", name="Discard").click()
    await confirm(page, "Discard")
    await expect(page.locator(".under")).to_contain_text("discarded")
    await expect(page.get_by_role("button", name="Discard")).to_have_count(0)


async def test_scheduled_job_is_changed_and_run_now(page: Page, app: Rowlock) -> None:
    handle = await app.enqueue("echo", {"value": 1}, delay=7200, deadline=9 * 3600)
    await visit(page, f"/jobs/{handle.id}", "echo")
    await page.get_by_role("button", name="Change…").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Change").click()
    await expect(dialog.get_by_role("alert").filter(has_text="Nothing has changed yet")).to_be_visible()
    await dialog.get_by_label("Due").fill("2099-01-01T12:00")
    await dialog.get_by_label("Priority").fill("10")
    await dialog.get_by_role("button", name="Change").click()
    await expect(dialog.get_by_role("alert").filter(has_text="; got 10")).to_be_visible()
    await dialog.get_by_label("Priority").fill("9")
    await dialog.get_by_role("button", name="Change").click()
    await expect(dialog.get_by_role("alert").filter(has_text="run_at must be before")).to_be_visible()
    assert (await handle.get()).priority == 5
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=4)
    await dialog.get_by_label("Due").fill(at.replace(tzinfo=None).isoformat())  # by the browser's clock, which is UTC
    await dialog.get_by_label("Queue").fill("bulk")
    await confirm(page, "Change")
    await expect(row(page, "rescheduled job")).to_contain_text("priority 9, queue bulk")
    assert await fact(page, "Queue") == "bulk"
    changed = await handle.get()
    assert (changed.run_at, changed.priority, changed.queue) == (at, 9, "bulk")

    await page.get_by_role("button", name="Run now").click()
    await confirm(page, "Run now")
    await expect(page.locator(".under .state-queued")).to_be_visible()
    await expect(page.get_by_role("button", name="Run now")).to_have_count(0)
    assert await app.worker(queues=["bulk"]).drain() == 1
    await expect(page.locator(".under .state-succeeded")).to_be_visible()
    await expect(page.get_by_role("button", name="Change…")).to_have_count(0)


async def test_finished_job_is_deleted_for_good(page: Page, app: Rowlock, worker: None) -> None:
    handle = await app.enqueue("echo", {"value": 1})
    await handle.result(timeout=10)
    await visit(page, f"/jobs/{handle.id}", "echo")
    await page.get_by_role("button", name="Delete for good").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert (await handle.get()).state == "succeeded"
    await page.get_by_role("button", name="Delete for good").click()
    await confirm(page, "Delete for good")
    await shows(page, "Jobs")
    with pytest.raises(JobNotFound):
        await handle.get()
    await visit(page, "/operations", "Operations")
    await expect(row(page, "deleted job")).to_contain_text(str(handle.id))


async def test_sensitive_job_says_that_it_hides_something(page: Page, app: Rowlock) -> None:
    @app.task(sensitive=True)
    async def keep_secret(value: str) -> str:
        return value

    async with app.worker():
        handle = await keep_secret.enqueue("hush")
        await handle.result(timeout=10)
    await visit(page, f"/jobs/{handle.id}", "keep_secret")
    await expect(page.get_by_text("the task is sensitive")).to_have_count(2)
    await expect(page.get_by_text("hush")).to_have_count(0)
    await expect(page.get_by_role("button", name="Run again")).to_be_visible()


async def test_job_that_is_not_there_says_so(page: Page) -> None:
    await page.goto("/#/jobs/01a206a6-57d0-7da3-8225-a4bfe63bd356")
    await expect(page.get_by_role("alert")).to_contain_text("There is no such job")
