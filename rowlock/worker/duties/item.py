"""How a duty goes on with its other items when one of them fails."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg

from rowlock import logs
from rowlock.errors import RowlockError, StatementTimeout
from rowlock.queue.connect.server_errors import is_away, message

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logs.get_logger("rowlock.worker")


@contextmanager
def going_on(duty: str, **item: str) -> Iterator[None]:
    """Log that the item in the block failed, and go on behind the block. `item` names it in the log.

    It is `duty_postponed` if somebody keeps a lock, and `duty_failed` otherwise. What says that the database is away is
    raised: the other items would fail as well.
    """
    try:
        yield
    except asyncpg.LockNotAvailableError as error:
        log.warning("duty_postponed", duty=duty, **item, detail=message(error))
    except (asyncpg.PostgresError, RowlockError) as error:
        if is_away(error) and not isinstance(error, asyncpg.QueryCanceledError | StatementTimeout):
            raise
        told = {"error": type(error).__name__, "sqlstate": getattr(error, "sqlstate", None)}
        log.warning("duty_failed", duty=duty, **item, **told, detail=message(error))


__all__ = ["going_on"]
