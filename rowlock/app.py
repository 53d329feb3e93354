"""The application: the tasks, the settings, and the one object that the rest of a program imports."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, overload

from rowlock.acts import Acts
from rowlock.errors import InvalidOption, UnknownTask
from rowlock.queue import options as check
from rowlock.queue.arguments import plain_document
from rowlock.queue.client import Client
from rowlock.queue.identifiers import uuid7
from rowlock.queue.job import Job, JobHandle, JobOptions, LogLine, NewJob
from rowlock.queue.keys import Keys
from rowlock.queue.operators import Operators
from rowlock.queue.queues import Queues
from rowlock.queue.schedule import Declared, Misfire, Overlap, Schedule
from rowlock.queue.schedules import Schedules
from rowlock.queue.task import (
    DEFAULT_BACKOFF,
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    BatchDecorator,
    Failing,
    FailureHandler,
    Middleware,
    Task,
    TaskDecorator,
)
from rowlock.queue.unique import Unique, parse_unique
from rowlock.queue.workers import Workers
from rowlock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from types import TracebackType
    from uuid import UUID

    from rowlock.queue.arguments import Arguments
    from rowlock.queue.options import Executor
    from rowlock.queue.retry import BackoffOption, ExceptionClasses
    from rowlock.worker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
Around = TypeVar("Around", bound=Middleware)


class Rowlock(Acts):
    """A queue, and the tasks that run on it.

    Without arguments the settings come from the environment (`ROWLOCK_DATABASE_URL`, else `DATABASE_URL`, else the
    embedded server in `./.rowlock`). Nothing connects before the first use; `async with app:` or `await app.close()`
    disconnects.

    >>> app = Rowlock()
    >>> @app.task(queue="email", max_attempts=5)
    ... async def send_email(recipient: str, subject: str, body: str) -> dict[str, str]: ...
    """

    def __init__(self, database_url: str | None = None, *, settings: Settings | None = None) -> None:
        if settings is None:
            settings = Settings.from_environment()
        if database_url is not None:
            settings = replace(settings, database_url=database_url)
        self.settings = settings
        self.tasks: dict[str, Task[..., Any]] = {}
        self.middlewares: list[Middleware] = []
        self.failure_handlers: list[FailureHandler] = []
        self.client = Client(settings)
        self.operators = Operators(self.client, self.tasks)
        self.schedules = Schedules(self.client, self.tasks)
        self.queues = Queues(self.client)
        self.workers = Workers(self.client)
        self.keys = Keys(self.client)
        self._declared: dict[str, Declared] = {}

    @overload
    def task(self, function: Callable[Concatenate[Job, P], Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[Concatenate[Job, P], R], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        backoff: BackoffOption = DEFAULT_BACKOFF,
        retry_on: ExceptionClasses | None = None,
        never_retry: ExceptionClasses | None = None,
        timeout: timedelta | float | None = None,
        expires: timedelta | float | None = None,
        deadline: timedelta | float | None = None,
        executor: Executor | None = None,
        schedule: str | Schedule | Sequence[str | Schedule] = (),
        result_ttl: timedelta | float | None = None,
        capture_logs: bool | str = False,
        unique: Unique | str | None = None,
        version: int = 1,
        tags: Sequence[str] = (),
        sensitive: bool = False,
    ) -> TaskDecorator: ...
    @overload
    def task(
        self,
        /,
        *,
        batch: int,
        batch_wait: timedelta | float | None = None,
        name: str | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        backoff: BackoffOption = DEFAULT_BACKOFF,
        retry_on: ExceptionClasses | None = None,
        never_retry: ExceptionClasses | None = None,
        timeout: timedelta | float | None = None,
        expires: timedelta | float | None = None,
        deadline: timedelta | float | None = None,
        schedule: str | Schedule | Sequence[str | Schedule] = (),
        result_ttl: timedelta | float | None = None,
        unique: Unique | str | None = None,
        version: int = 1,
        tags: Sequence[str] = (),
        sensitive: bool = False,
    ) -> BatchDecorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        schedule: str | Schedule | Sequence[str | Schedule] = (),
        **options: Any,
    ) -> Any:
        """Make a task of a function: `@app.task`, or `@app.task(queue=…, …)`.

        An `async` function runs on the event loop, a plain one in a thread, or with `executor="process"` in a process.
        `name` (by default the function's) is what the job's row says. `backoff`: the delay before the first retry, in
        seconds or as a `timedelta`, doubling from then on; or a list of delays, a function of attempt and error, or a
        policy. `retry_on`: only these exceptions are retried; `never_retry`: these are not. `timeout`: of each attempt.
        `expires`: a job that has not started by then never runs. `deadline`: by then it is over, one way or the other;
        both from its enqueue on. `schedule`: when it runs by itself, as a cron text or a `Schedule`, or several.
        `result_ttl`: how long results are kept, in seconds or as a `timedelta` (0: not at all; None: as long as the
        job's row). `capture_logs`: whether to keep what the handler logs, or from which level on (`"warning"`).
        `unique`: a key, or the rules of a `Unique`, for all its jobs. `version`: of its arguments, to be raised with a
        change that jobs of older code do not fit: see `Task.upcast`. `batch`: up to so many jobs in one call, of a
        function that takes a list with an item of each, and returns None or a list with an outcome of each;
        `batch_wait`: how long the first waits for the others, in seconds or as a `timedelta` (0.05). `tags`: words to
        find its jobs by. `sensitive`: the HTTP API, the dashboard and the command line show neither what its jobs were
        given nor what they return, report, log or raise; Python and SQL do.
        Raises `InvalidOption`, also for a taken name.
        """

        def make(function: Callable[..., Any]) -> Task[..., Any]:
            made: Task[..., Any] = Task(function, self.client, **options)
            if made.name in self.tasks:
                other = self.tasks[made.name]
                raise InvalidOption(
                    f"The name {made.name!r} is taken by {other.__module__}.{other.__name__}: "
                    "give this task its own name=."
                )
            declared = self._declare_all(made, schedule)
            self.tasks[made.name] = made
            self._declared |= declared
            return made

        return make if function is None else make(function)

    def middleware(self, function: Around) -> Around:
        """Run this `async` function around every attempt, in the order of registration: the first is the outermost.

        It is given the job and `call_next`, whose value or exception it sees, and may change. Workers that are open
        already do not notice. Raises `InvalidOption` for what is not an `async` function of two arguments.

        >>> @app.middleware
        ... async def timing(job: Job, call_next: CallNext) -> object:
        ...     return await call_next()
        """
        check.callback("middleware", function, "job, call_next")
        is_async = inspect.iscoroutinefunction(function)
        if not is_async:
            raise InvalidOption(f"middleware: {function!r} is not async: write it as async def (job, call_next).")
        self.middlewares.append(function)
        return function

    def on_failure(self, handler: Failing) -> Failing:
        """Call this function with `(job, error)` whenever a job of any task has ended as failed: see `Task.on_failure`.

        Those of the task come first.
        """
        check.callback("on_failure", handler, "job, error")
        self.failure_handlers.append(handler)
        return handler

    def schedule(
        self,
        task: Task[..., Any] | str,
        cron: str,
        *,
        name: str | None = None,
        args: Mapping[str, object] | None = None,
        timezone: str = "UTC",
        misfire: Misfire = "latest",
        overlap: Overlap = "allow",
        jitter: timedelta | float = 0,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
    ) -> None:
        """Declare when a task of this application runs by itself; workers write it down when they start.

        The options are those of `Schedule`; `name` is by default the task's. Raises `InvalidOption`, also for a name
        that another schedule of the code has, `InvalidArguments` if `args` do not fit the task, `UnknownTask`.

        >>> app.schedule(send_email, "0 8 * * MON", args={"recipient": "ada@example.com", "subject": "Hi", "body": "…"})
        """
        known = self.tasks.get(task) if isinstance(task, str) else task
        if known is None or self.tasks.get(known.name) is not known:
            raise UnknownTask(f"The task {task!r} is none of this application's: declare it first.")
        given = Schedule(
            cron,
            name=name,
            args={} if args is None else args,
            timezone=timezone,
            misfire=misfire,
            overlap=overlap,
            jitter=jitter,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
        )
        self._declared |= self._declare_all(known, given)

    async def enqueue(
        self,
        task: str,
        args: Mapping[str, object] | None = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        delay: timedelta | float | None = None,
        run_at: datetime | None = None,
        max_attempts: int | None = None,
        timeout: timedelta | float | None = None,
        expires: timedelta | float | datetime | None = None,
        deadline: timedelta | float | datetime | None = None,
        unique: Unique | str | None = None,
        args_version: int | None = None,
        tags: Sequence[str] = (),
        trace: str | None = None,
        connection: object = None,
    ) -> JobHandle[Any]:
        """Enqueue a job by its task's name, with its arguments as JSON data by parameter.

        For programs that do not import the task's function: a task of this application is checked against its
        function, another one must have been registered by a worker. `args_version` is the version of the task for
        which the arguments are written: None for the function's own, or for 1 where the function is not here. `tags`:
        words to find the job by, besides those of the task. `trace`: the W3C trace context of whoever wants it. Raises
        `UnknownTask`, `InvalidArguments`, `InvalidOption`, `DuplicateJob`, and `EnqueueUnknown` if the connection was
        lost before the answer.
        """
        if delay is not None and run_at is not None:
            raise InvalidOption("delay and run_at are both given: give one of them.")
        known = self.tasks.get(task)
        arguments: Arguments | None = None
        usual: Unique | None = None
        usual_tags: Sequence[str] = ()
        given = {} if args is None else args
        version = None if args_version is None else check.args_version(args_version)
        if known is not None:
            version = known.version if version is None else version
            document, current = known.check(given, version)
            arguments = None if current is None else known.arguments
            defaults = (known.queue, known.priority, known.max_attempts)
            usual, usual_tags = known.unique, known.options.tags or ()
        else:
            defaults = await self._registered(task, connection)
            document = current = plain_document(task, given, self.settings.max_args_bytes)
        options = JobOptions(
            queue=defaults[0] if queue is None else check.queue_name(queue),
            priority=defaults[1] if priority is None else check.priority(priority),
            max_attempts=defaults[2] if max_attempts is None else check.max_attempts(max_attempts),
            delay=check.delay(delay),
            run_at=check.run_at(run_at),
            timeout=check.timeout(timeout),
            unique=usual if unique is None else parse_unique(unique, arguments),
            expires=check.limit_in_time("expires", expires),
            deadline=check.limit_in_time("deadline", deadline),
            tags=check.tags(tags, usual_tags),
            trace=check.trace(trace),
        )
        check.times(delay=options.delay, run_at=options.run_at, expires=options.expires, deadline=options.deadline)
        key = None if options.unique is None else options.unique.stored_key(task, current or document, arguments)
        job: NewJob[Any] = NewJob(uuid7(), task, document, options, key, version or 1)
        stored = await self.client.enqueue(job, connection)
        return (await self._handles([job], {} if stored == job.id else {job.id: stored}, connection))[0]

    def enqueue_sync(
        self,
        task: str,
        args: Mapping[str, object] | None = None,
        *,
        connection: object = None,
        **options: Any,  # noqa: ANN401  # those of `enqueue`
    ) -> JobHandle[Any]:
        """As `enqueue`, with the same options, for synchronous programs, over a synchronous connection or none.

        Raises `InsideEventLoop` where one must await, `InvalidOption` for an asynchronous connection.
        """
        return self.client.run_sync(self.enqueue(task, args, connection=connection, **options), connection)

    async def enqueue_many(
        self, jobs: Iterable[NewJob[R]], *, connection: object = None, again: bool = False
    ) -> list[JobHandle[R]]:
        """Enqueue all jobs, or none, and return their handles in order.

        In a transaction of its own this is one COPY, which takes the jobs as it goes: give it a generator, and the
        database works on the first ones while Python makes the next. With `connection` they are part of the caller's
        open transaction. Duplicates by their unique keys have the handle of the job that holds the key, or none
        (`on_duplicate="skip"`), or raise `DuplicateJob`, and then nothing is stored. `again` is for the jobs of an
        `EnqueueUnknown`: only those are stored that are neither waiting, running nor finished already, for as long as
        finished jobs are kept. Raises `EnqueueUnknown` if the connection was lost before the answer, also then.

        >>> await app.enqueue_many([send_email.job(to, "Hi", "…") for to in recipients])
        """
        given, holders = await self.client.enqueue_many(jobs, connection, again=again)
        if holders:
            given = [job for job in given if job.id not in holders or not _is_skipped(job)]
        return await self._handles(given, holders, connection)

    def enqueue_many_sync(
        self, jobs: Iterable[NewJob[R]], *, connection: object = None, again: bool = False
    ) -> list[JobHandle[R]]:
        """As `enqueue_many`, for synchronous programs, over a synchronous connection or none.

        Raises `InsideEventLoop` where one must await, `InvalidOption` for an asynchronous connection.
        """
        return self.client.run_sync(self.enqueue_many(jobs, connection=connection, again=again), connection)

    def run_sync(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run one of this application's coroutines from a synchronous program, and return what it returns.

        It runs in an event loop in the background, which belongs to the application: many threads may use it at once,
        and a forked process begins anew. Raises `InsideEventLoop` where one must await.

        >>> app.run_sync(app.cancel(job.id, by="ada"))
        """
        return self.client.run_sync(coroutine)

    async def _handles(
        self, jobs: Sequence[NewJob[R]], holders: Mapping[UUID, UUID], connection: object
    ) -> list[JobHandle[R]]:
        """The handles of jobs that were given, some of which are refused: `holders` has who holds the key of those."""
        returns = {task: self._returns(task) for task in {job.task for job in jobs}}
        handles: list[JobHandle[R]] = [
            JobHandle(holders.get(job.id, job.id), job.task, job.id in holders, self.client, returns[job.task])
            for job in jobs
        ]
        if holders:
            others = await self.client.foreign_holders(jobs, [handle.id for handle in handles], connection)
            for place, handle in enumerate(handles):
                if others.get(handle.id, handle.task) != handle.task:
                    task = others[handle.id]
                    handles[place] = JobHandle(handle.id, task, True, self.client, self._returns(task))  # noqa: FBT003  # is_duplicate
        return handles

    async def get(self, job_id: UUID | str) -> Job:
        """The job with this id, alive or finished. Raises `JobNotFound`."""
        return await self.client.get(job_id)

    async def logs(self, job_id: UUID | str) -> list[LogLine]:
        """The lines that the job's handler has logged, attempt by attempt, if its task has `capture_logs`.

        An attempt's lines can be read once it has ended. Raises `JobNotFound` for what can be no job's id.
        """
        return await self.client.logs(job_id)

    def handle(self, job: Job) -> JobHandle[Any]:
        """A handle on a job that was read: to wait for its result."""
        return JobHandle(job.id, job.task, False, self.client, self._returns(job.task))  # noqa: FBT003  # is_duplicate

    async def queue_of(self, task: str) -> str:
        """The queue that a task's jobs go to unless told otherwise. Raises `UnknownTask`."""
        known = self.tasks.get(task)
        return (await self._registered(task, None))[0] if known is None else known.queue

    def worker(
        self,
        *,
        queues: Sequence[str] | Mapping[str, int | None] | None = None,
        concurrency: int = 50,
        threads: int | None = None,
        task_processes: int | None = None,
    ) -> Worker:
        """A worker for this application's tasks: `await worker.run()`, or `async with app.worker(...):`.

        `queues`: names, each with an optional limit of its own: `["email", "reports:2"]`, or `{"email": None,
        "reports": 2}`; a `*` stands for any characters (`"tenant-*"`). By default every queue that a task names.
        `concurrency`: how many jobs run at once. `threads`: how many of those may be plain functions (default: as
        many). `task_processes`: how many processes there are for tasks with `executor="process"` (default: as many as
        CPUs, at most `concurrency`); they start when they are needed.
        """
        from rowlock.worker.worker import Worker  # noqa: PLC0415  # a program that only enqueues does not load the worker

        return Worker(
            self.client,
            self.tasks,
            schedules=list(self._declared.values()),
            queues=queues,
            concurrency=concurrency,
            threads=threads,
            task_processes=task_processes,
            middleware=self.middlewares,
            failure_handlers=self.failure_handlers,
        )

    async def close(self) -> None:
        """Close the application's connections. They open again at the next use."""
        await self.client.close()

    def close_sync(self) -> None:
        """Close the connections that synchronous calls have opened, and their event loop."""
        self.client.close_sync()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _declare_all(
        self, task: Task[..., Any], given: str | Schedule | Sequence[str | Schedule]
    ) -> dict[str, Declared]:
        """The schedules, checked and by name. Raises `InvalidOption`, `InvalidArguments`."""
        declared: dict[str, Declared] = {}
        for one in [given] if isinstance(given, str | Schedule) else given:
            schedule = one if isinstance(one, Schedule) else Schedule(one)
            name = task.name if schedule.name is None else schedule.name
            if name in declared or name in self._declared:
                raise InvalidOption(f"The name {name!r} is that of another schedule: give this one its own name=.")
            document, _ = task.check(schedule.args, task.version)
            declared[name] = Declared(
                name=name, task=task.name, args=document, args_version=task.version, schedule=schedule
            )
        return declared

    async def _registered(self, task: str, connection: object) -> tuple[str, int, int]:
        rows = await self.client.tell(connection, "get_task", check.task_name(task))
        if not rows:
            names = ", ".join(sorted(self.tasks)) or "none"
            raise UnknownTask(
                f"The task {task!r} is not known: this application has {names}, and no worker has registered it. "
                "Start a worker that has it, or check the name."
            )
        _, queue, priority, max_attempts, _ = rows[0]
        return queue, priority, max_attempts

    def _returns(self, task: str) -> Any:  # noqa: ANN401  # a type
        """The return annotation of the task's function, if it is one of this application's."""
        known = self.tasks.get(task)
        return Any if known is None else known.returns


def _is_skipped(job: NewJob[Any]) -> bool:
    return job.options.unique is not None and job.options.unique.on_duplicate == "skip"
