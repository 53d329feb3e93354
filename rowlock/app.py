"""The application: the tasks, the settings, and the one object that the rest of a program imports."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar
from weakref import WeakSet

from rowlock.errors import InvalidOption, UnknownTask
from rowlock.queue.connect.database import Database
from rowlock.queue.enqueue.by_name import ByName, Enqueuing
from rowlock.queue.enqueue.store import Store
from rowlock.queue.enqueue.task import (
    Failing,
    FailureHandler,
    Middleware,
    Task,
)
from rowlock.queue.jobs import checks as check
from rowlock.queue.jobs.callables import is_async
from rowlock.queue.jobs.job import Job
from rowlock.queue.operate.jobs import Jobs
from rowlock.queue.operate.keys import Keys
from rowlock.queue.operate.queues import Queues
from rowlock.queue.operate.retention import Retention
from rowlock.queue.operate.schedules import Schedules
from rowlock.queue.operate.workers import Workers
from rowlock.queue.read.dead_letters import DeadLetters
from rowlock.queue.schedules.schedule import Misfire, Overlap, Schedule
from rowlock.queue.tasks.lifespan import Lifespan
from rowlock.reading import Reading
from rowlock.settings import Settings
from rowlock.tasks import TaskDefaults, Tasks, collections_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from uuid import UUID

    from rowlock.database_url import Driver
    from rowlock.worker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Around = TypeVar("Around", bound=Middleware)


class Rowlock(Tasks, Enqueuing, Reading):
    """A queue, and the tasks that run on it.

    Without arguments the settings come from the environment (`ROWLOCK_DATABASE_URL`, else `DATABASE_URL`, else the
    server that `rowlock dev` runs in `./.rowlock`). Nothing connects before the first use; `async with app:` or
    `await app.close()` disconnects.

    `task_defaults`: options of `@app.task` for all tasks, those of included ones too; a task's own go before them.

    >>> app = Rowlock()
    >>> @app.task(queue="email", max_attempts=5)
    ... async def send_email(recipient: str, subject: str, body: str) -> dict[str, str]: ...
    """

    def __init__(
        self,
        database_url: str | None = None,
        *,
        settings: Settings | None = None,
        task_defaults: TaskDefaults | None = None,
    ) -> None:
        super().__init__(task_defaults=task_defaults)
        if settings is None:
            settings = Settings.from_environment()
        if database_url is not None:
            settings = replace(settings, database_url=database_url)
        self.settings = settings
        self.lifespans: list[Lifespan[Any]] = []
        self._workers_made: WeakSet[Worker] = WeakSet()
        self.middlewares: list[Middleware] = []
        self.failure_handlers: list[FailureHandler] = []
        self.database = Database(settings)
        self.store = self._bound_to = Store(self.database)
        self.by_name = ByName(self.database, self.tasks)
        self.jobs = Jobs(self.store, self.tasks)
        self.dead_letters = DeadLetters(self.database)
        self.schedules = Schedules(self.database, self.tasks)
        self.queues = Queues(self.database)
        self.workers = Workers(self.database)
        self.retention = Retention(self.database)
        self.keys = Keys(self.database)

    def include(self, *collections: Tasks) -> None:
        """Add the tasks of these `Tasks`, and those that are added to them later, to this application.

        This application's `task_defaults` hold for them where neither they nor their collection say otherwise. A
        collection belongs to one application. Raises `InvalidOption` for one that has another, and for a taken name.

        >>> app.include(mail.tasks)
        """
        for tasks in collections:
            self._include(tasks)

    def autodiscover(self, *packages: str, module: str = "tasks") -> None:
        """Import the module `tasks` of each package, with what is below it, and include every `Tasks` found there.

        Call it where the application is made, after that: the modules may import it. Raises `ConfigurationError` for a
        package that has no such module.

        >>> app.autodiscover("shop", "billing")
        """
        for package in packages:
            for tasks in collections_in(package, module):
                if tasks is not self and tasks.included_in is not self:
                    self._include(tasks)

    def lifespan(self, function: Callable[[], AsyncIterator[T] | Iterator[T]]) -> Lifespan[T]:
        """Open what this function yields for as long as a worker is open. Handlers read it as the result's `value`.

        Several open in the order of registration, and close in reverse. Raises `InvalidOption` for what is no generator
        function without parameters, and while a worker of this application is open, which would not open it.

        >>> @app.lifespan
        ... async def http() -> AsyncIterator[httpx.AsyncClient]:
        ...     async with httpx.AsyncClient() as client:
        ...         yield client
        """
        made = Lifespan(function)
        if any(worker.is_open for worker in self._workers_made):
            raise InvalidOption(
                f"lifespan {made.__module__}.{made.__name__} must be registered before a worker is opened; one is. "
                "Register it where the application is made, or import its module there.",
                option="lifespan",
            )
        self.lifespans.append(made)
        return made

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
        cron: str | timedelta,
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
        return await self.database.database_url(driver)

    async def get(self, job_id: UUID | str) -> Job:
        """The job with this id, alive or finished: short for `app.jobs.get`. Raises `JobNotFound`."""
        return await self.jobs.get(job_id)

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

        made = Worker(
            self.database,
            self.tasks,
            schedules=list(self._declared.values()),
            queues=queues,
            concurrency=concurrency,
            threads=threads,
            task_processes=task_processes,
            lifespans=self.lifespans,
            middleware=self.middlewares,
            failure_handlers=self.failure_handlers,
        )
        self._workers_made.add(made)
        return made

    async def close(self) -> None:
        """Close the application's connections. They open again at the next use."""
        await self.database.close()

    def close_sync(self) -> None:
        """Close the connections that synchronous calls have opened, and their event loop."""
        self.database.close_sync()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
