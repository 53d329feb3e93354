"""Common parts of duties: bounded steps, short waits for locks, and going on when one item fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg

from rowlock import logs
from rowlock.errors import RowlockError, StatementTimeout
from rowlock.queue.connect.server_errors import is_away, message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

log = logs.get_logger("rowlock.worker")

Steps: TypeAlias = AsyncGenerator[None]
"""A running duty. It yields after each bounded step, so that other duties have their turn."""

LOCK_WAIT: Final = 500
"""How long a duty's statement waits for a lock, in milliseconds. Short, because the other duties wait meanwhile."""
SHORT_WAIT: Final = {"lock_timeout": str(LOCK_WAIT)}


async def one_step(do: Callable[[], Awaitable[None]]) -> Steps:
    """Run a short duty as a single step."""
    await do()
    yield


@contextmanager
def going_on(duty: str, **item: str) -> Iterator[None]:
    """Log a failure of the item in the block, and go on behind the block. `item` names it in the log.

    The event is `duty_postponed` if another session holds a lock, and `duty_failed` otherwise. Raises an error that
    means that the database is away: the other items would fail as well.
    """
    try:
        yield
    except asyncpg.LockNotAvailableError as error:
        log.warning("duty_postponed", duty=duty, **item, detail=message(error))
    except (asyncpg.PostgresError, RowlockError) as error:
        if is_away(error) and not isinstance(error, asyncpg.QueryCanceledError | StatementTimeout):
            raise
        failure = {"error": type(error).__name__, "sqlstate": getattr(error, "sqlstate", None)}
        log.warning("duty_failed", duty=duty, **item, **failure, detail=message(error))


__all__ = ["LOCK_WAIT", "SHORT_WAIT", "Steps", "going_on", "one_step"]
