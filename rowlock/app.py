"""The application: tasks, settings, and the one object that a program imports."""

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
from rowlock.words import quoted

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

    `task_defaults`: options of `@app.task` for all tasks, included ones too; a task's own options override them.

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
        elif not isinstance(settings, Settings):
            raise InvalidOption(
                f"settings must be a rowlock.Settings; got {quoted(settings)}. Write it as Settings(schema=…).",
                option="settings",
            )
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
        """Add the tasks of these `Tasks` to this application, and those that are declared on them later.

        This application's `task_defaults` apply to options that neither the task nor its collection sets. A collection
        belongs to one application. Raises `InvalidOption` for a collection of another application, and for a taken
        name.

        >>> app.include(mail.tasks)
        """
        for tasks in collections:
            self._include(tasks)

    def autodiscover(self, *packages: str, module: str = "tasks") -> None:
        """Import the module `tasks` of each package, with its submodules, and include every `Tasks` found there.

        Call it in the module that makes the application, after making it: the modules may import the application.
        Raises `ConfigurationError` for a package without such a module.

        >>> app.autodiscover("shop", "billing")
        """
        for package in packages:
            for tasks in collections_in(package, module):
                if tasks is not self and tasks.included_in is not self:
                    self._include(tasks)

    def lifespan(self, function: Callable[[], AsyncIterator[T] | Iterator[T]]) -> Lifespan[T]:
        """Open a resource with each worker, and close it with the worker. Handlers read it as the result's `value`.

        The function yields the resource. Several open in the order of registration, and close in reverse. Raises
        `InvalidOption` for anything but a generator function without parameters, and while a worker of this application
        is open: that worker would not open the resource.

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

        Its arguments are the job and `call_next`; it may change the value or the exception of `call_next`. Workers that
        are open already do not run it. Raises `InvalidOption` for anything but an `async` function of two arguments.

        >>> @app.middleware
        ... async def timing(job: Job, call_next: CallNext) -> object:
        ...     return await call_next()
        """
        check.callback("middleware", function, "job, call_next")
        if not is_async(function):
            raise InvalidOption(
                f"middleware must be async; got {quoted(function)}. Write it as async def (job, call_next)."
            )
        self.middlewares.append(function)
        return function

    def on_failure(self, handler: Failing) -> Failing:
        """Call this function with `(job, error)` whenever a job of any task has failed: see `Task.on_failure`.

        The task's own failure handlers run first.
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
        """Declare a schedule for a task of this application; workers store it when they start.

        The options are those of `Schedule`; `name` defaults to the task's. Raises `InvalidOption`, also for the name of
        another declared schedule, `InvalidArguments` if `args` do not fit the task, `UnknownTask`.

        >>> app.schedule(send_email, "0 8 * * MON", args={"recipient": "ada@example.com", "subject": "Hi", "body": "…"})
        """
        known = self.tasks.get(task) if isinstance(task, str) else task
        if not isinstance(known, Task) or self.tasks.get(known.name) is not known:
            raise UnknownTask(f"task must belong to this application; got {quoted(task)}. Declare it first.")
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

        `driver`: None for psql and for a driver without SQLAlchemy (asyncpg, psycopg); `"asyncpg"`, `"psycopg"` or
        `"psycopg2"` for a SQLAlchemy engine over that driver. In development it points to the server that `rowlock dev`
        runs. It contains the password: do not log it. Raises `ConfigurationError` if no database is configured, or if
        the URL for that driver cannot express one of the parameters.

        >>> engine = create_async_engine(await app.database_url("asyncpg"))
        """
        return await self.database.database_url(driver)

    async def get(self, job_id: UUID | str) -> Job:
        """Return the job with this id, live or finished: short for `app.jobs.get`. Raises `JobNotFound`."""
        return await self.jobs.get(job_id)

    def worker(
        self,
        *,
        queues: Sequence[str] | Mapping[str, int | None] | None = None,
        concurrency: int = 50,
        threads: int | None = None,
        task_processes: int | None = None,
    ) -> Worker:
        """Make a worker for this application's tasks: `await worker.run()`, or `async with app.worker(...):`.

        `queues`: names, each with an optional limit: `["email", "reports:2"]`, or `{"email": None, "reports": 2}`; a
        `*` matches any characters (`"tenant-*"`). Default: every queue that a task names. `concurrency`: how many jobs
        run at once. `threads`: how many of these may be plain functions (default: `concurrency`). `task_processes`: how
        many processes run tasks with `executor="process"` (default: the number of CPUs, at most `concurrency`); they
        start on demand.
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
        """Close the connections of synchronous calls, and their event loop."""
        self.database.close_sync()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
