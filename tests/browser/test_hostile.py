"""Whatever jobs, their code and those who enqueue them write is text on every page: shown, and nothing else."""

from __future__ import annotations

import asyncpg
import pytest
from playwright.async_api import Page, expect

from rowlock import Rowlock
from tests.browser import hostile
from tests.browser.conftest import Look
from tests.browser.corpus import SHORT, TEXTS, made_of_texts, not_shown, plain
from tests.browser.visiting import fits, visit


@pytest.mark.slow
@pytest.mark.parametrize("look", [Look(), Look("dark", "phone")], indirect=True, ids=str)
async def test_hostile_texts_are_texts_on_every_page(page: Page, app: Rowlock, connection: asyncpg.Connection) -> None:
    jobs = await hostile.fill(app, connection)
    texts = list(TEXTS.values())
    worker = await connection.fetchval("SELECT id FROM rowlock.worker WHERE hostname = $1", TEXTS["handler"])
    for path, title, shown in (
        ("/queues", "Queues", SHORT),
        ("/workers", "Workers", [TEXTS["handler"], TEXTS["entities"], *SHORT]),
        (f"/workers/{worker}", f"Worker {TEXTS['handler']}", [TEXTS["handler"], TEXTS["entities"], *SHORT, *texts]),
        ("/schedules", "Schedules", [*texts, *(text[:100] for text in texts)]),
        ("/dead-letters", "Dead letters", [TEXTS["handler"]]),
        ("/operations", "Operations", texts),
        ("/", "Overview", []),
        ("/jobs?limit=200", "Jobs", [*SHORT, *texts, *hostile.TAGS]),
        (f"/jobs/{jobs.arguments}", "echo", texts),
        (f"/jobs/{jobs.result}", "echo", texts),
        (f"/jobs/{jobs.error}", "attack", [TEXTS["handler"], *texts]),
        (f"/jobs/{jobs.logs}", "tell", [hostile.REASON, *texts]),
        (
            f"/jobs/{jobs.cancelled}",
            "snooze",
            [hostile.REASON, TEXTS["svg"], *hostile.TAGS, *hostile.METADATA.values()],
        ),
        (f"/jobs/{jobs.long}", "echo", []),
        (f"/jobs/{jobs.names}", TEXTS["script"], [TEXTS["script"], SHORT[0]]),
    ):
        await visit(page, path, title)
        await page.evaluate("for (const it of document.querySelectorAll('details')) it.open = true")
        await expect(page.get_by_text("Loading …")).to_have_count(0)
        assert not await not_shown(page, [plain(text) for text in shown]), path
        assert not await made_of_texts(page), path
        assert await fits(page), path

    for name in SHORT:  # the pages that such names lead to
        await visit(page, "/queues", "Queues")
        await page.get_by_role("link", name=name, exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Queue {name}")
        assert not await made_of_texts(page), name
    for number in range(0, len(texts), 5):
        await visit(page, "/schedules", "Schedules")
        await page.get_by_role("link", name=plain(texts[number][:100]), exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Schedule {plain(texts[number][:100])}")
        assert not await made_of_texts(page), texts[number]
