"""The page of the operations."""

from __future__ import annotations

from playwright.async_api import Page, expect

from rowlock import JobFilter, Rowlock
from tests.browser.visiting import row, shows, visit


async def test_operations_are_told_in_sentences_and_filtered(page: Page, app: Rowlock) -> None:
    await visit(page, "/operations", "Operations")
    await expect(page.get_by_role("heading", name="No acts yet")).to_be_visible()
    job = await app.enqueue("snooze", delay=60)
    await app.jobs.cancel(job.id, reason="a mistake", by="ada")
    await app.queues.pause("sums", by="grace")
    await app.queues.scale("sums", 4)
    await app.enqueue("explode", {"how": "fail"})
    await app.worker().drain()
    await app.jobs.retry_many(JobFilter(task="explode"))
    await app.keys.create("grafana", scopes=["read"])
    again = await app.jobs.run_again(job.id)
    await visit(page, "/queues", "Queues")
    await visit(page, "/operations", "Operations")
    rows = page.get_by_role("row")
    await expect(rows).to_have_count(7)
    for number, (who, what) in enumerate(
        [
            ("unnamed", f"ran again job {job.id} as job {again.id}"),
            ("unnamed", "created key grafana"),
            ("unnamed", "retried 1 failed job of task explode"),
            ("unnamed", "scaled queue sums to 4"),
            ("grace", "paused queue sums"),
            ("ada", f"cancelled job {job.id}: a mistake"),
        ],
        start=1,
    ):
        await expect(rows.nth(number).get_by_role("cell").nth(1)).to_have_text(who)
        await expect(rows.nth(number).get_by_role("cell").nth(2)).to_have_text(what)
    await expect(page.get_by_role("link", name=str(job.id)).first).to_have_attribute("href", f"#/jobs/{job.id}")

    await page.get_by_label("What was done").select_option("pause")
    await expect(rows).to_have_count(2)
    await page.get_by_label("Which one").fill("nothing")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_role("heading", name="No act matches")).to_be_visible()
    await page.get_by_role("link", name="Show all").click()
    await expect(rows).to_have_count(7)
    await row(page, "paused").get_by_role("link", name="sums").click()
    await shows(page, "Queue sums")


async def test_operations_go_on_to_older_ones(page: Page, app: Rowlock) -> None:
    for number in range(1, 52):
        await app.queues.scale("sums", number)
    await visit(page, "/operations", "Operations")
    await expect(page.get_by_text("scaled queue sums to 51", exact=True)).to_be_visible()
    await page.get_by_role("link", name="Older").click()
    await expect(page.get_by_text("scaled queue sums to 1", exact=True)).to_be_visible()
    await expect(page.get_by_role("link", name="Older")).to_have_count(0)


async def test_an_act_on_errors_of_a_kind_is_told_in_words(page: Page, app: Rowlock) -> None:
    await app.enqueue("explode", {"how": "error", "message": "refused 1"})
    await app.worker().drain()
    await app.jobs.retry_many(JobFilter(task="explode", error_kind="ValueError: refused #"))
    await visit(page, "/operations", "Operations")
    await expect(page.get_by_role("row").nth(1).get_by_role("cell").nth(2)).to_have_text(
        "retried 1 failed job of task explode, error like “ValueError: refused #”"
    )
