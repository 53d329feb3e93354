"""How the tests go through the dashboard: by what is written on it, as people do."""

from __future__ import annotations

import re
from typing import Any, Final

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, Page, expect

_SERIOUS: Final = {"serious", "critical"}


async def visit(page: Page, path: str, title: str | re.Pattern[str]) -> None:
    """Go to a page of the dashboard, and wait until it shows what it has loaded."""
    await page.goto(f"/#{path}")
    await shows(page, title)


async def shows(page: Page, title: str | re.Pattern[str]) -> None:
    """Wait until the page of this title shows what it has loaded."""
    await expect(page.get_by_role("heading", level=1, name=title)).to_be_visible()
    await expect(page.locator("main")).to_have_attribute("aria-busy", "false")


def row(page: Page, text: str) -> Locator:
    """The row of a table, or the card, that has this text."""
    return page.get_by_role("row").filter(has_text=text)


async def fact(page: Page, name: str) -> str:
    """What stands beside a name."""
    return (await page.locator(f"dl.facts > div:has(> dt:text-is('{name}')) > dd").inner_text()).strip()


async def confirm(page: Page, action: str) -> None:
    """Press the dialog's button, and wait until it is done."""
    await page.get_by_role("dialog").get_by_role("button", name=action).click()
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def fits(page: Page) -> bool:
    """Whether the page is as wide as the screen, and no wider."""
    is_so: bool = await page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    return is_so


async def barriers(page: Page) -> list[str]:
    """What is in the way of people who cannot see or point, as axe finds it."""
    found: dict[str, Any] = (await Axe().run(page)).response
    return [
        f"{violation['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for violation in found["violations"]
        if violation["impact"] in _SERIOUS
        for node in violation["nodes"]
    ]
