"""Pages of jobs, newest first: each page examines a bounded number of jobs."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID

from rowlock.errors import InvalidOption
from rowlock.queue.connect.sessions import PLANNER_SETTINGS
from rowlock.queue.jobs.filter import ALL, JobFilter, Sight, checked_or_all
from rowlock.queue.jobs.job import Job
from rowlock.values import is_whole
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from asyncpg import Record

    from rowlock.queue.connect.database import Database

MOST_PER_PAGE: Final = 500

LOOK: Final = timedelta(seconds=2)
"""How long one page, or one batch of a bulk act, searches for the filter's jobs. A limit on the number of jobs is not
enough: the search for a text in the arguments reads up to a megabyte of each."""

BY_ID: Final = PLANNER_SETTINGS | {"plan_cache_mode": "force_custom_plan"}
"""Settings for a plan that walks the indexes of all days by id, and stops early. A generic plan, which PostgreSQL uses
after five runs, does not know that the ids have no bounds: it expects few jobs, and reads and sorts them all."""

_STATEMENTS: Final[dict[str | None, str]] = {
    None: "list_jobs",
    "succeeded": "list_jobs",
    "running": "list_running",
    **dict.fromkeys(("failed", "cancelled", "expired"), "list_finished"),
    **dict.fromkeys(("queued", "scheduled", "retrying", "blocked"), "list_live"),
}


class JobPage(list[Job]):
    """A page of jobs, as a list.

    `following` is the `before` of the next page; None after the last one. A page ends after 20,000 examined jobs (5,000
    of those that did not succeed), and after two seconds: then it may contain fewer jobs than requested, even none, and
    still have a next page, and `searched_until` shows how far back it searched.
    """

    def __init__(
        self, jobs: Iterable[Job] = (), *, following: UUID | None = None, searched_until: datetime | None = None
    ) -> None:
        super().__init__(jobs)
        self.following = following
        self.searched_until = searched_until


async def list_jobs(
    database: Database,
    which: JobFilter | None = None,
    *,
    before: UUID | None = None,
    limit: int = 50,
    sight: Sight = ALL,
    has_documents: bool = True,
) -> JobPage:
    """A page of at most 500 jobs, newest first; `before` is the last id of the previous page. Raises `InvalidOption`.

    Without documents, they have neither arguments nor results, which may be a megabyte each.
    """
    which = checked_or_all(which)
    check_before(before)
    check_limit(limit)
    name = _STATEMENTS[which.state]
    if name not in {"list_jobs", "list_finished"}:
        async with database.transaction(plan=BY_ID) as transaction:
            return _page(
                await transaction.run(name, *which.parameters(sight, before=before), limit, LOOK, has_documents), limit
            )
    left = time_left()
    page = JobPage()
    for number, window in enumerate(await archive_windows(database)):
        # Each window must be searched, but no further back than those before it: most find nothing there.
        parameters = which.but(after=page.following or which.after).parameters(sight, before=before)
        among = (*window, number == 0) if name == "list_jobs" else window  # the live jobs, too
        async with database.transaction(plan=BY_ID) as transaction:
            found = _page(await transaction.run(name, *parameters, limit, left(), has_documents, *among), limit)
        page = _merged(page, found, limit)
    return page


async def archive_windows(database: Database) -> list[tuple[datetime, datetime]]:
    """The archive in windows of a bounded number of partitions, newest first: each statement locks those of one."""
    return [(row["low"], row["high"]) for row in await database.run("archive_windows")]


def time_left() -> Callable[[], timedelta]:
    """Start the clock of a search; return a function for its remaining time. Each window of the archive gets a minimum:
    planning for many of them may use up all of it.
    """
    now = asyncio.get_running_loop().time
    until = now() + LOOK.total_seconds()
    return lambda: max(timedelta(seconds=until - now()), LOOK / 40)


def _page(rows: Sequence[Record], limit: int) -> JobPage:
    jobs = [Job.from_row(row) for row in takewhile(lambda row: not row["is_end"], rows)]
    if len(jobs) == limit:
        return JobPage(jobs, following=jobs[-1].id)
    if len(jobs) == len(rows):
        return JobPage(jobs)
    end = rows[len(jobs)]  # the first that was not examined
    return JobPage(jobs, following=UUID(int=end["id"].int + 1), searched_until=end["created_at"])


def _merged(one: JobPage, other: JobPage, limit: int) -> JobPage:
    """Merge the pages of two windows, down to the id down to which both were searched."""
    looked = [page for page in (one, other) if page.following is not None]
    highest = max(looked, key=lambda page: cast("UUID", page.following), default=None)
    jobs = sorted(
        (job for job in (*one, *other) if highest is None or job.id >= cast("UUID", highest.following)),
        key=lambda job: job.id,
        reverse=True,
    )[:limit]
    if len(jobs) == limit:
        return JobPage(jobs, following=jobs[-1].id)
    if highest is None:
        return JobPage(jobs)
    return JobPage(jobs, following=highest.following, searched_until=highest.searched_until)


def check_limit(limit: object, most: int = MOST_PER_PAGE) -> None:
    """Raise `InvalidOption` for an invalid page length."""
    if not is_whole(limit, 1, most):
        raise InvalidOption(f"limit must be a whole number from 1 to {most}; got {quoted(limit)}.", option="limit")


def check_before(before: object) -> None:
    """Raise `InvalidOption` for a `before` that is not a UUID."""
    if before is not None and not isinstance(before, UUID):
        raise InvalidOption(
            f"before must be an id, a UUID; got {quoted(before)}. Use the last id of the page before.", option="before"
        )


__all__ = ["LOOK", "JobPage", "archive_windows", "check_before", "check_limit", "list_jobs", "time_left"]
