"""Store an application's jobs: one or many, in its own transaction or a caller's, each once."""

from __future__ import annotations

import asyncio
import operator
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from rowlock.errors import DuplicateJob, InvalidOption
from rowlock.queue.connect import drivers, server_errors
from rowlock.queue.connect.database import LOCK_WAIT, Database
from rowlock.queue.connect.drivers import uuid_of
from rowlock.queue.enqueue import columns
from rowlock.queue.enqueue.errors import EnqueueUnknown
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.options import JobOptions
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from rowlock.queue.connect.transaction import OwnTransaction, Transaction


R = TypeVar("R")
T = TypeVar("T")


class _FinishedBefore(Exception):
    """Some of the jobs of a COPY have finished already."""


_STORED_BEFORE: Final = (asyncpg.UniqueViolationError, DuplicateJob, _FinishedBefore)
"""The errors of a COPY of which some jobs are live or finished, perhaps while another job holds their key."""

_TRY_AGAIN: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, server_errors.WritesRefused)
_PAUSES: Final = (0.02, 0.05, 0.1, 0.2)
"""The longest pauses before each retry of an enqueue after one of these errors, in seconds."""

_MOST_FOUND: Final = 1000
"""Finished jobs in the range of a bulk enqueue's ids. If there are more, its own ids are looked up one by one."""

_YOUNG: Final = 3_600_000
"""Milliseconds: the age of an id up to which only the archive's last days are searched for it."""

_LONGEST_COPY: Final = 3600.0
"""Seconds. The number of jobs is unknown; TCP detects a dead peer."""


Tracer: TypeAlias = Callable[[Sequence[NewJob[Any]]], AbstractContextManager[str | None]]
"""Called around each enqueue with its jobs, it returns the W3C trace context that they carry."""


class Store:
    """Stores jobs in a database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tracer: Tracer | None = None

    async def enqueue(self, job: NewJob[Any], connection: object = None) -> UUID:
        """Store the job, in the caller's transaction if its connection is given. A job whose id is
        live already is not stored again.

        Returns the job's id, or that of the job which holds its unique key. Raises `DuplicateJob` for
        `on_duplicate="raise"`, and `EnqueueUnknown`.
        """
        if self.tracer is None:
            return await self._enqueue(job, connection)  # seam: caller's transaction
        with self.tracer([job]) as trace:
            return await self._enqueue(_traced(job, trace, {}), connection)

    async def _enqueue(self, job: NewJob[Any], connection: object) -> UUID:
        if job.options.are_plain:
            name, parameters = "enqueue_plain", columns.plain(job)
        else:
            lock_wait = LOCK_WAIT if connection is None and job.unique_key is not None else None
            name, parameters = "enqueue", (*columns.parameters(job), lock_wait)
            if columns.needs_clock(job.options):
                (moment,) = await self.database.run("moment", connection=connection)
                columns.check_due(job, moment[0])
        rows: Sequence[Any]
        if connection is not None:
            rows = await self.database.run(name, *parameters, connection=connection)
        elif job.unique_key is not None:
            rows = await self._in_own_transaction([job], partial(self.database.run, name, *parameters))
        else:
            rows = await self._tried([job], partial(self.database.run, name, *parameters))
        if name == "enqueue_plain":
            return job.id
        stored = uuid_of(rows[0][0])
        if stored != job.id:
            _refuse_duplicate(job, stored)
        return stored

    async def enqueue_many(
        self, jobs: Iterable[NewJob[R]], connection: object = None
    ) -> tuple[list[NewJob[R]], dict[UUID, UUID]]:
        """Store the jobs that were never stored, or none: by COPY in a transaction of its own, or in the caller's if
        its connection is given.

        Live jobs stay unchanged, and so do finished ones, as long as they are kept. Returns the jobs, and maps each job
        that was refused because of its unique key to the holder of the key. Raises `DuplicateJob` if one of them has
        `on_duplicate="raise"`: then nothing is stored; and `EnqueueUnknown`.
        """
        if self.tracer is not None:
            given = list(_new_jobs(jobs, []))
            with self.tracer(given) as trace:
                known: dict[int, JobOptions] = {}
                return await self._enqueue_all([_traced(job, trace, known) for job in given], connection)
        return await self._enqueue_all(jobs, connection)

    async def _enqueue_all(
        self, jobs: Iterable[NewJob[R]], connection: object
    ) -> tuple[list[NewJob[R]], dict[UUID, UUID]]:
        if connection is not None:
            return await self._enqueue_by_caller(list(_new_jobs(jobs, [])), connection)
        return await self._enqueue_by_copy(jobs)  # seam: copy

    async def _enqueue_by_caller(
        self, given: list[NewJob[R]], connection: object
    ) -> tuple[list[NewJob[R]], dict[UUID, UUID]]:
        async with self.database.transaction(connection) as transaction:
            if isinstance(connection, drivers.OF_ASYNCPG) and not connection.is_in_transaction():
                async with connection.transaction():
                    return given, await self._insert_missing(given, transaction)
            return given, await self._insert_missing(given, transaction)

    async def _enqueue_by_copy(self, jobs: Iterable[NewJob[R]]) -> tuple[list[NewJob[R]], dict[UUID, UUID]]:
        failed: list[BaseException] = []
        given: list[NewJob[R]] = []
        coming = _new_jobs(jobs, failed)
        if (first := next(coming, None)) is None:
            return [], {}
        coming = chain((first,), coming)
        await self.database.dsn()
        try:
            async with self.database.transaction() as own:
                return given, await self._copy_many(given, coming, own)
        except (*_STORED_BEFORE, asyncpg.LockNotAvailableError, *_TRY_AGAIN):
            if failed:
                raise
            given.extend(coming)
        except server_errors.CONNECTION_LOST as error:
            if isinstance(error, asyncpg.QueryCanceledError) and not failed:
                raise server_errors.cancelled("enqueue", error) from error
            if failed or _is_known(error):
                raise
            given.extend(coming)
            raise _unknown(given, error) from error  # seam: unknown enqueue
        return given, await self._in_own_transaction(given, lambda: self._insert_own(given))

    async def _copy_many(
        self, given: list[NewJob[R]], coming: Iterator[NewJob[R]], own: OwnTransaction
    ) -> dict[UUID, UUID]:
        """Copy the coming jobs, and add them to `given`.

        Up to the first job with a time or a key of its own, jobs are read one by one as they are sent, so that the
        server works on some while the caller's iterator makes the next.
        """
        (row,) = await own.run("moment")  # the claims' cursors need it before the first row
        now: datetime = row["now"]
        await self._copy(own, map(columns.plain, _take_plain(given, coming)), columns.PLAIN)
        holders: dict[UUID, UUID] = {}
        if not given[-1].options.are_plain:
            start = len(given) - 1
            given.extend(coming)
            timed = [job for job in given[start:] if job.unique_key is None]
            await self._copy(own, ((*columns.plain(job), *columns.timed(job, now)) for job in timed), columns.TIMED)
            await own.run("limit_lock_wait", LOCK_WAIT)
            holders = await self._insert_unique(given[start:], own)
        if await self._follow_up(given, own):
            raise _FinishedBefore
        return holders

    async def _copy(self, own: OwnTransaction, records: Iterable[tuple[object, ...]], columns: Sequence[str]) -> None:
        await own.connection.copy_records_to_table(
            "job", schema_name=self.database.settings.schema, columns=columns, records=records, timeout=_LONGEST_COPY
        )

    async def _insert_own(self, jobs: Sequence[NewJob[Any]]) -> dict[UUID, UUID]:
        """`_insert_missing` in its own transaction. Its commit waits for the standby, even if no job is missing."""
        async with self.database.transaction() as own:
            await own.run("limit_lock_wait", LOCK_WAIT)
            await own.run("leave_trace")
            return await self._insert_missing(jobs, own)

    async def _insert_missing(self, jobs: Sequence[NewJob[Any]], transaction: Transaction) -> dict[UUID, UUID]:
        """Store those jobs that are neither live nor finished.

        A live job may finish before the insert, which then treats it as new. After the insert it cannot: the insert
        locks its id's row. Therefore the search for finished jobs comes after the insert.
        """
        holders: dict[UUID, UUID] = {}
        missing = list(jobs)
        while missing:
            await transaction.run("savepoint")
            refusal: DuplicateJob | None = None
            try:
                holders = await self._insert_all(missing, transaction)
            except DuplicateJob as error:
                refusal = error
            if not (finished := await self._follow_up(missing, transaction)) and refusal is None:
                await transaction.run("release_savepoint")
                return holders
            await transaction.run("rollback_to_savepoint")
            await transaction.run("release_savepoint")
            if refusal is not None and not finished:
                raise refusal
            missing = [job for job in missing if job.id not in finished]
        return {}

    async def _follow_up(self, jobs: Sequence[NewJob[Any]], transaction: Transaction) -> set[UUID]:
        """Wake the workers, after the jobs' rows. Returns the jobs that had finished before.

        Jobs are mostly enqueued right after they were made. In a range of young ids few jobs are finished, which costs
        one query for any number of jobs. Only ids that are old, or many in their range, are looked up one by one.
        """
        ids, queues = sorted(map(_ID, jobs)), _queues(jobs)
        if _are_young(ids):
            rows = await transaction.run("follow_up_many", queues, ids[0], ids[-1], _MOST_FOUND)
            finished = {uuid_of(row[0]) for row in rows if row[0] is not None}
            if len(finished) < _MOST_FOUND:
                return finished.intersection(ids)  # seam: finished meanwhile
        else:
            await transaction.run("wake", queues)
        rows = await transaction.run("list_finished_of", ids)
        return {uuid_of(row[0]) for row in rows}

    async def _in_own_transaction(self, jobs: Sequence[NewJob[Any]], store: Callable[[], Awaitable[T]]) -> T:
        """Call `store`, which stores the jobs in a transaction of Rowlock's own. Retry a few times after a deadlock, or
        if a server accepted no writes.

        Raises `EnqueueUnknown` if the connection was lost during the call, and `LockTimeout`.
        """
        if not any(job.unique_key is not None for job in jobs):
            return await self._tried(jobs, store)
        what = f"the unique key {quoted(jobs[0].unique_key)}" if len(jobs) == 1 else "a unique key of these jobs"
        return await self.database.patiently(lambda: self._tried(jobs, store), what)

    async def _tried(self, jobs: Sequence[NewJob[Any]], store: Callable[[], Awaitable[T]]) -> T:
        if self.database.url is None:
            await self.database.dsn()  # before anything is sent: an error here leaves nothing unknown
        try:
            for longest in _PAUSES:
                try:
                    return await store()
                except _TRY_AGAIN:
                    await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  # a jitter is not secret
            return await store()
        except server_errors.CONNECTION_LOST as error:
            if _is_known(error):
                raise
            raise _unknown(jobs, error) from error

    async def _insert_all(self, jobs: Sequence[NewJob[Any]], transaction: Transaction) -> dict[UUID, UUID]:
        new = [job for job in jobs if job.unique_key is None]
        if new:
            await _check_due(new, transaction)
            await transaction.run("enqueue_many", *columns.arrays(new))
        return await self._insert_unique(jobs, transaction)

    async def _insert_unique(self, jobs: Sequence[NewJob[Any]], transaction: Transaction) -> dict[UUID, UUID]:
        """Enqueue the jobs with a unique key. Returns the ids of the refused ones, with the holder of each key."""
        keyed = [job for job in jobs if job.unique_key is not None]
        if not keyed:
            return {}
        await _check_due(keyed, transaction)
        keys = [(job.unique_key or "").partition(":")[2] for job in keyed]
        how = zip(*(columns.unique_rules(job.options.unique) for job in keyed), strict=True)
        rows = await transaction.run("enqueue_unique", *columns.arrays(keyed), keys, *map(list, how))
        holders = {uuid_of(row[0]): uuid_of(row[1]) for row in rows}
        for job in keyed:
            if job.id in holders:
                _refuse_duplicate(job, holders[job.id])
        return holders


_ID: Final[Callable[[NewJob[Any]], UUID]] = operator.attrgetter("id")


def _are_young(ids: Sequence[UUID]) -> bool:
    """Whether these sorted ids were all made a short time ago, by the time in them."""
    now = time.time() * 1000
    return all(one.version == 7 and abs(now - (one.int >> 80)) < _YOUNG for one in (ids[0], ids[-1]))


def _new_jobs(jobs: Iterable[NewJob[R]], failed: list[BaseException]) -> Iterator[NewJob[R]]:
    """The caller's jobs. Raises `InvalidOption` for anything else.

    The errors of the caller's iterator go to `failed` as well, to distinguish them from the connection's.
    """
    try:
        if not isinstance(jobs, Iterable):
            raise _no_jobs("must be a list of jobs", jobs)  # noqa: TRY301  # one of the errors to note
        for job in jobs:
            if not isinstance(job, NewJob):
                raise _no_jobs("must contain jobs alone", job)  # noqa: TRY301
            yield job
    except BaseException as error:
        failed.append(error)
        raise


def _no_jobs(rule: str, given: object) -> InvalidOption:
    return InvalidOption(
        f"jobs {rule}; got {quoted(given)}. Make each with task.job(...), or with await app.job(...).", option="jobs"
    )


def _is_known(error: BaseException) -> bool:
    """Whether an error proves that nothing was stored."""
    return isinstance(error, ValueError) or isinstance(error.__cause__, asyncpg.QueryCanceledError)


def _unknown(jobs: Sequence[NewJob[Any]], error: BaseException) -> EnqueueUnknown:
    what = f"job {jobs[0].id} ({jobs[0].task}) is" if len(jobs) == 1 else f"{len(jobs)} jobs from {jobs[0].id} on are"
    return EnqueueUnknown(
        f"The connection to the database was lost before it answered ({type(error).__name__}): whether the {what} "
        "stored is unknown. Run `await app.enqueue_many(error.jobs)`, at any time: it stores only the missing jobs.",
        jobs=jobs,
    )


def _traced(job: NewJob[R], trace: str | None, known: dict[int, JobOptions]) -> NewJob[R]:
    """The job with this trace. `known` caches the new options by the options that jobs share."""
    if trace is None:
        return job
    options = known.get(id(job.options))
    if options is None:
        options = known[id(job.options)] = msgspec.structs.replace(job.options, trace=trace)
    return msgspec.structs.replace(job, options=options)


def _take_plain(given: list[NewJob[R]], coming: Iterator[NewJob[R]]) -> Iterator[NewJob[R]]:
    """Yield the jobs before the first whose options are not plain; add all of them to `given`, that one included."""
    plain: JobOptions | None = None
    for job in coming:
        given.append(job)
        if job.options is not plain:
            if not job.options.are_plain:
                return
            plain = job.options
        yield job


async def _check_due(jobs: Sequence[NewJob[Any]], transaction: Transaction) -> None:
    """Raise `InvalidOption` for a job that would end before it is due, where only the database's clock shows that."""
    if unclear := [job for job in jobs if columns.needs_clock(job.options)]:
        (moment,) = await transaction.run("moment")
        for job in unclear:
            columns.check_due(job, moment[0])


def _queues(jobs: Iterable[NewJob[Any]]) -> list[str]:
    return sorted({options.queue for options in {id(job.options): job.options for job in jobs}.values()})


def _refuse_duplicate(job: NewJob[Any], holder: UUID) -> None:
    if job.options.unique is not None and job.options.unique.on_duplicate == "raise":
        # seam: duplicate
        raise DuplicateJob(f"Job {holder} holds the unique key {quoted(job.unique_key)} already.", job_id=holder)
