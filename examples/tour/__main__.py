"""`python -m examples.tour [PAGE …]`: a line for each example of these pages of the documentation, or of all.

The exit status is 0 if all of them ran.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import structlog
from rich.console import Console

from examples.tour.pages import PAGES, Example, name_of, run_page
from rowlock import Rowlock, Settings
from rowlock.embedded import temporary_server
from rowlock.migrations import upgrade

if TYPE_CHECKING:
    from collections.abc import Sequence

ORDERS = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, customer text NOT NULL)"
"""The application's own table, which the pages speak of."""


def main() -> int:
    """Run the pages, each in a database of its own. Returns 0 if every example ran, 1 if one did not."""
    wanted = sys.argv[1:]
    pages = [page for page in PAGES if not wanted or name_of(page) in wanted]
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    with temporary_server() as server, Path(os.devnull).open("w") as nowhere:
        logging.basicConfig(stream=nowhere)  # what is logged is the examples' own
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(nowhere))
        failed = asyncio.run(_tour(pages, console, server.url))
    console.print(f"{failed} pages failed." if failed else "Every example ran.")
    return 1 if failed else 0


async def _tour(pages: Sequence[Path], console: Console, url: str) -> int:
    failed = 0
    for number, page in enumerate(pages):
        last: Example | None = None
        names: dict[str, Any] = {"__name__": "examples_of_a_page"}
        admin = await asyncpg.connect(url)
        await admin.execute(f"CREATE DATABASE page_{number}")
        await admin.close()
        os.environ["ROWLOCK_DATABASE_URL"] = own = urlunsplit(urlsplit(url)._replace(path=f"/page_{number}"))
        await asyncio.to_thread(upgrade, Settings(database_url=own))
        connection = await asyncpg.connect(own)
        try:
            await connection.execute(ORDERS)
            with contextlib.redirect_stdout(io.StringIO()):  # what the examples print is theirs
                async for last in run_page(page, names, connection):
                    console.print(f"ok  {last.place}  {last.heading}", markup=False)
        except Exception:  # noqa: BLE001  # an example can raise anything; the others are run nevertheless
            failed += 1
            after = "at its beginning" if last is None else f"after {last.place}"
            console.print(f"FAILED  {name_of(page)}, {after}\n{traceback.format_exc()}", markup=False)
        finally:
            for value in list(names.values()):
                if isinstance(value, Rowlock):
                    await value.close()
            await connection.close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
