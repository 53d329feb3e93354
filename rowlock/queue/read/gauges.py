"""PostgreSQL's state under the queue: the oldest transaction, which keeps dead rows, and the sizes of the tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rowlock.queue.connect.sessions import PLANNER_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowlock.queue.connect.database import Database

LONGEST: Final = 3.0
"""Seconds. A query that runs so often must not take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One of Rowlock's tables, with all its partitions: its rows as vacuum counts them, and its bytes."""

    name: str
    live: int
    dead: int
    bytes: int


async def read_horizon(database: Database) -> float:
    """The age in seconds of the server's oldest open transaction, of those that this user may see."""
    async with database.transaction(plan=PLANNER_SETTINGS, timeout=LONGEST) as transaction:
        rows = await transaction.run("doctor_horizon", timedelta(0), timedelta(0))
    age: timedelta = rows[0]["age"] if rows else timedelta(0)
    return age.total_seconds()


async def read_tables(database: Database) -> Sequence[Table]:
    """Rowlock's tables, by name."""
    async with database.transaction(plan=PLANNER_SETTINGS, timeout=LONGEST) as transaction:
        return [Table(**row) for row in await transaction.run("measure_tables")]


__all__ = ["Table", "read_horizon", "read_tables"]
