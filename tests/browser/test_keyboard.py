"""Everything can be done without a mouse."""

from __future__ import annotations

import asyncpg
from playwright.async_api import Page, expect

from rowlock import Rowlock
from tests.browser.visiting import row, shows, visit


async def test_queue_is_paused_by_keyboard_alone(page: Page, app: Rowlock, connection: asyncpg.Connection) -> None:
    await app.enqueue("add", {"x": 1})
    await visit(page, "/workers", "Workers")
    await page.keyboard.press("g")
    await page.keyboard.press("q")
    await shows(page, "Queues")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    pause = page.get_by_role("button", name="Pause sums")
    for _ in range(10):
        await page.keyboard.press("Tab")
        if await pause.evaluate("it => it === document.activeElement"):
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").get_by_role("button", name="Pause")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(pause).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Resume sums")).to_be_visible()
    assert await connection.fetchval("SELECT paused_at FROM rowlock.queue WHERE name = 'sums'") is not None


async def test_keys_lead_everywhere_but_out_of_a_field(page: Page, app: Rowlock) -> None:
    await visit(page, "/queues", "Queues")
    for key, title in (("w", "Workers"), ("s", "Schedules"), ("a", "Operations"), ("d", "Dead letters")):
        await page.keyboard.press("g")
        await page.keyboard.press(key)
        await shows(page, title)
    await page.keyboard.press("/")
    field = page.get_by_label("Task", exact=True)
    await expect(field).to_be_focused()
    await page.keyboard.type("gq?")
    await expect(field).to_have_value("gq?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text('got "gq?"')
    await page.get_by_role("link", name="Show all").focus()
    await page.keyboard.press("Enter")
    await field.fill("gq")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="No dead letter matches")).to_be_visible()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_contain_text("g w")
    await page.keyboard.press("Escape")

    await page.reload()
    await shows(page, "Dead letters")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="To the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()


async def test_what_is_focused_open_or_written_stays_while_the_page_is_brought_up_to_date(
    page: Page, app: Rowlock
) -> None:
    await app.queues.pause("first", by="ada")
    await visit(page, "/operations", "Operations")
    await row(page, "first").locator("summary").click()
    await expect(row(page, "first").locator("details[open]")).to_be_visible()
    field = page.get_by_label("Which one")
    await field.fill("half a na")
    await app.queues.pause("second", by="ada")
    await app.queues.pause("third", by="ada")
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page.get_by_role("row")).to_have_count(4)
    await expect(row(page, "first").locator("details[open]")).to_be_visible()
    await expect(page.locator("details[open]")).to_have_count(1)
    await expect(field).to_have_value("half a na")
    await expect(field).to_be_focused()
