"""Query a database that may be away: retry until it answers or the time is over."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, TypeVar

from rowlock.errors import DatabaseUnavailable
from rowlock.queue.connect.server_errors import CONNECTION_LOST, is_away, unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rowlock.queue.connect.database import Database

T = TypeVar("T")

_PAUSE_FIRST: Final = 0.05
_PAUSE_MOST: Final = 1.0
"""The longest pause between two tries while the database is away."""


async def ask(
    database: Database,
    question: Callable[[], Awaitable[T]],
    *,
    deadline: float | None,
    limit: float | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
    on_away: Callable[[BaseException], object],
) -> T:
    """Return the answer. Retry while the database is away, until the deadline (a time of the loop; None: for ever).

    No try outlasts the limit, a time of the loop as well. `on_away` gets the first error. Raises `DatabaseUnavailable`
    if the database was away at the end, or when the answer is not wanted any more.
    """
    clock, pause = asyncio.get_running_loop().time, _PAUSE_FIRST
    while True:
        try:
            async with asyncio.timeout_at(limit):  # seam: wait limit
                return await question()
        except (DatabaseUnavailable, *CONNECTION_LOST) as error:
            if not is_away(error):  # seam: outage while waiting
                raise
            left = math.inf if deadline is None else deadline - clock()
            if left <= 0 or not is_wanted():
                raise unavailable(database.settings, error) from error
            if pause == _PAUSE_FIRST:
                on_away(error)
        await asyncio.sleep(min(pause, left))  # and ask once more when the time is over
        pause = min(pause * 2, _PAUSE_MOST)


__all__ = ["ask"]
