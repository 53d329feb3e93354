"""The browser of the tests: the Chromium that the machine has, found by its name. None is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, async_playwright

REQUIRED: Final = os.environ.get("ROWLOCK_TEST_BROWSER") == "1"
"""Where this is set, no browser is a failure, not a reason to skip."""

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS: Final = (
    "--no-sandbox",  # root's, in a container
    "--disable-dev-shm-usage",  # of which a container has little
    "--disable-gpu",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # whatever a page tries, it reaches nobody
)


class NoBrowser(Exception):
    """There is no Chromium here; the message says how to get one."""


def executable() -> Path:
    """The browser's program. Raises `NoBrowser`."""
    for name in _NAMES:
        if (found := shutil.which(name)) is not None:
            return Path(found)
    raise NoBrowser(
        f"There is none of {', '.join(_NAMES)} here: install one, as by "
        "apt-get install --no-install-recommends chromium fonts-dejavu-core."
    )


@asynccontextmanager
async def started(program: Path) -> AsyncIterator[Browser]:
    """The browser, running without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()
