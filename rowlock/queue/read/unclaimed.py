"""Read unclaimed jobs: they are due, but no live worker would claim them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from rowlock.queue.read.pages import check_limit

if TYPE_CHECKING:
    from rowlock.queue.connect.database import Database

LOOKED_AT: Final = 1000
"""The due jobs of each queue and priority that are checked for a worker that would claim them."""


class Unclaimed(msgspec.Struct, frozen=True, kw_only=True):
    """Due jobs of one kind that no live worker would claim: how many, how long the first has been due, and why.

    `why`: no worker is alive (`no_worker`); none has the task (`no_task`); none with the task understands this version
    of its arguments (`no_version`); none of these serves the queue (`no_queue`); the workers that would claim them are
    quiet or stopping (`quiet`).
    """

    task: str
    args_version: int
    queue: str
    jobs: int
    waiting: timedelta
    why: Literal["no_worker", "no_task", "no_version", "no_queue", "quiet"]


async def list_unclaimed(database: Database, *, limit: int) -> list[Unclaimed]:
    """The due jobs that no live worker would claim, by kind, the most frequent first."""
    check_limit(limit)
    return [Unclaimed(**row) for row in await database.run("doctor_unclaimed", limit, LOOKED_AT)]
