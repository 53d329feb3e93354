"""Take the pictures of docs/dashboard.md: `make screenshots`. Of an invented shop, busy on a server of its own."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path
from typing import Final

import asyncpg
from aiohttp.test_utils import TestServer
from PIL import Image
from playwright.async_api import Browser

from rowlock import Rowlock, Settings
from rowlock.api import create_app, nobody_is_asked
from rowlock.embedded import temporary_server
from rowlock.migrations import upgrade
from tests.browser import chromium
from tests.browser.conftest import LOOKS, Look
from tests.browser.shop import busy_shop, make_app
from tests.browser.visiting import visit

FOLDER: Final = Path(__file__).parents[2] / "docs" / "images"
ON_A_PHONE: Final = {"overview", "jobs", "job", "queues"}
COLOURS: Final = 128


async def take_all(database_url: str) -> None:
    """Take them all, one after the other."""
    async with (
        make_app(database_url) as app,
        busy_shop(app),
        TestServer(create_app(app, authenticate=nobody_is_asked)) as server,
        chromium.started(chromium.executable()) as browser,
    ):
        pages = await _pages(app)
        await asyncio.sleep(15)  # for the shop to be busy for a while
        for look in LOOKS:
            wanted = {name: page for name, page in pages.items() if look.device == "desktop" or name in ON_A_PHONE}
            await _take(browser, str(server.make_url("/")), look, wanted)


async def _pages(app: Rowlock) -> dict[str, tuple[str, str]]:
    """The pages, by the name of the picture: where each is, and its title."""
    connection = await asyncpg.connect(app.settings.database_url)
    worker = await connection.fetchval("SELECT id FROM rowlock.worker WHERE hostname = 'worker-a.shop'")
    failed, running = [
        await connection.fetchval("SELECT id FROM rowlock.jobs WHERE state = $1 AND task = $2 ORDER BY id DESC", *which)
        for which in (("failed", "charge_card"), ("running", "resize_image"))
    ]
    await connection.close()
    return {
        "overview": ("/?window=24h", "Overview"),
        "jobs": ("/jobs", "Jobs"),
        "job": (f"/jobs/{failed}", "charge_card"),
        "running": (f"/jobs/{running}", "resize_image"),
        "queues": ("/queues", "Queues"),
        "queue": ("/queues/webhooks", "Queue webhooks"),
        "workers": ("/workers", "Workers"),
        "worker": (f"/workers/{worker}", "Worker worker-a.shop"),
        "schedules": ("/schedules", "Schedules"),
        "schedule": ("/schedules/clean_up_carts", "Schedule clean_up_carts"),
        "dead-letters": ("/dead-letters", "Dead letters"),
        "operations": ("/operations", "Operations"),
    }


async def _take(browser: Browser, site: str, look: Look, pages: dict[str, tuple[str, str]]) -> None:
    context = await browser.new_context(
        base_url=site, viewport=look.viewport, color_scheme=look.theme, locale="en-GB", timezone_id="UTC"
    )
    page = await context.new_page()
    for name, (path, title) in pages.items():
        await visit(page, path, title)
        await page.wait_for_load_state("networkidle")
        file = FOLDER / f"{name}-{look.theme}{'-phone' if look.device == 'phone' else ''}.png"
        print(f"{file.name}: {_save(await page.screenshot(), file) // 1000} kB")
    await context.close()


def _save(taken: bytes, file: Path) -> int:
    picture = Image.open(io.BytesIO(taken)).convert("RGB")
    few = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(file, optimize=True)
    return file.stat().st_size


def main() -> int:
    """Take the pictures. Returns 1 where there is no browser."""
    try:
        chromium.executable()
    except chromium.NoBrowser as error:
        print(error)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with temporary_server() as server:
        upgrade(Settings(database_url=server.url))
        asyncio.run(take_all(server.url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
