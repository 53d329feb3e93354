"""The real dashboard in a real browser, over a real database: one browser a process, one context a test.

All of it lives in the session's event loop, as the browser does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import asyncpg
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, Page, ViewportSize, expect

from rowlock import Rowlock, Settings
from rowlock.api import create_app, nobody_is_asked
from tests.browser import chromium
from tests.browser.tasks import register
from tests.browser.watching import Watch

PATIENCE: Final = 30_000
"""How many milliseconds Playwright waits for what a test expects: on a busy machine everything takes its time."""

expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True, slots=True)
class Look:
    """How a page is looked at."""

    theme: Literal["light", "dark"] = "light"
    device: Literal["desktop", "phone"] = "desktop"

    @property
    def viewport(self) -> ViewportSize:
        return {"width": 1280, "height": 800} if self.device == "desktop" else {"width": 375, "height": 812}

    def __str__(self) -> str:
        return f"{self.theme}-{self.device}"


LOOKS: Final = [Look(theme, device) for theme in ("light", "dark") for device in ("desktop", "phone")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder in the loop that the browser lives in."""
    for item in items:
        is_asynchronous = isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function)
        if is_asynchronous and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    try:
        program = chromium.executable()
    except chromium.NoBrowser as error:
        (pytest.fail if chromium.REQUIRED else pytest.skip)(str(error))
    async with chromium.started(program) as browser:
        yield browser


@pytest.fixture
def release() -> asyncio.Event:
    """Ends the jobs of `wait_for_release`."""
    return asyncio.Event()


@pytest_asyncio.fixture(loop_scope="session")
async def app(settings: Settings, release: asyncio.Event) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        register(app, release)
        yield app


@pytest_asyncio.fixture(loop_scope="session")
async def worker(app: Rowlock, release: asyncio.Event) -> AsyncIterator[None]:
    """A worker at work for as long as the test lasts."""
    async with app.worker(concurrency=10):
        yield
        release.set()


@pytest_asyncio.fixture(loop_scope="session")
async def connection(direct_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's database in the browser's loop: as the one of all tests otherwise."""
    opened = await asyncpg.connect(direct_url)
    try:
        yield opened
    finally:
        opened.terminate()


@pytest_asyncio.fixture(loop_scope="session")
async def site(app: Rowlock) -> AsyncIterator[str]:
    """Where the dashboard is, without a slash at the end."""
    async with TestServer(create_app(app, authenticate=nobody_is_asked)) as server:
        yield str(server.make_url("/")).rstrip("/")


@pytest.fixture
def look(request: pytest.FixtureRequest) -> Look:
    """A desktop in the light, unless a test is parametrised with others."""
    return getattr(request, "param", Look())


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser, site: str, look: Look, watch: Watch) -> AsyncIterator[BrowserContext]:
    async with await browser.new_context(
        base_url=site,
        viewport=look.viewport,
        color_scheme=look.theme,
        has_touch=look.device == "phone",
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    ) as context:
        context.set_default_timeout(PATIENCE)
        await watch.over(context)
        yield context
    watch.verify()


@pytest.fixture
def watch(site: str) -> Watch:
    return Watch(site)


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    page = await context.new_page()
    yield page
    await page.unroute_all(behavior="wait")  # what is being answered cannot be once the context is closed
