"""What an application does with the queue: enqueue and read."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary, ref

import asyncpg

from rowlock.embedded import EmbeddedServer
from rowlock.errors import DuplicateJob, EnqueueUnknown, InvalidOption, JobNotFound, SchemaTooNew, SchemaTooOld
from rowlock.queue import callers, connections
from rowlock.queue.background import Background
from rowlock.queue.filters import JobFilter
from rowlock.queue.job import Job, JobOptions, LogLine, NewJob
from rowlock.queue.statements import statement
from rowlock.queue.waits import Waits
from rowlock.schema import REVISION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.queue.unique import Unique
    from rowlock.settings import Settings

R = TypeVar("R")
T = TypeVar("T")

MOST_PER_PAGE: Final = 500

_PLAIN_COLUMNS: Final = ("id", "queue", "task", "priority", "max_attempts", "args", "args_version")
_TIMED_COLUMNS: Final = (*_PLAIN_COLUMNS, "run_at", "timeout", "ends_at", "expires_at", "deadline")

_TRY_AGAIN: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, connections.WritesRefused)
_PAUSES: Final = (0.02, 0.05, 0.1, 0.2)
"""The longest pauses before each further try of an enqueue that met one of these, in seconds."""

_LONGEST_COPY: Final = 3600.0
"""Seconds. There is no telling how many jobs come; a peer that is gone is noticed by TCP."""


class _OfLoop:
    """What belongs to one event loop: the program's own, or the one in the background for synchronous callers."""

    __slots__ = ("_loop", "pool", "waits")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self.pool: connections.ClientPool | None = None
        self.waits: Waits | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        return self._loop()


class Client:
    """The queue as an application sees it. Connects when first used; one per process is enough.

    Without a `database_url` in the settings, the embedded server is started (or joined) at the first use.
    `pool` is the class of what holds its connections.
    """

    def __init__(self, settings: Settings, *, pool: type[connections.ClientPool] = connections.ClientPool) -> None:
        self.settings = settings
        self._pool_class = pool
        self._dsn: str | None = settings.database_url
        self._here: _OfLoop | None = None
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = WeakKeyDictionary()
        self._background = Background()
        self._starting = threading.Lock()
        self._server: EmbeddedServer | None = None

    async def dsn(self) -> str:
        """The DSN in use: the configured one, or the embedded server's, which is started now if need be."""
        return await asyncio.to_thread(self._start_server) if self._dsn is None else self._dsn

    def _start_server(self) -> str:
        with self._starting:
            if self._dsn is None:
                self._server = EmbeddedServer(self.settings.data_dir)
                self._server.start()
                self._dsn = self._server.url
        return self._dsn

    def run_sync(self, coroutine: Coroutine[Any, Any, T], connection: object = None) -> T:
        """Run one of the application's coroutines for a synchronous caller.

        Over a connection of the caller's it runs here, in this thread; without one in an event loop in the background.
        Raises `InvalidOption` for a connection that must be awaited, and `InsideEventLoop`.
        """
        if connection is None:
            return self._background.run(coroutine)
        try:
            callers.check_synchronous(connection)
        except BaseException:
            coroutine.close()
            raise
        return callers.drive(coroutine)

    def close_sync(self) -> None:
        """Close what synchronous callers have used."""
        self._background.close(self.close())

    def move(self, settings: Settings) -> None:
        """Use another database from now on. The connections to the former one are left to whoever uses them still."""
        self.settings = settings
        self._dsn = settings.database_url
        self._here = None
        self._of_loops.clear()

    async def check_schema(self) -> None:
        """Make sure that the schema is the one that this code works on.

        Raises `SchemaNotMigrated`, `SchemaTooOld`, `SchemaTooNew`.
        """
        rows = await self.fetch("schema_version")
        found = rows[0]["version_num"] if rows else ""
        if not found:
            raise connections.not_migrated(self.settings)
        if found < REVISION:
            raise SchemaTooOld(
                f"The schema {self.settings.schema} at {self.settings.masked_database_url()} is at revision {found}, "
                f"and this Rowlock needs {REVISION}. Run: rowlock migrate"
            )
        if found > REVISION:
            raise SchemaTooNew(
                f"The schema {self.settings.schema} is at revision {found}, and this Rowlock knows {REVISION}: "
                "it was migrated by a newer one. Upgrade the package: pip install --upgrade rowlock"
            )

    async def close(self) -> None:
        """Close the connections."""
        here = self._of_loops.pop(asyncio.get_running_loop(), None)
        if here is None:
            return
        self._here = None
        if here.waits is not None:
            await here.waits.close()
        if here.pool is not None:
            await here.pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """One of the application's connections, for the time of the block. Raises `DatabaseUnavailable`."""
        dsn = await self.dsn()
        here = self._of_this_loop()
        if here.pool is None:
            here.pool = self._pool_class(self.settings, dsn)
        try:
            async with here.pool.acquire() as connection:
                yield connection
        except asyncpg.ReadOnlySQLTransactionError as error:
            raise connections.refused(self.settings, error) from error
        except connections.FORGOTTEN as error:
            raise connections.forgotten(self.settings) from error

    @property
    def pool_use(self) -> connections.PoolUse:
        """How many connections this event loop's callers have just now."""
        pool = self._of_this_loop().pool
        return connections.PoolUse(0, 0, connections.MOST_CONNECTIONS) if pool is None else pool.use

    @asynccontextmanager
    async def watch(self, job_id: UUID) -> AsyncIterator[asyncio.Event | None]:
        """An event that is set when the job may have ended; None where there is no LISTEN, and polling must do."""
        if not self.settings.listen:
            yield None
            return
        dsn = await self.dsn()
        here = self._of_this_loop()
        if here.waits is None:
            here.waits = Waits(self.settings, dsn)
        async with here.waits.watch(job_id) as told:
            yield told

    def _of_this_loop(self) -> _OfLoop:
        loop = asyncio.get_running_loop()
        here = self._here
        if here is None or here.loop is not loop:
            here = self._of_loops.get(loop)
            if here is None:
                here = self._of_loops[loop] = _OfLoop(loop)
            self._here = here
        return here

    async def fetch(self, name: str, *parameters: object) -> list[Record]:
        """Run `queue/sql/<name>.sql` in a transaction of its own; once more where the server takes no writes."""
        try:
            return await self._fetch(name, *parameters)
        except connections.WritesRefused:
            return await self._fetch(name, *parameters)  # the pool has thrown away what leads to that server

    async def _fetch(self, name: str, *parameters: object) -> list[Record]:
        async with self.connection() as connection:
            try:
                return await connection.fetch(self._sql(name), *parameters, timeout=connections.deadline(name))
            except connections.NOT_MIGRATED as error:
                raise connections.not_migrated(self.settings) from error

    async def enqueue(self, job: NewJob[Any], connection: object = None) -> UUID:
        """Store the job, in the caller's transaction if its connection is given. A job whose id is
        live already is not stored again.

        Returns the job's id, or that of the job which holds its unique key. Raises `DuplicateJob` if that is to be so,
        and `EnqueueUnknown`.
        """
        if connection is None:
            return await self._in_own_transaction([job], lambda: self._enqueue(job, None))
        return await self._enqueue(job, connection)

    async def _enqueue(self, job: NewJob[Any], connection: object) -> UUID:
        options = job.options
        if options.are_plain:
            plain = (
                job.id,
                options.queue,
                job.task,
                options.priority,
                options.max_attempts,
                job.args,
                job.args_version,
            )
            await self.tell(connection, "enqueue_plain", *plain)
            return job.id
        rows = await self.tell(
            connection,
            "enqueue",
            job.task,
            job.args,
            options.queue,
            options.priority,
            options.delay,
            options.run_at,
            options.max_attempts,
            options.timeout,
            job.unique_key and job.unique_key.partition(":")[2],
            job.id,
            *_at_or_in(options.expires),
            *_at_or_in(options.deadline),
            *_unique_columns(options.unique),
            job.args_version,
        )
        stored = _uuid(rows[0][0])
        if stored != job.id:
            _refuse_duplicate(job, stored)
        return stored

    async def enqueue_many(
        self, jobs: Iterable[NewJob[R]], connection: object = None, *, again: bool = False
    ) -> tuple[list[NewJob[R]], dict[UUID, UUID]]:
        """Store all jobs or none: by COPY in a transaction of its own, or in the caller's if its connection is given.

        Returns the jobs, and of those that were refused because of their unique key the ids and who holds the key.
        Raises `DuplicateJob` if that is to be so of one of them: then nothing is stored; and `EnqueueUnknown`.
        With `again`, those that are finished are left alone, like those that are live.
        """
        if again:
            return await self._enqueue_again(list(jobs), connection)
        if connection is not None:
            given = list(jobs)
            caller = callers.adapt(connection)
            if isinstance(connection, callers.OF_ASYNCPG) and not connection.is_in_transaction():
                async with connection.transaction():
                    return given, await self._insert_many(given, caller)
            return given, await self._insert_many(given, caller)
        return await self._enqueue_by_copy(jobs)

    async def _enqueue_by_copy(self, jobs: Iterable[NewJob[R]]) -> tuple[list[NewJob[R]], dict[UUID, UUID]]:
        coming = iter(jobs)
        if (first := next(coming, None)) is None:
            return [], {}
        failed: list[BaseException] = []
        given: list[NewJob[R]] = []
        coming = chain((first,), _watched(coming, failed))
        if self._dsn is None:
            await self.dsn()
        try:
            async with self.connection() as own, connections.own_transaction(own):
                return given, await self._copy_many(given, coming, own)
        except connections.NOT_MIGRATED as error:
            raise connections.not_migrated(self.settings) from error
        except (asyncpg.UniqueViolationError, *_TRY_AGAIN):
            # Of the first: some of them are stored already.
            if failed:
                raise
            given.extend(coming)
        except connections.CONNECTION_LOST as error:
            if failed or isinstance(error, ValueError):
                raise
            given.extend(coming)
            raise _unknown(given, error) from error
        return given, await self._in_own_transaction(given, lambda: self._insert_own(given))

    async def get(self, job_id: UUID | str, connection: object = None) -> Job:
        """The job, alive or finished, as the caller's transaction sees it if given. Raises `JobNotFound`."""
        rows = await self.tell(connection, "get_job", parse_id(job_id))
        if not rows:
            raise JobNotFound(f"There is no job {job_id}: it was never committed, or retention has removed it.")
        return Job.from_row(rows[0])

    async def foreign_holders(
        self, jobs: Iterable[NewJob[Any]], holders: Iterable[UUID], connection: object = None
    ) -> dict[UUID, str]:
        """The tasks of the jobs that hold a key which one of these jobs has asked for across tasks."""
        across = [
            holder
            for job, holder in zip(jobs, holders, strict=True)
            if job.id != holder and job.options.unique is not None and job.options.unique.across_tasks
        ]
        if not across:
            return {}
        rows = await self.tell(connection, "list_tasks_of", across)
        return {_uuid(row[0]): row[1] for row in rows}

    async def list_jobs(
        self, which: JobFilter | None = None, *, before: UUID | None = None, limit: int = 50
    ) -> list[Job]:
        """A page of at most 500 jobs, newest first; `before` is the last id of the page before."""
        if not 1 <= limit <= MOST_PER_PAGE:
            raise InvalidOption(f"limit {limit} is out of range: use 1 to {MOST_PER_PAGE}.")
        parameters = (which or JobFilter()).parameters()
        return [Job.from_row(row) for row in await self.fetch("list_jobs", *parameters, before, limit)]

    async def attempts(self, job_id: UUID) -> list[Mapping[str, Any]]:
        """The job's attempts that did not simply succeed, in their order: the columns of the table `attempt`."""
        return [dict(row) for row in await self.fetch("list_attempts", job_id)]

    async def logs(self, job_id: UUID | str) -> list[LogLine]:
        """The lines that the job's attempts have logged, in their order. Raises `JobNotFound` for what can be no id."""
        return [line for row in await self.fetch("list_logs", parse_id(job_id)) for line in LogLine.of_row(row)]

    async def _copy_many(
        self, given: list[NewJob[R]], coming: Iterator[NewJob[R]], own: PoolConnectionProxy[Record]
    ) -> dict[UUID, UUID]:
        """Copy the jobs that come, and add them to the given.

        Up to the first with a time or a key of its own, jobs are taken one by one as they are sent, so that the server
        works on some while the caller's iterator makes the next.
        """
        now: datetime = await own.fetchval(self._sql("moment"))  # the claims' cursors want it before the first row
        await self._copy(own, map(_columns, _take_plain(given, coming)), _PLAIN_COLUMNS)
        holders: dict[UUID, UUID] = {}
        if not given[-1].options.are_plain:
            start = len(given) - 1
            given.extend(coming)
            timed = [job for job in given[start:] if job.unique_key is None]
            await self._copy(own, ((*_columns(job), *_time_columns(job, now)) for job in timed), _TIMED_COLUMNS)
            holders = await self._insert_unique(given[start:], own)
        await own.fetch(self._sql("wake"), _queues(given))
        return holders

    async def _copy(
        self, own: PoolConnectionProxy[Record], records: Iterable[tuple[object, ...]], columns: Sequence[str]
    ) -> None:
        await own.copy_records_to_table(
            "job", schema_name=self.settings.schema, columns=columns, records=records, timeout=_LONGEST_COPY
        )

    async def _insert_many(self, jobs: Sequence[NewJob[Any]], caller: callers.Open) -> dict[UUID, UUID]:
        if not any(job.options.unique is not None and job.options.unique.on_duplicate == "raise" for job in jobs):
            return await self._insert_all(jobs, caller)
        await caller.fetch(
            self._sql("savepoint")
        )  # an error here must leave nothing behind in the caller's transaction
        try:
            holders = await self._insert_all(jobs, caller)
        except DuplicateJob:
            await caller.fetch(self._sql("rollback_to_savepoint"))
            await caller.fetch(self._sql("release_savepoint"))
            raise
        await caller.fetch(self._sql("release_savepoint"))
        return holders

    async def _insert_own(self, jobs: Sequence[NewJob[Any]]) -> dict[UUID, UUID]:
        async with self.connection() as own, connections.own_transaction(own):
            return await self._insert_many(jobs, own)

    async def _enqueue_again(
        self, jobs: list[NewJob[R]], connection: object
    ) -> tuple[list[NewJob[R]], dict[UUID, UUID]]:
        if connection is not None:
            raise InvalidOption(
                "again and connection are both given: jobs are stored again in a transaction of Rowlock's own. "
                "Leave connection out."
            )
        return jobs, await self._in_own_transaction(jobs, lambda: self._insert_missing(jobs)) if jobs else {}

    async def _insert_missing(self, jobs: Sequence[NewJob[Any]]) -> dict[UUID, UUID]:
        """Store those jobs that are neither live nor finished.

        One that was live at the first look may finish before the insert, which then takes it for new. Who holds the
        id's row knows that the job cannot finish any more: so the second look, after the insert, is what counts.
        Where nothing is missing, the commit still has to wait for the standby, so something is written.
        """
        async with self.connection() as own, connections.own_transaction(own):
            await own.fetch(self._sql("leave_trace"))
            missing = await self._without_finished(jobs, own)
            while missing:
                await own.fetch(self._sql("savepoint"))
                holders = await self._insert_all(missing, own)
                still_missing = await self._without_finished(missing, own)
                if len(still_missing) == len(missing):
                    return holders
                await own.fetch(self._sql("rollback_to_savepoint"))
                missing = still_missing
            return {}

    async def _without_finished(
        self, jobs: Sequence[NewJob[Any]], own: PoolConnectionProxy[Record]
    ) -> list[NewJob[Any]]:
        rows = await own.fetch(self._sql("list_finished_of"), [job.id for job in jobs])
        finished = {_uuid(row[0]) for row in rows}
        return [job for job in jobs if job.id not in finished]

    async def _in_own_transaction(self, jobs: Sequence[NewJob[Any]], store: Callable[[], Awaitable[T]]) -> T:
        """Call `store`, which stores the jobs in a transaction of Rowlock's own: anew after a deadlock, or where a
        server took no writes, a few times.

        Raises `EnqueueUnknown` if the connection was lost on the way.
        """
        if self._dsn is None:
            await self.dsn()
        try:
            for longest in _PAUSES:
                try:
                    return await store()
                except _TRY_AGAIN:
                    await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  # a jitter is no secret
            return await store()
        except connections.NOT_MIGRATED as error:
            raise connections.not_migrated(self.settings) from error
        except connections.CONNECTION_LOST as error:
            if isinstance(error, ValueError):
                raise
            raise _unknown(jobs, error) from error

    async def _insert_all(self, jobs: Sequence[NewJob[Any]], caller: callers.Open) -> dict[UUID, UUID]:
        new = [job for job in jobs if job.unique_key is None]
        if new:
            await caller.fetch(self._sql("enqueue_many"), *_arrays(new))
            await caller.fetch(self._sql("wake"), _queues(new))
        return await self._insert_unique(jobs, caller)

    async def _insert_unique(self, jobs: Sequence[NewJob[Any]], caller: callers.Open) -> dict[UUID, UUID]:
        """Enqueue those jobs that have a unique key. Returns the ids of the refused ones, and who holds the key."""
        keyed = [job for job in jobs if job.unique_key is not None]
        if not keyed:
            return {}
        keys = [(job.unique_key or "").partition(":")[2] for job in keyed]
        how = zip(*(_unique_columns(job.options.unique) for job in keyed), strict=True)
        rows = await caller.fetch(self._sql("enqueue_unique"), *_arrays(keyed), keys, *map(list, how))
        holders = {_uuid(row[0]): _uuid(row[1]) for row in rows}
        for job in keyed:
            if job.id in holders:
                _refuse_duplicate(job, holders[job.id])
        return holders

    async def tell(self, connection: object, name: str, *parameters: object) -> Sequence[Any]:
        """Run `queue/sql/<name>.sql` over the caller's connection, or in a transaction of its own if that is None."""
        if connection is None:
            return await self.fetch(name, *parameters)
        return await callers.adapt(connection).fetch(self._sql(name), *parameters)

    def _sql(self, name: str) -> str:
        return statement(name, self.settings.schema)


def parse_id(text: UUID | str) -> UUID:
    """The id, from its text. Raises `JobNotFound` for what can be no job's id."""
    if isinstance(text, UUID):
        return text
    try:
        return UUID(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise JobNotFound(f"There is no job {text!r}: a job's id is a UUID.") from error


def _uuid(value: object) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))


def _watched(jobs: Iterator[NewJob[R]], failed: list[BaseException]) -> Iterator[NewJob[R]]:
    """The caller's jobs; what his own iterator raises is added to `failed`, to be told from the connection's errors."""
    try:
        yield from jobs
    except BaseException as error:
        failed.append(error)
        raise


def _unknown(jobs: Sequence[NewJob[Any]], error: BaseException) -> EnqueueUnknown:
    what = f"job {jobs[0].id} ({jobs[0].task}) is" if len(jobs) == 1 else f"{len(jobs)} jobs from {jobs[0].id} on are"
    return EnqueueUnknown(
        f"The connection to the database was lost before it answered ({type(error).__name__}): whether the {what} "
        "stored is unknown. Run `await app.enqueue_many(error.jobs, again=True)`, at any time: it stores only what is "
        "missing.",
        jobs=jobs,
    )


def _take_plain(given: list[NewJob[R]], coming: Iterator[NewJob[R]]) -> Iterator[NewJob[R]]:
    """The jobs up to the first whose options are not plain; that one too is added to the given, like all the others."""
    plain: JobOptions | None = None
    for job in coming:
        given.append(job)
        if job.options is not plain:
            if not job.options.are_plain:
                return
            plain = job.options
        yield job


def _queues(jobs: Iterable[NewJob[Any]]) -> list[str]:
    return sorted({options.queue for options in {id(job.options): job.options for job in jobs}.values()})


def _columns(job: NewJob[Any]) -> tuple[object, ...]:
    options = job.options
    return (job.id, options.queue, job.task, options.priority, options.max_attempts, job.args, job.args_version)


def _time_columns(job: NewJob[Any], now: datetime) -> tuple[object, ...]:
    options = job.options
    run_at = max(now, _moment(options.delay if options.run_at is None else options.run_at, now) or now)
    expires_at, deadline = _moment(options.expires, now), _moment(options.deadline, now)
    ends_at = min((limit for limit in (expires_at, deadline) if limit is not None), default=None)
    if ends_at is not None and ends_at <= run_at:
        raise InvalidOption(f"expires or deadline {ends_at} is not after {run_at}, when a job of {job.task} is due.")
    return (run_at, options.timeout, ends_at, expires_at, deadline)


def _moment(given: timedelta | datetime | None, now: datetime) -> datetime | None:
    return now + given if isinstance(given, timedelta) else given


def _at_or_in(given: timedelta | datetime | None) -> tuple[datetime | None, timedelta | None]:
    return (None, given) if isinstance(given, timedelta) else (given, None)


def _columns_at_and_in(
    given: Iterable[timedelta | datetime | None],
) -> tuple[list[datetime | None], list[timedelta | None]]:
    pairs = [_at_or_in(one) for one in given]
    return [at for at, _ in pairs], [after for _, after in pairs]


def _arrays(jobs: Sequence[NewJob[Any]]) -> tuple[list[Any], ...]:
    """What enqueue_many.sql and enqueue_unique.sql take of all jobs."""
    return (
        [job.id for job in jobs],
        [job.options.queue for job in jobs],
        [job.task for job in jobs],
        [job.options.priority for job in jobs],
        [job.options.delay for job in jobs],
        [job.options.run_at for job in jobs],
        [job.options.max_attempts for job in jobs],
        [job.options.timeout for job in jobs],
        [job.args for job in jobs],
        *_columns_at_and_in([job.options.expires for job in jobs]),
        *_columns_at_and_in([job.options.deadline for job in jobs]),
        [job.args_version for job in jobs],
    )


def _unique_columns(unique: Unique | None) -> tuple[object, ...]:
    """What rowlock.enqueue takes about a key. An error is raised here: raised there, it would end the transaction."""
    if unique is None:
        return ("finish", None, False, "return")
    on_duplicate = "replace" if unique.on_duplicate == "replace" else "return"
    return (unique.until, unique.period, unique.across_tasks, on_duplicate)


def _refuse_duplicate(job: NewJob[Any], holder: UUID) -> None:
    if job.options.unique is not None and job.options.unique.on_duplicate == "raise":
        raise DuplicateJob(f"Job {holder} holds the unique key {job.unique_key!r} already.", job_id=holder)
