"""The page of the jobs: filters that live in the address, and acts on one, on some and on all that fit."""

from __future__ import annotations

import asyncpg
from playwright.async_api import Page, Route, expect

from rowlock import Rowlock
from tests.browser.visiting import confirm, row, visit


async def _fill(app: Rowlock) -> None:
    for number in range(3):
        await app.enqueue("explode", {"how": "error", "message": f"refused {number}"})
    await app.enqueue("echo", {"value": "done"})
    await app.worker().drain()
    for number in range(2):
        await app.enqueue("add", {"x": number}, delay=3600)


async def test_jobs_are_filtered_by_the_address_and_the_way_back_is_open(page: Page, app: Rowlock) -> None:
    await _fill(app)
    await visit(page, "/jobs", "Jobs")
    rows = page.get_by_role("row")
    await expect(rows).to_have_count(7)
    await expect(row(page, "explode").first).to_contain_text("ValueError: refused 2")

    await page.get_by_role("navigation", name="States").get_by_role("link", name="failed").click()
    await expect(rows).to_have_count(4)
    assert page.url.endswith("#/jobs?state=failed")
    await page.get_by_text("More", exact=True).click()
    await page.get_by_label("Error contains").fill("refused 1")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(2)
    await expect(page.get_by_role("list", name="Filtered by")).to_contain_text("error contains “refused 1”")

    await page.go_back()
    await expect(rows).to_have_count(4)
    await page.go_back()
    await expect(rows).to_have_count(7)
    await page.get_by_label("Queue", exact=True).select_option("sums")
    await expect(rows).to_have_count(3)
    await page.get_by_role("link", name="Do not filter by queue sums").click()
    await expect(rows).to_have_count(7)
    await page.get_by_label("Task").fill("no_such_task")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_role("heading", name="No job matches")).to_be_visible()


async def test_jobs_are_found_by_tag_and_by_words_of_their_arguments(page: Page, app: Rowlock) -> None:
    tagged = await app.enqueue("echo", {"value": "for Ada Lovelace"}, delay=3600, tags=["vip"])
    await app.enqueue("echo", {"value": "for nobody"}, delay=3600)
    await visit(page, "/jobs", "Jobs")
    rows = page.get_by_role("row")
    await expect(rows).to_have_count(3)
    await page.get_by_label("Arguments contain").fill("ada love")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(2)
    await page.get_by_role("link", name="echo").click()
    await page.locator(".under").get_by_role("link", name="vip").click()
    await expect(rows).to_have_count(2)
    await expect(page.get_by_role("checkbox", name=str(tagged.id))).to_be_visible()
    assert page.url.endswith("#/jobs?tag=vip")


async def test_jobs_are_enqueued_with_metadata_and_found_by_it(page: Page, app: Rowlock) -> None:
    async with app.worker():
        pass  # it registers the tasks
    await app.enqueue("add", {"x": 1}, delay=3600, metadata={"customer": "42"})
    await app.enqueue("add", {"x": 2}, delay=3600, metadata={"customer": "42", "plan": "free"})
    await visit(page, "/jobs", "Jobs")
    await page.get_by_role("button", name="Enqueue a job").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Task").select_option("add")
    await dialog.get_by_label("Arguments").fill('{"x": 3}')
    await dialog.get_by_text("Options").click()
    await dialog.get_by_label("Delay in seconds").fill("3600")
    await dialog.get_by_label("Metadata").fill("customer")
    await dialog.get_by_role("button", name="Enqueue").click()
    await expect(dialog.get_by_role("alert").filter(has_text="a key, a colon and a text")).to_be_visible()
    await dialog.get_by_label("Metadata").fill("customer:42\nplan: pro: now, & <b>\n")
    await confirm(page, "Enqueue")
    await page.get_by_role("status").get_by_role("link").click()
    shown = page.locator(".under").get_by_role("link")
    await expect(shown.filter(has_text="plan")).to_have_text("plan: pro: now, & <b>")

    rows, chips = page.get_by_role("row"), page.get_by_role("list", name="Filtered by")
    await shown.filter(has_text="customer").click()
    await expect(rows).to_have_count(4)
    assert page.url.endswith("#/jobs?metadata=customer%3A42")
    await expect(chips).to_contain_text("metadata customer:42")
    await page.get_by_label("Metadata", exact=True).fill("plan:pro: now, & <b>")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(2)
    await expect(chips).to_contain_text("metadata plan:pro: now, & <b>")
    await page.get_by_label("Metadata", exact=True).fill("plan: free")
    await page.keyboard.press("Enter")
    await expect(row(page, "add")).to_have_count(1)
    await page.get_by_role("link", name="Do not filter by metadata customer:42").click()
    await expect(rows).to_have_count(2)
    assert page.url.endswith("#/jobs?metadata=plan%3Afree")
    await page.get_by_role("button", name="Cancel all that fit").click()
    await expect(page.get_by_role("dialog")).to_contain_text("metadata plan:free")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").last.click()
    await expect(row(page, "cancelled")).to_have_count(1)


async def test_search_that_was_bounded_goes_on_from_where_it_stopped(page: Page) -> None:
    answers = {
        False: {"jobs": [], "next": "/v1/jobs?text=x&before=01a2", "searched_until": "2026-11-01T00:00:00Z"},
        True: {"jobs": [], "next": None, "searched_until": None},
    }

    async def answer(route: Route) -> None:
        await route.fulfill(json=answers["before=" in route.request.url])

    await page.route("**/v1/jobs?*", answer)
    await visit(page, "/jobs?text=x", "Jobs")
    await expect(page.get_by_role("heading", name="Nothing found so far")).to_be_visible()
    await page.get_by_role("link", name="Search on").click()
    await expect(page.get_by_role("heading", name="No job matches")).to_be_visible()


async def test_all_that_fit_are_counted_before_anything_is_done(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    await _fill(app)
    await visit(page, "/jobs", "Jobs")
    await expect(page.get_by_role("row")).to_have_count(7)
    await expect(page.get_by_role("button", name="all that fit")).to_have_count(0)  # not without a filter
    await visit(page, "/jobs?state=failed", "Jobs")
    await page.get_by_role("button", name="Retry all that fit").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Retry 3 jobs?")
    await expect(dialog).to_contain_text("state failed")
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job WHERE task = 'explode'") == 0
    await confirm(page, "Retry 3 jobs")
    await expect(page.get_by_role("status").filter(has_text="Put back: 3 jobs.")).to_be_visible()
    await expect(page.get_by_role("heading", name="No job matches")).to_be_visible()
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job WHERE task = 'explode'") == 3


async def test_chosen_jobs_are_cancelled_and_no_others(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    handles = [await app.enqueue("add", {"x": number}, delay=3600) for number in range(3)]
    await visit(page, "/jobs", "Jobs")
    for handle in handles[:2]:
        await page.get_by_role("checkbox", name=f"Choose add {handle.id}").check()
    await expect(page.get_by_text("2 chosen")).to_be_visible()
    await page.get_by_role("button", name="Cancel 2").click()
    await page.get_by_role("dialog").get_by_label("Reason").fill("not needed")
    await confirm(page, "Cancel 2 jobs")
    await expect(row(page, "cancelled")).to_have_count(2)
    cancelled = await connection.fetch("SELECT id, error FROM rowlock.finished_job WHERE state = 'cancelled'")
    assert {job["id"] for job in cancelled} == {handle.id for handle in handles[:2]}
    assert all("not needed" in job["error"] for job in cancelled)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.operation WHERE verb = 'cancel'") == 2


async def test_all_scheduled_jobs_of_a_task_are_run_now(page: Page, app: Rowlock) -> None:
    for number in range(3):
        await app.enqueue("add", {"x": number}, delay=3600)
    await app.enqueue("echo", delay=3600)
    await visit(page, "/jobs?state=scheduled&task=add", "Jobs")
    await page.get_by_role("button", name="Run now all that fit").click()
    await expect(page.get_by_role("dialog")).to_contain_text("Run now 3 jobs?")
    await confirm(page, "Run now 3 jobs")
    await expect(page.get_by_role("status").filter(has_text="Due now: 3 jobs.")).to_be_visible()
    assert await app.worker(queues=["default", "sums"]).drain() == 3


async def test_job_is_enqueued_by_hand(page: Page, app: Rowlock) -> None:
    async with app.worker():
        await visit(page, "/jobs", "Jobs")
        await expect(page.get_by_role("heading", name="There are no jobs yet")).to_be_visible()
        await page.get_by_role("button", name="Enqueue a job").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Task").select_option("add")
        await dialog.get_by_label("Arguments").fill('{"x": 41')
        await dialog.get_by_role("button", name="Enqueue").click()
        await expect(dialog.get_by_role("alert").filter(has_text="This is not JSON")).to_be_visible()
        await dialog.get_by_label("Arguments").fill('{"z": 41}')
        await dialog.get_by_role("button", name="Enqueue").click()
        await expect(dialog.get_by_role("alert").filter(has_text="z")).to_be_visible()
        await dialog.get_by_label("Arguments").fill('{"x": 41}')
        await confirm(page, "Enqueue")
        await page.get_by_role("status").get_by_role("link").click()
        await expect(page.get_by_role("heading", level=1, name="add")).to_be_visible()
        await expect(page.locator(".state-succeeded")).to_be_visible()
        await expect(page.get_by_label("the result", exact=True)).to_contain_text('"sum": 42')


async def test_rows_are_walked_chosen_and_opened_by_keys(page: Page, app: Rowlock) -> None:
    await _fill(app)
    await visit(page, "/jobs?state=failed", "Jobs")
    await expect(page.get_by_role("row")).to_have_count(4)
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("x")
    await expect(page.get_by_text("1 chosen")).to_be_visible()
    await expect(row(page, "refused 1").get_by_role("checkbox")).to_be_checked()
    await page.keyboard.press("k")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1, name="explode")).to_be_visible()
    await expect(page.locator("pre.error")).to_contain_text("refused 2")
