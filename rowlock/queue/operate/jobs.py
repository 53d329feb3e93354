"""What people do to jobs that are there: cancel, reschedule, retry, discard, delete; and the record of who did it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from rowlock.errors import InvalidOption, JobAlreadyFinished, KeyHeld, WrongState
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.jobs.filter import ALL, JobFilter, Sight
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.json_values import find_defect
from rowlock.queue.jobs.lifecycle import FINAL, LIVE
from rowlock.queue.jobs.new_job import JobOptions, NewJob
from rowlock.queue.jobs.rescheduling import Change
from rowlock.queue.operate.act import Act, acting
from rowlock.queue.read import pages
from rowlock.queue.read.dead_letters import dead, refuse_other_than_dead
from rowlock.queue.read.pages import archive_windows
from rowlock.queue.read.reader import get_job, no_job, parse_id
from rowlock.queue.tasks.arguments import plain_document
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from asyncpg import Record

    from rowlock.queue.enqueue.idempotency import Connection
    from rowlock.queue.enqueue.store import Store
    from rowlock.queue.enqueue.task import Task

CancelAnswer: TypeAlias = Literal["cancelled", "requested"]

BATCH: Final = 1000
"""How many jobs one transaction of a bulk act changes: it holds their rows for some milliseconds."""
FIRST_IDS: Final = 10
LONGEST_REASON: Final = 1000
TRIES: Final = 5

_LIVE: Final = sorted(str(state) for state in LIVE)
_WAITING: Final = {None, "queued", "scheduled", "retrying"}
_RETRYABLE: Final = ("failed", "cancelled", "expired")
_BEGINNING: Final = UUID(int=0)


class BulkResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an act on many jobs, or with `is_dry_run` would become of it.

    `count` is how many jobs were changed, `first_ids` the ids of the first ten. `requested`: how many of them run, and
    were asked to stop (`cancel_many`). `skipped`: how many were left as they are (a dry run does not know): another
    job holds their unique key, or the key of the HTTP API is not for their task's queue (`retry_many`); their time
    would be over before they are due (`reschedule_many`).
    """

    count: int
    first_ids: list[UUID]
    requested: int = 0
    skipped: int = 0
    is_dry_run: bool = False


class Operators:
    """The acts of operators, each in one transaction with its row in the table `operation`."""

    def __init__(self, store: Store, tasks: Mapping[str, Task[..., Any]]) -> None:
        self._store = store
        self._database = store.database
        self._tasks = tasks

    async def cancel(self, job_id: UUID | str, *, reason: str | None, origin: Origin) -> CancelAnswer:
        """Cancel a job. Raises `JobNotFound`, `JobAlreadyFinished`, `InvalidOption`."""
        wanted, why = parse_id(job_id), _checked_reason(reason)
        for _ in range(TRIES):
            async with acting(self._database, ActOnJobs, origin) as act:
                rows = await act.cancel([wanted], why, _LIVE)
                if rows:
                    answer: CancelAnswer = rows[0]["answer"]
                    details = {"answer": answer} | ({} if why is None else {"reason": why})
                    await act.record("cancel", str(wanted), details)
                    return answer
            job = await get_job(self._database, wanted)
            if job.is_finished:
                raise JobAlreadyFinished(f"Job {wanted} ({job.task}) has {job.state} already.", state=job.state)
            # It became live again between the two statements.
        raise WrongState(f"Job {wanted} changes too fast to be cancelled: try again.", state="queued")

    async def reschedule(
        self, job_id: UUID | str, change: Change, *, origin: Origin, within: frozenset[str] | None = None
    ) -> Job:
        """Change a waiting job, if it is in one of the queues `within`.

        Raises `JobNotFound`, `WrongState`, and `InvalidOption` for a time that comes after the job's limit.
        """
        wanted = parse_id(job_id)
        for _ in range(TRIES):
            async with acting(self._database, ActOnJobs, origin) as act:
                for row in await act.reschedule([wanted], change, within):
                    if not row["fits"]:
                        raise change.refusal(wanted, row)
                    await act.record("reschedule", str(wanted), change.details(row))
                    return Job.from_row((await act.run("get_job", wanted))[0])
            job = await get_job(self._database, wanted)
            if within is not None and job.queue not in within:
                raise no_job(wanted)
            if job.is_finished or job.state in {"running", "blocked"}:
                raise WrongState(
                    f"Job {wanted} ({job.task}) cannot be rescheduled: it is {job.state}, and does not wait.",
                    state=job.state,
                )
            # It came back to wait between the two statements.
        raise WrongState(f"Job {wanted} changes too fast to be rescheduled: try again.", state="queued")

    async def delete(self, job_id: UUID | str, *, origin: Origin) -> None:
        """Delete a finished job for good. Raises `JobNotFound`, `WrongState`."""
        wanted = parse_id(job_id)
        async with acting(self._database, ActOnJobs, origin) as act:
            if gone := await act.delete(wanted):
                await act.record("delete", str(wanted), dict(gone))
                return
        job = await get_job(self._database, wanted)
        raise WrongState(
            f"Job {wanted} ({job.task}) cannot be deleted: it is {job.state}, and not finished. Cancel it first.",
            state=job.state,
        )

    async def retry(self, job_id: UUID | str, *, args: Mapping[str, object] | None, origin: Origin) -> Job:
        """Put a finished job back. Raises `JobNotFound`, `WrongState`, `KeyHeld`, `InvalidArguments`."""
        wanted = parse_id(job_id)
        async with acting(self._database, ActOnJobs, origin) as act:
            rows = await act.lock_finished(wanted)
            if rows and rows[0]["state"] in _RETRYABLE:  # seam: retryable
                document, version = (None, None) if args is None else self._checked_args(rows[0]["task"], args)
                if holders := await act.take_keys(rows):
                    raise KeyHeld(
                        f"Job {wanted} cannot go back: job {holders[wanted]} holds its unique key by now. "
                        "Cancel that one, or let it finish, and try again."
                    )
                if await act.retry(rows, document, version):
                    details = {} if document is None else {"args": "given"}
                    await act.record("retry", str(wanted), details | {"state": rows[0]["state"]})
                    return Job.from_row((await act.run("get_job", wanted))[0])
        job = await get_job(self._database, wanted)
        what = "it succeeded: enqueue a new one" if job.state == "succeeded" else f"it is {job.state}, and not finished"
        raise WrongState(f"Job {wanted} ({job.task}) cannot be retried: {what}.", state=job.state)

    async def run_again(
        self,
        job_id: UUID | str,
        *,
        args: Mapping[str, object] | None,
        origin: Origin,
        connection: Connection | None = None,
    ) -> Job:
        """Enqueue a new job that is like a finished one; in the transaction of `connection`, if that is given.

        Raises `JobNotFound`, `WrongState`, `InvalidArguments`.
        """
        wanted = parse_id(job_id)
        async with acting(self._database, ActOnJobs, origin, connection) as act:
            rows = await act.run("get_job", wanted)
            if not rows:
                raise no_job(wanted)
            old = Job.from_row(rows[0])
            if not old.is_finished:
                raise WrongState(
                    f"Job {wanted} ({old.task}) is {old.state}: only a finished one is run again.", state=old.state
                )
            document, version = (rows[0]["args"], None) if args is None else self._checked_args(old.task, args)
            options = JobOptions(
                queue=old.queue,
                priority=old.priority,  # seam: run again
                max_attempts=old.max_attempts,
                timeout=old.timeout,
                tags=tuple(old.tags) or None,
                metadata=old.metadata_json,
            )
            new: NewJob[Any] = NewJob(uuid7(), old.task, document, options, None, version or old.args_version)
            await act.enqueue(self._store, new)
            details: dict[str, object] = {"job": str(new.id)}
            await act.record("run_again", str(wanted), details | ({} if args is None else {"args": "given"}))
            return Job.from_row((await act.run("get_job", new.id))[0])

    async def discard(self, job_id: UUID | str, *, origin: Origin) -> Job:
        """Put a dead letter aside. Raises `JobNotFound`, `WrongState`."""
        wanted = parse_id(job_id)
        async with acting(self._database, ActOnJobs, origin) as act:
            ended = await act.when_finished(wanted)
            if ended and await act.run("discard", [wanted], ended):
                await act.record("discard", str(wanted), {})
        job = await get_job(self._database, wanted)
        if job.state != "failed":
            message = f"Job {wanted} ({job.task}) is {job.state}: only failed ones are discarded."
            raise WrongState(message, state=job.state)
        return job

    async def cancel_many(
        self,
        which: JobFilter,
        *,
        reason: str | None,
        dry_run: bool,
        everything: bool,
        origin: Origin,
        sight: Sight = ALL,
    ) -> BulkResult:
        """Cancel all live jobs that the filter means."""
        why = _checked_reason(reason)
        _refuse_empty(which, everything=everything)
        if which.state in FINAL or which.discarded:
            raise InvalidOption(
                f"state {quoted(which.state or 'failed')} is that of finished jobs, which are not cancelled."
            )
        # seam: cancellable
        stored = {None: _LIVE, "scheduled": ["queued"], "retrying": ["queued"]}.get(which.state, [which.state])

        async def change(act: ActOnJobs, found: Sequence[Record]) -> Counter[str]:
            rows = await act.cancel([row["id"] for row in found], why, stored)
            return Counter(row["answer"] for row in rows)

        details = {} if why is None else {"reason": why}
        return await self._on_many(
            "cancel",
            "find_live",
            which,
            change,
            details,
            stored=stored,
            dry_run=dry_run,
            origin=origin,
            sight=sight,
        )

    async def reschedule_many(
        self,
        which: JobFilter,
        new: Change,
        *,
        dry_run: bool,
        everything: bool,
        origin: Origin,
        sight: Sight = ALL,
    ) -> BulkResult:
        """Change all waiting jobs that the filter means."""
        _refuse_empty(which, everything=everything)
        if which.state not in _WAITING or which.discarded:
            raise InvalidOption(
                f"state {quoted(which.state or 'failed')} is not that of waiting jobs, which alone are rescheduled: "
                "use queued, scheduled or retrying, or leave it out."
            )

        async def change(act: ActOnJobs, found: Sequence[Record]) -> Counter[str]:
            rows = await act.reschedule([row["id"] for row in found], new, sight.queues)
            return Counter("rescheduled" if row["fits"] else "skipped" for row in rows)

        return await self._on_many(
            "reschedule",
            "find_live",
            which,
            change,
            {"to": new.described()},
            stored=["queued"],
            dry_run=dry_run,
            origin=origin,
            sight=sight,
        )

    async def retry_many(
        self, which: JobFilter, *, dry_run: bool, everything: bool, origin: Origin, sight: Sight = ALL
    ) -> BulkResult:
        """Put all finished jobs back that the filter means."""
        _refuse_empty(which, everything=everything)
        if which.state not in {None, *_RETRYABLE}:
            raise InvalidOption(f"state {quoted(which.state)} cannot be retried: use {', '.join(_RETRYABLE)}.")

        async def change(act: ActOnJobs, found: Sequence[Record]) -> Counter[str]:
            locked = await act.run("lock_finished", *_named(found))
            rows = await self._of_seen_tasks(act, locked, sight)
            holders = await act.take_keys(rows)
            back = await act.retry([row for row in rows if row["id"] not in holders])  # seam: retry many
            return Counter(retried=back, skipped=len(locked) - len(rows) + len(holders))

        return await self._on_many(
            "retry", "find_finished", dead(which), change, {}, dry_run=dry_run, origin=origin, sight=sight
        )

    async def discard_many(
        self, which: JobFilter, *, dry_run: bool, everything: bool, origin: Origin, sight: Sight = ALL
    ) -> BulkResult:
        """Put all dead letters aside that the filter means."""
        _refuse_empty(which, everything=everything)
        refuse_other_than_dead(which)

        async def change(act: ActOnJobs, found: Sequence[Record]) -> Counter[str]:
            return Counter(discarded=len(await act.run("discard", *_named(found))))

        return await self._on_many(
            "discard", "find_finished", dead(which), change, {}, dry_run=dry_run, origin=origin, sight=sight
        )

    async def _on_many(
        self,
        verb: str,
        find: str,
        which: JobFilter,
        change: Callable[[ActOnJobs, Sequence[Record]], Awaitable[Counter[str]]],
        details: Mapping[str, object],
        *,
        stored: Sequence[str | None] = (),
        dry_run: bool,
        origin: Origin,
        sight: Sight,
    ) -> BulkResult:
        """Change all jobs that the filter means, batch by batch, each in a transaction of its own.

        `stored`: of live jobs, the states in the table that are meant. Together the changes are one operation, whose
        count each batch brings up to date: what was done before a crash is recorded. What comes in after the start is
        left alone.
        """
        parameters, operation = which.parameters(sight), uuid7()
        done, first = Counter[str](), list[UUID]()
        until = (await self._database.run("until"))[0]["until"]
        of_archive = find == "find_finished"
        windows: list[tuple[object, ...]] = [*await archive_windows(self._database)] if of_archive else [(stored,)]
        for window in windows:
            last: UUID | None = _BEGINNING
            while last is not None:
                async with acting(self._database, ActOnJobs, origin) as act:
                    if of_archive and not dry_run:
                        await act.run("lock_archive", *window)
                    rows = await act.run(find, *parameters, last, BATCH, until, *window, pages.LOOK)
                    found = list(takewhile(lambda row: row["fits"], rows))
                    # seam: dry run
                    changed = Counter(found=len(found)) if dry_run or not found else await change(act, found)
                    done += changed
                    if not dry_run and any(changed.values()):
                        told = {"filter": which.described(), **details, **done}
                        await act.record(verb, None, told, operation=operation)
                first += [row["id"] for row in found[: FIRST_IDS - len(first)]]
                last = _last_looked_at(rows, found)
        skipped = done.pop("skipped", 0)
        return BulkResult(
            count=done.total(),
            first_ids=first,
            requested=done["requested"],
            skipped=skipped,
            is_dry_run=dry_run,
        )

    async def _of_seen_tasks(self, act: ActOnJobs, rows: Sequence[Record], sight: Sight) -> Sequence[Record]:
        """Those jobs whose task is of a queue that is seen: nobody runs the tasks of other queues."""
        if sight.queues is None:
            return rows
        queues = {name: task.queue for name, task in self._tasks.items()}
        for task in {row["task"] for row in rows} - queues.keys():
            queues |= {known["name"]: known["queue"] for known in await act.run("get_task", task)}
        return [row for row in rows if queues.get(row["task"]) in sight.queues]

    def _checked_args(self, task: str, args: Mapping[str, object]) -> tuple[str, int | None]:
        """The new arguments as JSON, and their version: checked against the task's function, if this application has
        it; else they are taken for the same version as the old ones.
        """
        known = self._tasks.get(task)
        if known is None:
            return plain_document(task, args, self._database.settings.max_args_bytes), None
        return known.check(args, known.version)[0], known.version


class ActOnJobs(Act):
    """An act on one job, or on many."""

    kind = "job"
    field = "job_id"

    async def enqueue(self, store: Store, job: NewJob[Any]) -> None:
        """Enqueue a job in this transaction."""
        await store.enqueue(job, self._connection)

    async def take_keys(self, rows: Sequence[Record]) -> dict[UUID, UUID]:
        """Take the unique keys of finished jobs again: returns those whose key another job holds, with that one."""
        keyed = [row for row in rows if row["unique_key"] is not None and row["state"] in _RETRYABLE]
        if not keyed:
            return {}
        held = await self.run("retake_keys", [row["unique_key"] for row in keyed], [row["id"] for row in keyed])
        return {row["id"]: row["holder"] for row in held}

    async def cancel(self, ids: Sequence[UUID], reason: str | None, states: Sequence[str | None]) -> list[Record]:
        """Cancel the jobs, and tell those who wait for them. Rows of cancel.sql."""
        rows = await self.run("cancel", ids, reason, self._origin.by, states)
        await self.run("tell_waiters", ids)
        return rows

    async def reschedule(self, ids: Sequence[UUID], change: Change, within: frozenset[str] | None) -> list[Record]:
        """Change the waiting jobs, and wake the workers that sleep on their queues. Rows of reschedule.sql."""
        queues = None if within is None else sorted(within)
        rows = await self.run("reschedule", ids, *change.parameters, queues)
        if changed := sorted({row["queue"] for row in rows if row["fits"]}):
            await self.run("wake", changed)
        return rows

    async def delete(self, job_id: UUID) -> Record | None:
        """Delete a finished job, however often it is in the archive. A row of delete.sql; None while it is live."""
        gone: list[Record] = []
        while locked := await self.lock_finished(job_id):
            traces = (await self.run("find_traces", job_id))[0]
            # seam: traces
            for name, times in (("delete_attempts", traces["attempts"]), ("delete_logs", traces["logs"])):
                if times:  # no times would name no partitions, and lock all of them
                    await self.run(name, job_id, times)
            gone = await self.run("delete", job_id, [row["finished_at"] for row in locked])
        return gone[0] if gone else None

    async def when_finished(self, job_id: UUID) -> list[datetime]:
        """When the job ended, in a list; an empty one while it is live, or if there is none."""
        return [row["finished_at"] for row in await self.run("get_job", job_id) if row["finished_at"] is not None]

    async def lock_finished(self, job_id: UUID) -> list[Record]:
        """Lock a finished job. A row of lock_finished.sql, or none."""
        ended = await self.when_finished(job_id)
        return await self.run("lock_finished", [job_id], ended) if ended else []

    async def retry(self, locked: Sequence[Record], args: str | None = None, version: int | None = None) -> int:
        """Put the locked jobs back, and wake who sleeps on their queues."""
        if not locked:
            return 0  # no times would name no partitions, and lock all of them
        ids, ended = _named(locked)
        rows = await self.run("retry", ids, args, version, ended)
        await self.run("wake", sorted({row["queue"] for row in rows}))
        return len(rows)


def _last_looked_at(rows: Sequence[Record], found: Sequence[Record]) -> UUID | None:
    """Up to which id a batch has looked; None: at all. `rows` go on, after those found, with some not looked at."""
    if len(found) < len(rows):
        return UUID(int=rows[len(found)]["id"].int - 1)
    return found[-1]["id"] if len(found) == BATCH else None


def _named(rows: Sequence[Record]) -> tuple[list[UUID], list[datetime]]:
    """The ids of finished jobs, and when they ended: in which partitions they are."""
    return [row["id"] for row in rows], [row["finished_at"] for row in rows]


def _checked_reason(reason: object) -> str | None:
    if reason is None:
        return None
    if not isinstance(reason, str) or not 1 <= len(reason) <= LONGEST_REASON or find_defect(reason) is not None:
        raise InvalidOption(f"reason {quoted(reason)} is not usable: use text of 1 to {LONGEST_REASON} characters.")
    return reason


def _refuse_empty(which: JobFilter, *, everything: bool) -> None:
    if which.is_empty and not everything:
        raise InvalidOption("The filter is empty, and means every job: narrow it, or set `everything` to true.")


__all__ = ["BulkResult", "CancelAnswer", "Operators"]
