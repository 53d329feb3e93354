"""Pages of jobs: newest first, each after a bounded look, however many jobs there are."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from rowlock.errors import InvalidOption
from rowlock.queue.connections import PLANNER_SETTINGS
from rowlock.queue.filters import ALL, JobFilter, Sight
from rowlock.queue.job import Job
from rowlock.queue.planning import planned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rowlock.queue.client import Client

MOST_PER_PAGE: Final = 500

BY_ID: Final = PLANNER_SETTINGS | {"plan_cache_mode": "force_custom_plan"}
"""What walks the indexes of all days by id, and stops early. A generic plan, which PostgreSQL takes after five times,
does not know that the ids have no bounds: it expects few jobs, and reads and sorts them all."""

_STATEMENTS: Final[dict[str | None, str]] = {
    None: "list_jobs",
    "succeeded": "list_jobs",
    "running": "list_running",
    **dict.fromkeys(("failed", "cancelled", "expired"), "list_finished"),
    **dict.fromkeys(("queued", "scheduled", "retrying", "blocked"), "list_live"),
}


class JobPage(list[Job]):
    """A page of jobs, as a list.

    `following` is what to give as `before` for the next page; None after the last one. A page ends after
    so many jobs that were looked at (20,000, or 5,000 of those that did not succeed): then it may have fewer than were
    asked for, even none, and still have a next one, and `searched_until` says how far back it looked.
    """

    def __init__(
        self, jobs: Iterable[Job] = (), *, following: UUID | None = None, searched_until: datetime | None = None
    ) -> None:
        super().__init__(jobs)
        self.following = following
        self.searched_until = searched_until


async def list_jobs(
    client: Client, which: JobFilter, *, before: UUID | None, limit: int, sight: Sight = ALL
) -> JobPage:
    """The jobs that the filter means, below the id `before`. Raises `InvalidOption`."""
    check_limit(limit)
    async with planned(client, BY_ID) as fetch:
        rows = await fetch(_STATEMENTS[which.state], *which.parameters(sight, before=before), limit)
    jobs = [Job.from_row(row) for row in rows if not row["is_end"]]
    if rows and rows[-1]["is_end"]:
        return JobPage(jobs, following=rows[-1]["id"], searched_until=rows[-1]["created_at"])
    return JobPage(jobs, following=jobs[-1].id if len(jobs) == limit else None)


def check_limit(limit: int) -> None:
    """Raise `InvalidOption` for what is no length of a page."""
    if not 1 <= limit <= MOST_PER_PAGE:
        raise InvalidOption(f"limit {limit} is out of range: use 1 to {MOST_PER_PAGE}.")


__all__ = ["JobPage", "check_limit", "list_jobs"]
