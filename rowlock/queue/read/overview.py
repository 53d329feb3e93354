"""The overview: waiting and running jobs, live workers, and the jobs that ended within the last minute."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from rowlock.queue.connect.sessions import PLANNER_SETTINGS
from rowlock.queue.jobs.fields import Moment
from rowlock.queue.read.pages import BY_ID, archive_windows
from rowlock.queue.read.queues import MANY, Queue
from rowlock.queue.read.statistics import SHORTEST_STEP, Figures, figures, slot_of
from rowlock.queue.read.unclaimed import LOOKED_AT

if TYPE_CHECKING:
    from rowlock.queue.connect.database import Database

MINUTE: Final = timedelta(minutes=1)
OLDEST: Final = timedelta(seconds=90)
"""Jobs that ended earlier do not belong to the last minute, even if none was counted since."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The state of all queues and workers `at` a moment.

    `waiting` to `blocked` count live jobs, as in `Queue`, in all queues together; `oldest_due_at` is the due time of
    the job that has been due longest. `dead_letters`: jobs that have failed and were not discarded. `last_minute`: the
    jobs that ended in the last counted minute. `unclaimed`: due jobs that no live worker would claim, of the thousand
    due longest in each queue and priority.
    """

    at: Moment
    waiting: int
    scheduled: int
    running: int
    blocked: int
    oldest_due_at: Moment | None
    dead_letters: int
    queues: list[Queue]
    workers: int
    last_minute: Figures
    unclaimed: int


async def count_dead_letters(database: Database, within: frozenset[str] | None = None) -> int:
    """Count the dead letters; `within`: in these queues alone."""
    only, dead_letters = None if within is None else sorted(within), 0
    for window in await archive_windows(database):
        async with database.transaction(plan=BY_ID) as transaction:
            ((found,),) = await transaction.run("count_dead_letters", only, *window)
        dead_letters += found
    return dead_letters


async def read_overview(database: Database, within: frozenset[str] | None = None) -> Overview:
    """Read the overview; `within`: of these queues alone, and of the workers that serve any of them.

    If there are very many live jobs, their number comes from the last sample that names every queue.
    """
    only = None if within is None else sorted(within)
    dead_letters = await count_dead_letters(database, within)
    async with database.transaction(plan=PLANNER_SETTINGS) as transaction:
        ((now, counted),) = await transaction.run("counted_until")
        queues = [Queue(**row) for row in await transaction.run("list_queues", None, MANY)]
        ((workers,),) = await transaction.run("count_workers", only)
        unclaimed = await transaction.run("doctor_unclaimed", None, LOOKED_AT)
        until = slot_of(counted, SHORTEST_STEP)
        since = max(until - MINUTE, slot_of(now - OLDEST, SHORTEST_STEP))
        minute = await transaction.run("read_statistics", SHORTEST_STEP, since, until, only, None, 1)
    seen = [queue for queue in queues if within is None or queue.name in within]
    return Overview(
        at=now,
        waiting=sum(queue.waiting for queue in seen),
        scheduled=sum(queue.scheduled for queue in seen),
        running=sum(queue.running for queue in seen),
        blocked=sum(queue.blocked for queue in seen),
        oldest_due_at=min((queue.oldest_due_at for queue in seen if queue.oldest_due_at is not None), default=None),
        dead_letters=dead_letters,
        queues=seen,
        workers=workers,
        last_minute=Figures(**figures(next(row for row in minute if row["what"] == "total"))),
        unclaimed=sum(row["jobs"] for row in unclaimed if within is None or row["queue"] in within),
    )


__all__ = ["Overview", "count_dead_letters", "read_overview"]
