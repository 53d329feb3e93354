"""The page of the dead letters."""

from __future__ import annotations

import asyncpg
from playwright.async_api import Page, expect

from rowlock import Rowlock
from tests.browser.visiting import confirm, row, visit


async def _fail(app: Rowlock, **messages: int) -> None:
    for message, number in messages.items():
        for _ in range(number):
            await app.enqueue("explode", {"how": "error", "message": message})
    await app.worker().drain()


async def test_dead_letters_are_grouped_looked_into_and_retried(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    await _fail(app, refused=3, declined=2)
    await visit(page, "/dead-letters", "Dead letters")
    await expect(page.get_by_role("row")).to_have_count(3)
    await expect(page.get_by_role("row").nth(1)).to_contain_text("ValueError: refused")
    await expect(row(page, "ValueError: refused").get_by_role("cell").nth(2)).to_have_text("3")

    await row(page, "refused").locator("summary").click()
    jobs = row(page, "refused").locator(".inside a")
    await expect(jobs).to_have_count(3)
    failed = await connection.fetch("SELECT id FROM rowlock.finished_job WHERE error LIKE '%refused' ORDER BY id DESC")
    assert await jobs.all_inner_texts() == [str(job["id"]) for job in failed]

    await page.get_by_role("button", name="Retry all explode: ValueError: refused").click()
    await expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text("Retry 3 jobs?")
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0
    await confirm(page, "Retry 3 jobs")
    await expect(page.get_by_role("status")).to_contain_text("Put back: 3 jobs.")
    await expect(page.get_by_role("row")).to_have_count(2)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job WHERE state = 'queued'") == 3


async def test_a_group_is_retried_without_those_whose_error_says_more(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    await _fail(app, **{"refused": 1, "refused again 1": 1, "refused again 22": 1, "nothing": 1})
    await connection.execute("UPDATE rowlock.finished_job SET error = NULL WHERE error LIKE '%nothing'")
    await visit(page, "/dead-letters", "Dead letters")
    for error, rows, left in (("ValueError: refused", 3, 3), ("no error", 2, 2)):
        await page.get_by_role("button", name=f"Retry all explode: {error}", exact=True).click()
        await expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text("Retry 1 job?")
        await confirm(page, "Retry 1 job")
        await expect(page.get_by_role("row")).to_have_count(rows)
        assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job WHERE state = 'failed'") == left
    await row(page, "refused again #").get_by_role("link", name="2", exact=True).click()
    await expect(page.get_by_role("list", name="Filtered by")).to_contain_text(
        "error like “ValueError: refused again #”"
    )
    await expect(page.get_by_role("table").get_by_role("row")).to_have_count(3)


async def test_dead_letters_are_filtered_and_discarded(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    await visit(page, "/dead-letters", "Dead letters")
    await expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()
    await _fail(app, refused=1, declined=1)
    await page.get_by_label("Error contains").fill("nothing like it")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="No dead letter matches")).to_be_visible()
    await page.get_by_label("Error contains").fill("declined")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_role("row")).to_have_count(2)
    assert page.url.endswith("#/dead-letters?error=declined")
    await page.get_by_role("button", name="Discard all").click()
    await confirm(page, "Discard 1 job")
    await expect(page.get_by_role("heading", name="No dead letter matches")).to_be_visible()
    await page.get_by_role("link", name="Show all").click()
    await expect(row(page, "refused")).to_be_visible()
    discarded = await connection.fetch("SELECT error FROM rowlock.finished_job WHERE discarded_at IS NOT NULL")
    assert [job["error"] for job in discarded] == ["ValueError: declined"]
