"""The application: the tasks, the settings, and the one object that the rest of a program imports."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, overload

from rowlock.acts import Acts
from rowlock.enqueuing import Enqueuing
from rowlock.errors import InvalidOption, UnknownTask
from rowlock.queue import options as check
from rowlock.queue.callables import is_async
from rowlock.queue.client import Client
from rowlock.queue.job import Job, LogLine
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
from rowlock.queue.unique import Unique
from rowlock.queue.workers import Workers
from rowlock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from uuid import UUID

    from rowlock.database_url import Driver
    from rowlock.queue.options import Executor
    from rowlock.queue.retry import BackoffOption, ExceptionClasses
    from rowlock.worker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
Around = TypeVar("Around", bound=Middleware)


class Rowlock(Enqueuing, Acts):
    """A queue, and the tasks that run on it.

    Without arguments the settings come from the environment (`ROWLOCK_DATABASE_URL`, else `DATABASE_URL`, else the
    server that `rowlock dev` runs in `./.rowlock`). Nothing connects before the first use; `async with app:` or
    `await app.close()` disconnects.

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
        max_crashes: int | None = None,
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
        max_crashes: int | None = None,
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
        policy. `retry_on`: only these exceptions are retried; `never_retry`: these are not. `max_crashes`: how often
        its worker may die while it runs (by default what its settings say); 1: a job that has begun begins again only
        if its handler fails. `timeout`: of each attempt.
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
        if not is_async(function):
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

    async def database_url(self, driver: Driver | None = None) -> str:
        """The URL of the queue's database, for a connection or an engine of the program's own.

        `driver`: None for psql and for a driver alone (asyncpg, psycopg); `"asyncpg"`, `"psycopg"` or `"psycopg2"`
        for an engine of SQLAlchemy's over that driver. In development it leads to the server that `rowlock dev` runs.
        It holds the password: do not log it. Raises `ConfigurationError` where no database is configured, or where the
        URL for that driver cannot hold one of the parameters.

        >>> engine = create_async_engine(await app.database_url("asyncpg"))
        """
        return await self.client.database_url(driver)

    async def get(self, job_id: UUID | str) -> Job:
        """The job with this id, alive or finished. Raises `JobNotFound`."""
        return await self.client.get(job_id)

    async def logs(self, job_id: UUID | str) -> list[LogLine]:
        """The lines that the job's handler has logged, attempt by attempt, if its task has `capture_logs`.

        An attempt's lines can be read once it has ended. Raises `JobNotFound` for what can be no job's id.
        """
        return await self.client.logs(job_id)

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
