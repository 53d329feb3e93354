"""The dashboard when something is wrong: the database away, queues in trouble, text that turns around."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler
from playwright.async_api import Page, expect

from rowlock import Rowlock
from rowlock.api import create_app, nobody_is_asked
from rowlock.api.http.problems import DATABASE_UNAVAILABLE, Refused, respond
from tests.browser.visiting import barriers, fits, shows, visit
from tests.browser.watching import Watch

away: dict[str, bool] = {}


@web.middleware
async def _maybe_away(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer as the API does while the database is away."""
    if away.get("is") and request.path.startswith("/v1/"):
        return respond(request, Refused(DATABASE_UNAVAILABLE, "The database does not answer."))
    return await handler(request)


@pytest_asyncio.fixture(loop_scope="session")
async def site(app: Rowlock) -> AsyncIterator[str]:
    """A dashboard whose database can be away."""
    away["is"] = False
    api = create_app(app, authenticate=nobody_is_asked)
    api.middlewares.insert(0, _maybe_away)
    async with TestServer(api) as server:
        yield str(server.make_url("/")).rstrip("/")


@pytest.fixture(autouse=True)
def answered_on_purpose(watch: Watch) -> None:
    """What is answered 503 here."""
    watch.tolerate("503")


async def test_a_page_that_is_loaded_while_the_database_is_away_comes_back_by_itself(page: Page) -> None:
    away["is"] = True
    await page.goto("/#/queues")
    await expect(page.get_by_role("alert")).to_contain_text("tried again by itself")
    away["is"] = False
    await shows(page, "Queues")
    await expect(page.get_by_role("alert")).to_have_count(0, timeout=15_000)


async def test_a_page_that_is_loaded_anew_while_the_database_is_away_shows_the_last_figures(
    page: Page, app: Rowlock
) -> None:
    await app.enqueue("add", {"x": 1})
    await visit(page, "/queues", "Queues")
    await expect(page.get_by_role("cell", name="sums", exact=True)).to_be_visible()
    away["is"] = True
    await page.reload()
    await expect(page.get_by_role("alert")).to_contain_text("What is shown below is from")
    await expect(page.get_by_role("cell", name="sums", exact=True)).to_be_visible()
    away["is"] = False
    await expect(page.get_by_role("alert")).to_have_count(0, timeout=15_000)


async def test_the_full_id_of_a_job_leads_to_it(page: Page, app: Rowlock) -> None:
    job = await app.enqueue("add", {"x": 1})
    await visit(page, "/jobs", "Jobs")
    await page.get_by_label("Arguments contain").fill(f" {str(job.id).upper()} ")
    await page.keyboard.press("Enter")
    await shows(page, "add")
    nobodys = "0192f3a0-0000-7000-8000-000000000000"
    await visit(page, "/jobs", "Jobs")
    await page.get_by_label("Arguments contain").fill(nobodys)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("No job matches")).to_be_visible()
    assert f"text={nobodys}" in page.url


async def test_queues_in_trouble_come_first_and_can_be_filtered_and_sorted(page: Page, app: Rowlock) -> None:
    await app.enqueue("add", {"x": 1}, queue="zz-nobody-works")
    await app.queues.pause("aa-paused")
    await visit(page, "/queues", "Queues")
    names = page.locator("tbody tr td:first-child")
    await expect(names.first).to_have_text("zz-nobody-works")
    await page.get_by_label("Order").select_option("name")
    await expect(names.first).to_have_text("aa-paused")
    await page.get_by_label("Status").select_option("paused")
    await expect(names).to_have_text(["aa-paused"])
    await page.get_by_label("Name contains").fill("nothing")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("No queue matches")).to_be_visible()
    assert await fits(page)


async def test_workers_can_be_filtered(page: Page, app: Rowlock) -> None:
    async with app.worker(queues=["email"]), app.worker(queues=["reports"]):
        await visit(page, "/workers", "Workers")
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(2)
        await page.get_by_label("Host, process or queue contains").fill("email")
        await page.keyboard.press("Enter")
        await expect(rows).to_have_count(1)
        await page.get_by_label("Status").select_option("in trouble")
        await expect(page.get_by_text("No worker matches")).to_be_visible()


async def test_text_that_would_turn_around_is_shown_as_it_is(page: Page, app: Rowlock) -> None:
    turned = "user\u202egpj.exe"
    job = await app.enqueue("echo", {"value": turned}, tags=[f"tag\u2066{turned}"])
    await visit(page, f"/jobs/{job.id}", "echo")
    await expect(page.locator("pre[aria-label='the arguments']")).to_contain_text("user⟨U+202E⟩gpj.exe")
    await expect(page.get_by_text("tag⟨U+2066⟩user⟨U+202E⟩gpj.exe")).to_be_visible()
    assert "\u202e" not in await page.evaluate("document.body.innerText")


async def test_no_figure_is_broken_over_two_lines(page: Page, app: Rowlock) -> None:
    async with app.worker():
        for path, title in (("/workers", "Workers"), ("/queues", "Queues"), ("/", "Overview")):
            await visit(page, path, title)
            wrapped = await page.evaluate(
                """[...document.querySelectorAll("td.number, time")].filter((one) => {
                    const range = document.createRange();
                    range.selectNodeContents(one);
                    const lines = new Set([...range.getClientRects()].filter(({width}) => width > 0)
                        .map(({top, height}) => Math.round((top + height / 2) / 12)));
                    return getComputedStyle(one).whiteSpace !== "nowrap" || lines.size > 2;
                }).map((one) => one.textContent)"""
            )
            assert wrapped == [], path


async def test_a_task_has_a_page_with_its_figures_and_its_jobs(page: Page, app: Rowlock) -> None:
    job = await app.enqueue("add", {"x": 1})
    await app.enqueue("echo")
    async with app.worker():
        await job.result(timeout=20)
        await visit(page, f"/jobs/{job.id}", "add")
        await page.get_by_role("link", name="add", exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("add")
        assert page.url.endswith("#/tasks/add")
        await expect(page.get_by_role("region", name="Its newest jobs").locator("tbody tr")).to_have_count(1)
        await expect(page.get_by_text("Version of its arguments")).to_be_visible()
        assert await fits(page)
        assert not await barriers(page)
