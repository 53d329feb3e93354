"""Read dead letters: jobs that have failed and were not discarded, one by one or by error."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs.fields import Moment
from rowlock.queue.jobs.filter import ALL, JobFilter, Sight, checked_or_all
from rowlock.queue.read.pages import BY_ID, JobPage, archive_windows, check_limit, list_jobs, time_left
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from rowlock.queue.connect.database import Database


class DeadLetterGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters of one task with one kind of error: how many, and when the first and the last ended.

    `error` is the first line, up to 200 characters, with a # for each number, UUID and long hexadecimal number in it:
    `JobFilter(task=…, error_kind=…)` selects exactly these jobs.
    `is_sensitive`: the errors of this task are hidden, and all in one group.
    """

    task: str
    error: str
    is_sensitive: bool
    jobs: int
    first_at: Moment
    last_at: Moment


class GroupedDeadLetters(list[DeadLetterGroup]):
    """The groups, as a list.

    `searched_until` is None, or how far back the search came within two seconds: older dead letters may be missing.
    """

    def __init__(self, groups: Iterable[DeadLetterGroup], *, searched_until: datetime | None) -> None:
        super().__init__(groups)
        self.searched_until = searched_until


class DeadLetters:
    """The dead letters: `app.dead_letters`. The acts on them are those on jobs: `app.jobs.retry`, `app.jobs.discard`.

    >>> for group in await app.dead_letters.groups():
    ...     await app.jobs.retry_many(JobFilter(task=group.task, error_kind=group.error), by="ada")
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, which: JobFilter | None = None, *, before: UUID | None = None, limit: int = 50) -> JobPage:
        """A page of dead letters: jobs that have failed and were not discarded. Newest first, as in `app.jobs.list`."""
        return await list_dead_letters(self._database, checked_or_all(which), before=before, limit=limit)

    async def groups(self, which: JobFilter | None = None, *, limit: int = 50) -> GroupedDeadLetters:
        """The dead letters by task and error, the most frequent first: how many, since when, and the last one.

        This counts the newest 50,000, for two seconds at most: `searched_until` of the list shows how far back it came.
        """
        return await group_dead_letters(self._database, checked_or_all(which), limit=limit)


async def list_dead_letters(
    database: Database,
    which: JobFilter,
    *,
    before: UUID | None,
    limit: int,
    sight: Sight = ALL,
    has_documents: bool = True,
) -> JobPage:
    """A page of dead letters, newest first."""
    refuse_other_than_dead(which)
    return await list_jobs(database, dead(which), before=before, limit=limit, sight=sight, has_documents=has_documents)


async def group_dead_letters(
    database: Database, which: JobFilter, *, limit: int, sight: Sight = ALL
) -> GroupedDeadLetters:
    """The dead letters by task and error, the most frequent first."""
    refuse_other_than_dead(which)
    check_limit(limit)
    parameters, hidden = dead(which).parameters(sight), list(sight.hidden)
    groups: dict[tuple[str, str], DeadLetterGroup] = {}
    searched_until: datetime | None = None
    left = time_left()
    for window in await archive_windows(database):
        async with database.transaction(plan=BY_ID) as transaction:
            rows = await transaction.run("group_dead_letters", *parameters, None, left(), hidden, *window)
        for row in rows:
            document = dict(row)
            if (end := document.pop("searched_until")) is not None:
                searched_until = end if searched_until is None else max(searched_until, end)
                continue
            group = DeadLetterGroup(**document)
            key = group.task, group.error
            groups[key] = _together(groups[key], group) if key in groups else group
    ordered = sorted(groups.values(), key=lambda group: (group.jobs, group.last_at), reverse=True)[:limit]
    return GroupedDeadLetters(ordered, searched_until=searched_until)


def refuse_other_than_dead(which: JobFilter) -> None:
    """Raise `InvalidOption` for a filter by another state."""
    if which.state not in {None, "failed"}:
        raise InvalidOption(f"state must be that of dead letters, failed; got {quoted(which.state)}. Omit it.")


def dead(which: JobFilter) -> JobFilter:
    """The filter with defaults for dead letters: failed, and not discarded."""
    state = which.state or "failed"
    discarded = False if which.discarded is None and state == "failed" else which.discarded
    return which.but(state=state, discarded=discarded)


def _together(one: DeadLetterGroup, other: DeadLetterGroup) -> DeadLetterGroup:
    return msgspec.structs.replace(
        one,
        jobs=one.jobs + other.jobs,
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
    )
