"""Every page in the light and in the dark, on a desktop and on a phone: it fits, and nothing is in anybody's way."""

from __future__ import annotations

from uuid import UUID

import pytest
from playwright.async_api import Page, expect

from rowlock import JobFailed, JobFilter, Rowlock
from tests.browser.conftest import LOOKS, Look
from tests.browser.visiting import barriers, fits, visit


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS, indirect=True, ids=str)
async def test_every_page_fits_and_is_for_everybody(page: Page, app: Rowlock, look: Look, worker: None) -> None:
    job = await _fill(app)
    (live,) = await app.workers.list()
    for path, title in (
        ("/", "Overview"),
        ("/jobs", "Jobs"),
        ("/jobs?state=failed&error=no", "Jobs"),
        (f"/jobs/{job}", "explode"),
        ("/queues", "Queues"),
        ("/queues/sums", "Queue sums"),
        ("/workers", "Workers"),
        (f"/workers/{live.id}", f"Worker {live.hostname}"),
        ("/schedules", "Schedules"),
        ("/schedules/hourly", "Schedule hourly"),
        ("/dead-letters", "Dead letters"),
        ("/operations", "Operations"),
        ("/nothing", "Nothing is here"),
    ):
        await visit(page, path, title)
        assert await fits(page), path
        if look.device == "desktop":
            assert not await barriers(page), path
        else:
            await expect(page.get_by_role("link", name="Queues")).to_have_count(0)

    await visit(page, "/schedules", "Schedules")
    await page.get_by_role("button", name="New schedule").click()
    assert await fits(page)
    assert not await barriers(page)
    await page.keyboard.press("Escape")
    if look.device == "phone":
        await page.get_by_role("button", name="Menu").click()
        assert not await barriers(page)
        await page.get_by_role("link", name="Queues").click()
        await expect(page.get_by_role("heading", level=1, name="Queues")).to_be_visible()
        await expect(page.get_by_role("button", name="Menu")).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize("look", [Look("light"), Look("dark")], indirect=True, ids=str)
async def test_theme_is_the_systems_until_somebody_chooses(page: Page, look: Look) -> None:
    await visit(page, "/queues", "Queues")
    before = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.get_by_role("button", name="Theme: system").click()
    if look.theme == "light":
        await page.get_by_role("button", name="Theme: light").click()
    after = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != after
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == after
    while await page.get_by_role("button", name="Theme: system").count() == 0:
        await page.get_by_role("button", name="Theme: ").click()
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == before


async def _fill(app: Rowlock) -> UUID:
    """Something in every table, and a name and an error that are long; the job that has the error."""
    await app.schedules.create(name="hourly", task="add", cron="@hourly", args={"x": 1})
    await app.schedules.create(name="paused-" + "w" * 60, task="add", cron="@hourly", args={"x": 1}, is_paused=True)
    await app.schedules.run("hourly", by="ada")
    handles = [
        await app.enqueue("explode", {"how": "error", "message": "no-spaces-" * 40}),
        await app.enqueue("explode", {"how": "fail", "message": "one"}),
    ]
    await app.enqueue("wait_for_release")
    for queue in ("tenant-" + "x" * 40, "sums"):
        await app.enqueue("add", {"x": 1}, queue=queue, delay=3600)
        await app.queues.pause(queue, by="grace")
    for handle in handles:
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    await app.jobs.cancel_many(JobFilter(queue="sums", state="scheduled"), reason="a long reason " * 20)
    return handles[0].id
