"""Enqueue by name, and many jobs at once: the part of the application that stores jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from rowlock.errors import InvalidOption, UnknownTask
from rowlock.queue.connect import drivers
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.options import EnqueueOptions, JobOptions, checked, refuse_unknown
from rowlock.queue.read.handle import JobHandle
from rowlock.queue.read.reader import foreign_holders, parse_id
from rowlock.queue.tasks.arguments import plain_document
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping, Sequence
    from uuid import UUID

    from rowlock.queue.connect.database import Database
    from rowlock.queue.enqueue.store import Store
    from rowlock.queue.enqueue.task import Task
    from rowlock.queue.tasks.arguments import Arguments
    from rowlock.settings import Settings

R = TypeVar("R")


class ByName:
    """Jobs by the names of their tasks: of this application, or registered by a worker of another one."""

    def __init__(self, database: Database, tasks: Mapping[str, Task[..., Any]]) -> None:
        self._database = database
        self._tasks = tasks

    async def usual_options(self, task: str, connection: object) -> JobOptions:
        """The options of a task: its own, or those that a worker has registered. Raises `UnknownTask`."""
        if not isinstance(task, str):
            raise InvalidOption(f"task must be the name of a task; got {quoted(task)}.", option="task")
        known = self._tasks.get(task)
        if known is not None:
            return known.options
        rows = await self._database.run("get_task", checks.task_name(task), connection=connection)
        if not rows:
            names = ", ".join(sorted(self._tasks)) or "none"
            raise UnknownTask(
                f"The task {quoted(task)} is not known: this application has {names}, and no worker has registered it. "
                "Start a worker of the task, or check the name."
            )
        _, queue, priority, max_attempts, _ = rows[0]
        return JobOptions(queue=queue, priority=priority, max_attempts=max_attempts)

    def make(
        self,
        task: str,
        args: Mapping[str, object] | None,
        usual: JobOptions,
        given: EnqueueOptions,
        *,
        args_version: int | None = None,
        trace: str | None = None,
    ) -> NewJob[Any]:
        """Make a job of a task whose `usual` options are known, without reading the database."""
        known = self._tasks.get(task)
        arguments: Arguments | None = None
        current: str | None
        version = None if args_version is None else checks.args_version(args_version)
        args = {} if args is None else args
        if known is None:
            document = current = plain_document(task, args, self._database.settings.max_args_bytes)
        else:
            version = known.version if version is None else version
            document, current = known.check(args, version)
            arguments = None if current is None else known.arguments
        options = checked(given, usual, arguments, trace=trace)
        key = None if options.unique is None else options.unique.stored_key(task, current or document, arguments)
        return NewJob(uuid7(), task, document, options, key, version or 1)

    async def handles(
        self, jobs: Sequence[NewJob[R]], holders: Mapping[UUID, UUID], connection: object
    ) -> list[JobHandle[R]]:
        """The handles of given jobs. `holders` maps each refused job to the job that holds its key."""
        returns = {task: self.returns(task) for task in {job.task for job in jobs}}
        handles: list[JobHandle[R]] = [
            JobHandle(holders.get(job.id, job.id), job.task, job.id in holders, self._database, returns[job.task])
            for job in jobs
        ]
        if holders:
            others = await foreign_holders(self._database, jobs, [handle.id for handle in handles], connection)
            for place, handle in enumerate(handles):
                if others.get(handle.id, handle.task) != handle.task:
                    task = others[handle.id]
                    handles[place] = JobHandle(handle.id, task, True, self._database, self.returns(task))  # noqa: FBT003  # is_duplicate
        return handles

    def returns(self, task: str) -> Any:  # noqa: ANN401  # a type
        """The return annotation of the task's function, if the task is this application's."""
        known = self._tasks.get(task)
        return Any if known is None else known.returns


class Enqueuing:
    """Enqueuing, and the handles on enqueued jobs. `Rowlock` inherits all of it."""

    settings: Settings
    tasks: dict[str, Task[..., Any]]
    database: Database
    store: Store
    by_name: ByName

    async def enqueue(
        self,
        task: str,
        args: Mapping[str, object] | None = None,
        *,
        args_version: int | None = None,
        trace: str | None = None,
        connection: object = drivers.Own.TRANSACTION,
        **options: Unpack[EnqueueOptions],
    ) -> JobHandle[Any]:
        """Enqueue a job by its task's name, with its arguments as JSON data by parameter.

        For programs that do not import the task's function: a task of this application checks the arguments against its
        function; a worker must have registered any other task. The options are those of `EnqueueOptions`, as for
        `task.using`. `args_version` is the version of the task for which the arguments are written: None for the
        function's own, or for 1 if the function is not here. `trace`: the W3C trace context of the job. Raises
        `UnknownTask`, `InvalidArguments`, `InvalidOption`, `DuplicateJob`, and `EnqueueUnknown` if the connection was
        lost before the answer.
        """
        connection = drivers.given(connection)
        refuse_unknown(options)
        usual = await self.by_name.usual_options(task, connection)
        job = self.by_name.make(task, args, usual, options, args_version=args_version, trace=trace)
        stored = await self.store.enqueue(job, connection)
        return (await self.by_name.handles([job], {} if stored == job.id else {job.id: stored}, connection))[0]

    async def job(
        self,
        task: str,
        args: Mapping[str, object] | None = None,
        *,
        args_version: int | None = None,
        trace: str | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> NewJob[Any]:
        """Make a job by its task's name, for `enqueue_many`. The options and errors are those of `enqueue`.

        >>> await app.enqueue_many([await app.job("send_email", {"recipient": to}) for to in recipients])
        """
        refuse_unknown(options)
        usual = await self.by_name.usual_options(task, None)
        return self.by_name.make(task, args, usual, options, args_version=args_version, trace=trace)

    def enqueue_sync(
        self,
        task: str,
        args: Mapping[str, object] | None = None,
        *,
        args_version: int | None = None,
        trace: str | None = None,
        connection: object = drivers.Own.TRANSACTION,
        **options: Unpack[EnqueueOptions],
    ) -> JobHandle[Any]:
        """Enqueue from a synchronous program, with the options of `enqueue`, over a synchronous connection or none.

        Raises `InsideEventLoop` in a running event loop, `InvalidOption` for an asynchronous connection.
        """
        caller = drivers.given(connection)
        enqueuing = self.enqueue(task, args, args_version=args_version, trace=trace, connection=connection, **options)
        return self.database.run_sync(enqueuing, caller)

    async def enqueue_many(
        self, jobs: Iterable[NewJob[R]], *, connection: object = drivers.Own.TRANSACTION
    ) -> list[JobHandle[R]]:
        """Enqueue all jobs, or none, and return their handles in order.

        In a transaction of its own this is one COPY, which reads the jobs while it runs: give it a generator, and the
        database works on the first jobs while Python makes the next. With `connection` they are part of the caller's
        open transaction. A duplicate by its unique key returns the handle of the job that holds the key, or none
        (`on_duplicate="skip"`), or raises `DuplicateJob`, and then nothing is stored. A job that is given again is not
        stored again while it waits or runs, nor after it has finished, as long as finished jobs are kept. Raises
        `EnqueueUnknown` if the connection was lost before the answer: enqueue its `jobs` again.

        >>> await app.enqueue_many([send_email.job(to, "Hi", "…") for to in recipients])
        """
        connection = drivers.given(connection)
        given, holders = await self.store.enqueue_many(jobs, connection)
        if holders:
            given = [job for job in given if job.id not in holders or not _is_skipped(job)]
        return await self.by_name.handles(given, holders, connection)

    def enqueue_many_sync(
        self, jobs: Iterable[NewJob[R]], *, connection: object = drivers.Own.TRANSACTION
    ) -> list[JobHandle[R]]:
        """Enqueue many jobs from a synchronous program, like `enqueue_many`, over a synchronous connection or none.

        Raises `InsideEventLoop` in a running event loop, `InvalidOption` for an asynchronous connection.
        """
        caller = drivers.given(connection)
        return self.database.run_sync(self.enqueue_many(jobs, connection=connection), caller)

    def run_sync(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run one of this application's coroutines from a synchronous program, and return its result.

        It runs in the application's event loop in the background: many threads may use it at once, and a forked process
        starts a loop of its own. Raises `InsideEventLoop` in a running event loop.

        >>> app.run_sync(app.jobs.cancel(job.id, by="ada"))
        """
        return self.database.run_sync(coroutine)

    def handle(self, job: Job | UUID | str) -> JobHandle[Any]:
        """A handle on a job that was read, or on the job of an id, to wait for its result.

        A handle from the id alone knows no task: its `task` is empty, and its result is plain JSON data. This reads
        nothing from the database. Raises `JobNotFound` for a value that cannot be a job's id.
        """
        if not isinstance(job, Job):
            return JobHandle(parse_id(job), "", False, self.database, Any)  # noqa: FBT003  # is_duplicate
        return JobHandle(job.id, job.task, False, self.database, self.by_name.returns(job.task))  # noqa: FBT003  # is_duplicate

    async def queue_of(self, task: str, *, connection: object = drivers.Own.TRANSACTION) -> str:
        """The queue of a task's jobs by default. Raises `UnknownTask`."""
        return (await self.by_name.usual_options(task, drivers.given(connection))).queue


def _is_skipped(job: NewJob[Any]) -> bool:
    return job.options.unique is not None and job.options.unique.on_duplicate == "skip"
