"""The pages of the schedules."""

from __future__ import annotations

import json

import asyncpg
from playwright.async_api import Page, Route, expect

from rowlock import Rowlock
from tests.browser.visiting import confirm, fact, row, shows, visit


async def test_schedule_is_created_edited_and_deleted(page: Page, app: Rowlock, connection: asyncpg.Connection) -> None:
    await visit(page, "/schedules", "Schedules")
    await expect(page.get_by_role("heading", name="There are no schedules")).to_be_visible()
    await page.get_by_role("button", name="New schedule").click()
    dialog = page.get_by_role("dialog")
    for name, wrong, right in (
        ("Name", "a b", "nightly"),
        ("Task", "nothing", "add"),
        ("Cron", "every day", "0 3 * * *"),
        ("Time zone", "Mars", "Europe/Berlin"),
        ("Arguments", "{x}", '{"x": 2}'),
        ("Priority", "ten", "7"),
    ):
        for other, _, value in (
            ("Name", "", "n"),
            ("Task", "", "add"),
            ("Cron", "", "0 3 * * *"),
            ("Arguments", "", '{"x": 2}'),
        ):
            if not await dialog.get_by_label(other, exact=True).input_value():
                await dialog.get_by_label(other, exact=True).fill(value)
        await dialog.get_by_label(name, exact=True).fill(wrong)
        await dialog.get_by_role("button", name="Create").click()
        await expect(dialog.get_by_label(name, exact=True)).to_have_attribute("aria-invalid", "true")
        await expect(
            dialog.locator(".field", has=page.get_by_label(name, exact=True)).get_by_role("alert")
        ).not_to_be_empty()
        await dialog.get_by_label(name, exact=True).fill(right)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.schedule") == 0
    await confirm(page, "Create")

    await shows(page, "Schedule nightly")
    assert await fact(page, "When") == "0 3 * * * Europe/Berlin"
    assert await page.locator("ol.times li").count() == 10
    await page.get_by_role("button", name="Edit nightly").click()
    await dialog.get_by_label("Cron", exact=True).fill("30 4 * * *")
    await dialog.get_by_label("While its last job runs").select_option("skip")
    await confirm(page, "Save")
    await expect(page.get_by_text("30 4 * * *")).to_be_visible()
    stored = await connection.fetchrow("SELECT cron, overlap, args, priority, timezone FROM rowlock.schedule")
    assert stored is not None
    assert (stored["cron"], stored["overlap"], json.loads(stored["args"]), stored["priority"], stored["timezone"]) == (
        *("30 4 * * *", "skip", {"x": 2}, 7, "Europe/Berlin"),
    )
    (edit,) = await connection.fetch("SELECT details FROM rowlock.operation WHERE verb = 'edit'")
    assert json.loads(edit["details"]) == {"cron": "30 4 * * *", "overlap": "skip"}

    await page.get_by_role("button", name="Delete nightly").click()
    await confirm(page, "Delete")
    await shows(page, "Schedules")
    assert await connection.fetchval("SELECT count(*) FROM rowlock.schedule") == 0


async def test_schedule_is_run_paused_and_resumed(page: Page, app: Rowlock, connection: asyncpg.Connection) -> None:
    await app.schedules.create(name="hourly", task="add", cron="@hourly", args={"x": 1})
    await visit(page, "/schedules", "Schedules")
    await expect(row(page, "hourly")).to_contain_text("in ")
    await page.get_by_role("button", name="Run now hourly").click()
    await confirm(page, "Run now")
    job = await connection.fetchval("SELECT id FROM rowlock.job WHERE task = 'add'")
    await expect(page.get_by_role("status").get_by_role("link")).to_have_attribute("href", f"#/jobs/{job}")
    await expect(row(page, "hourly").get_by_role("link", name="by hand")).to_have_attribute("href", f"#/jobs/{job}")
    await page.get_by_role("button", name="Pause hourly").click()
    await confirm(page, "Pause")
    await expect(row(page, "hourly")).to_contain_text("paused")
    assert await connection.fetchval("SELECT is_paused FROM rowlock.schedule")

    await connection.execute(
        "INSERT INTO rowlock.schedule_tick (schedule, tick_at, job_id) VALUES ('hourly', '2026-01-01T10:00Z', $1)", job
    )
    await page.get_by_role("link", name="hourly").click()
    await shows(page, "Schedule hourly")
    await expect(page.get_by_text("None: it is paused.")).to_be_visible()
    await expect(row(page, "1 Jan 2026, 10:00:00")).to_contain_text("queued")
    await page.get_by_role("button", name="Resume hourly").click()
    await confirm(page, "Resume")
    await expect(page.locator("ol.times li")).to_have_count(10)
    assert not await connection.fetchval("SELECT is_paused FROM rowlock.schedule")


async def test_schedule_of_a_sensitive_task_is_edited_without_its_arguments(
    page: Page, app: Rowlock, connection: asyncpg.Connection, worker: None
) -> None:
    await app.schedules.create(name="hush", task="whisper", cron="@hourly", args={"secret": "xyzzy"})
    await visit(page, "/schedules/hush", "Schedule hush")
    await expect(page.get_by_text("Hidden: the task is sensitive.")).to_be_visible()
    await page.get_by_role("button", name="Edit hush").click()
    await expect(page.get_by_label("Arguments")).to_have_value("")
    await page.get_by_label("Cron", exact=True).fill("0 5 * * *")
    await confirm(page, "Save")
    await expect(page.get_by_text("0 5 * * *")).to_be_visible()
    assert "xyzzy" not in await page.content()
    stored = await connection.fetchrow("SELECT cron, args FROM rowlock.schedule")
    assert stored is not None
    assert (stored["cron"], json.loads(stored["args"])) == ("0 5 * * *", {"secret": "xyzzy"})


async def test_edit_of_what_somebody_else_has_changed_keeps_what_was_typed_until_the_new_state_is_wanted(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    await app.schedules.create(name="hourly", task="add", cron="@hourly", args={"x": 1})
    await visit(page, "/schedules/hourly", "Schedule hourly")
    await page.get_by_role("button", name="Edit hourly").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Cron", exact=True).fill("15 4 * * *")
    await app.schedules.edit("hourly", cron="45 5 * * *", priority=8, by="grace")

    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("alert").filter(has_text="was changed since it was read")).to_be_visible()
    await expect(dialog.get_by_label("Cron", exact=True)).to_have_value("15 4 * * *")
    await dialog.get_by_role("button", name="Save").click()  # again, and it stays so
    await expect(dialog.get_by_role("alert").filter(has_text="was changed since it was read")).to_be_visible()
    assert await connection.fetchval("SELECT cron FROM rowlock.schedule") == "45 5 * * *"

    await dialog.get_by_role("button", name="Load the new state").click()
    await expect(dialog.get_by_label("Cron", exact=True)).to_have_value("45 5 * * *")
    await expect(dialog.get_by_role("button", name="Load the new state")).to_be_hidden()
    await dialog.get_by_label("Cron", exact=True).fill("15 4 * * *")
    await confirm(page, "Save")
    await expect(page.get_by_text("15 4 * * *")).to_be_visible()
    stored = await connection.fetchrow("SELECT cron, priority FROM rowlock.schedule")
    assert stored is not None
    assert (stored["cron"], stored["priority"]) == ("15 4 * * *", 8)


async def test_edit_is_not_refused_because_a_job_was_made_meanwhile_or_a_proxy_has_made_the_tag_weak(
    page: Page, app: Rowlock, connection: asyncpg.Connection
) -> None:
    async def weaken(route: Route) -> None:
        response = await route.fetch()
        weak = {"etag": f"W/{response.headers['etag']}"}
        await route.fulfill(response=response, headers=response.headers | weak)

    await page.route("**/v1/schedules/hourly", weaken)
    await app.schedules.create(name="hourly", task="add", cron="@hourly", args={"x": 1})
    await visit(page, "/schedules/hourly", "Schedule hourly")
    await page.get_by_role("button", name="Edit hourly").click()
    await app.schedules.run("hourly")
    await page.get_by_role("dialog").get_by_label("Cron", exact=True).fill("15 4 * * *")
    await confirm(page, "Save")
    assert await connection.fetchval("SELECT cron FROM rowlock.schedule") == "15 4 * * *"


async def test_schedule_that_does_not_fire_is_marked(page: Page, app: Rowlock, connection: asyncpg.Connection) -> None:
    for name in ("on-time", "late"):
        await app.schedules.create(name=name, task="add", cron="@hourly", args={"x": 1})
    await connection.execute(
        "UPDATE rowlock.schedule SET next_run_at = now() - interval '20 minutes' WHERE name = 'late'"
    )
    await visit(page, "/schedules", "Schedules")
    await expect(row(page, "late")).to_contain_text("not fired: due 20 min ago")
    await expect(row(page, "on-time")).not_to_contain_text("not fired")
