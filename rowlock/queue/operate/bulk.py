"""A bulk act on all jobs that a filter selects: batch by batch, each in a transaction of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.filter import JobFilter, Sight, checked
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.operate.act import acting
from rowlock.queue.operate.act_on_jobs import ActOnJobs
from rowlock.queue.read import pages
from rowlock.queue.read.pages import archive_windows

if TYPE_CHECKING:
    from asyncpg import Record

    from rowlock.queue.connect.database import Database
    from rowlock.queue.jobs.actor import Origin

BATCH: Final = 1000
"""The number of jobs that one transaction of a bulk act changes: it locks their rows for some milliseconds."""
FIRST_IDS: Final = 10

_BEGINNING: Final = UUID(int=0)

ChangeBatch: TypeAlias = Callable[[ActOnJobs, Sequence["Record"]], Awaitable[Counter[str]]]
"""Change one batch in its transaction; return the number of jobs by outcome."""


class BulkResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an act on many jobs, or with `is_dry_run` its expected result.

    `count` is the number of changed jobs, `first_ids` the ids of the first ten. `requested`: the number of them that
    run and were asked to stop (`cancel_many`). `skipped`: the number of unchanged jobs (a dry run does not know it):
    another job holds their unique key, or the API key does not include their task's queue (`retry_many`); they would
    expire, or reach their deadline, before they are due (`reschedule_many`).
    """

    count: int
    first_ids: list[UUID]
    requested: int = 0
    skipped: int = 0
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """One act on many jobs: its verb in the audit, the statement that finds the jobs, and the change.

    `stored`: the stored states that are selected, for live jobs. `details`: additional details for the audit.
    """

    verb: str
    find: str
    which: JobFilter
    change: ChangeBatch
    stored: Sequence[str | None] = ()
    details: Mapping[str, object] = field(default_factory=dict)

    async def run(self, database: Database, origin: Origin, sight: Sight, *, dry_run: bool) -> BulkResult:
        """Change all jobs that the filter selects.

        Together the changes are one operation; each batch updates its count, so that the changes before a crash are
        recorded. Jobs enqueued after the start stay unchanged.
        """
        parameters, operation = self.which.parameters(sight), uuid7()
        done, first = Counter[str](), list[UUID]()
        until = (await database.run("until"))[0]["until"]
        of_archive = self.find == "find_finished"
        windows: list[tuple[object, ...]] = [*await archive_windows(database)] if of_archive else [(self.stored,)]
        for window in windows:
            last: UUID | None = _BEGINNING
            while last is not None:
                async with acting(database, ActOnJobs, origin) as act:
                    if of_archive and not dry_run:
                        await act.run("lock_archive", *window)
                    rows = await act.run(self.find, *parameters, BATCH, pages.LOOK, last, until, *window)
                    found = list(takewhile(lambda row: row["fits"], rows))
                    # seam: dry run
                    changed = Counter(found=len(found)) if dry_run or not found else await self.change(act, found)
                    done += changed
                    if not dry_run and any(changed.values()):
                        told = {"filter": self.which.described(), **self.details, **done}
                        await act.record(self.verb, None, told, operation=operation)
                first += [row["id"] for row in found[: FIRST_IDS - len(first)]]
                last = _last_looked_at(rows, found)
        skipped = done.pop("skipped", 0)
        return BulkResult(
            count=done.total(), first_ids=first, requested=done["requested"], skipped=skipped, is_dry_run=dry_run
        )


def _last_looked_at(rows: Sequence[Record], found: Sequence[Record]) -> UUID | None:
    """The last id that a batch has examined; None: all. `rows` continue, after `found`, with unexamined rows."""
    if len(found) < len(rows):
        return UUID(int=rows[len(found)]["id"].int - 1)
    return found[-1]["id"] if len(found) == BATCH else None


def check_many(which: object, *, dry_run: object, everything: object) -> None:
    """Check the arguments that all acts on many jobs have.

    Raises `InvalidOption`, also for a filter that selects every job, unless `everything` allows that.
    """
    checks.flag("dry_run", dry_run)
    checks.flag("everything", everything)
    if checked(which).is_empty and not everything:
        raise InvalidOption("The filter is empty and selects every job. Narrow it, or set `everything` to true.")


__all__ = ["Bulk", "BulkResult", "check_many"]
