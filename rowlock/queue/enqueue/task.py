"""A task: the Python function behind jobs, with the options that its jobs start from."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    Unpack,
    cast,
    get_type_hints,
    overload,
)

if sys.version_info >= (3, 13):
    from typing import TypeVar as WithDefault
else:
    from typing_extensions import TypeVar as WithDefault

from rowlock.errors import ConfigurationError, InvalidOption
from rowlock.queue.connect import drivers
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.checks import Executor
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.options import EnqueueOptions, JobOptions, TaskJobs, checked, checked_usual
from rowlock.queue.jobs.results import checked_type
from rowlock.queue.read.handle import JobHandle
from rowlock.queue.read.reader import foreign_holders
from rowlock.queue.tasks.arguments import Arguments, plain_document
from rowlock.queue.tasks.backoff import BackoffOption, ExceptionClasses, parse_backoff, parse_rules
from rowlock.queue.tasks.batch import item_type, read_batch
from rowlock.queue.tasks.upcasters import Upcasters, Upcasting
from rowlock.settings import Settings
from rowlock.words import quoted

if TYPE_CHECKING:
    from uuid import UUID

    from rowlock.queue.enqueue.store import Store

P = ParamSpec("P")
R = TypeVar("R")
Item = TypeVar("Item")
F = WithDefault("F", bound=Callable[..., Any], default=Callable[..., Any])

AsyncFunction: TypeAlias = Callable[P, Coroutine[Any, Any, R]]
AwaitableFunction: TypeAlias = Callable[P, Awaitable[R]]
"""A plain wrapper around an `async` function, for example."""

FailureHandler: TypeAlias = Callable[[Job, BaseException], object]
Failing = TypeVar("Failing", bound=FailureHandler)


class CallNext(Protocol):
    """The next middleware, or the handler after the last one. A middleware awaits it once, more often, or not at all.

    >>> @app.middleware
    ... async def timing(job: Job, call_next: CallNext) -> object:
    ...     return await call_next()
    """

    def __call__(self) -> Awaitable[Any]:
        """Call the next middleware, or the handler, and pass on its result or its error."""
        ...


Middleware: TypeAlias = Callable[[Job, CallNext], Awaitable[Any]]
"""A middleware for `@app.middleware`: an `async` function of the job and `call_next`."""

DEFAULT_BACKOFF = 2.0


class _Elsewhere:
    """A method of other libraries' tasks, whose error names Rowlock's way.

    A descriptor, not `__getattr__`, which would make every other attribute of a task slower to read.
    """

    def __init__(self, instead: str) -> None:
        self._instead = instead
        self._name = ""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, task: object, owner: type) -> NoReturn:
        message = f"{owner.__name__!r} object has no attribute {self._name!r}: {self._instead}"
        raise AttributeError(message, name=self._name, obj=task)


class Task(Generic[P, R, F]):
    """A function that can be enqueued. `@app.task` makes it; a call of it calls the function itself, at once and here.

    `Task[[str, int], bool]` annotates a task whose jobs have the arguments `str` and `int` and the result `bool`. The
    third parameter is the type of the function itself, for calls.

    >>> handle = await send_email.enqueue("ada@example.com", "Hi", "…")
    """

    def __init__(
        self,
        function: Callable[..., object],
        store: Store | None,
        *,
        name: str | None = None,
        max_crashes: int | None = None,
        backoff: BackoffOption = DEFAULT_BACKOFF,
        retry_on: ExceptionClasses | None = None,
        never_retry: ExceptionClasses | None = None,
        timeout: timedelta | float | None = None,
        executor: Executor | None = None,
        result_ttl: timedelta | float | None = None,
        capture_logs: bool | str = False,
        version: int = 1,
        batch: int | None = None,
        batch_wait: timedelta | float | None = None,
        sensitive: bool = False,
        **of_jobs: Unpack[TaskJobs],
    ) -> None:
        self.function = self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__name__ = getattr(function, "__name__", "task")
        self.name = checks.task_name(self.__name__ if name is None else name)
        self.version = checks.args_version(version, "version")
        self.upcasters = Upcasters(self.name, self.version)
        self.has_upcasters = False
        self.max_crashes = checks.max_crashes(max_crashes)
        self.backoff = parse_backoff(backoff)
        self.rules = parse_rules(retry_on, never_retry)
        self.timeout = checks.timeout(timeout)
        self.executor = checks.executor(executor, function)
        self.is_async = self.executor == "loop"
        self.failure_handlers: list[FailureHandler] = []
        self.result_ttl = checks.result_ttl(result_ttl)
        self.keeps_result = self.result_ttl is None or self.result_ttl > timedelta(0)
        self.log_level = checks.capture_logs(capture_logs)
        if self.executor == "process" and self.log_level is not None:
            raise InvalidOption(
                f"capture_logs cannot capture in a process; got {quoted(capture_logs)}. Omit it, or the executor."
            )
        self.batch = read_batch(
            function,
            task=self.name,
            size=batch,
            wait=batch_wait,
            executor=self.executor,
            captures_logs=self.log_level is not None,
        )
        called = function if self.batch is None else self.batch.member
        self.arguments = Arguments(called, task=self.name, injected=Job)
        self.has_runtime = self.arguments.job_parameter is not None or self.log_level is not None
        self.returns = return_type(function) if self.batch is None else item_type(return_type(function))
        self.checked_returns = checked_type(self.returns)
        self.is_sensitive = checks.flag("sensitive", sensitive)
        self.options = checked_usual(of_jobs, self.arguments)
        self.queue, self.priority = self.options.queue, self.options.priority
        self.max_attempts, self.unique = self.options.max_attempts, self.options.unique
        self._store = cast("Store", _NoApplication(self.name)) if store is None else store
        self._most_bytes = (Settings() if store is None else store.database.settings).max_args_bytes

    if TYPE_CHECKING:
        __call__: F
    else:

        def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # the function's own
            """Call the function itself, without the queue; pass a `Job` if it needs one, a list to a batch handler."""
            return self.function(*args, **kwargs)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue a job with these arguments, in a transaction of its own, or in that of `using(connection=…)`.

        Raises `InvalidArguments` if they do not fit the function, and `DuplicateJob` for a duplicate with
        `on_duplicate="raise"`; nothing is stored then. Raises `EnqueueUnknown` if the connection was lost before the
        answer.
        """
        job = self._job(self.options, args, kwargs)
        return await self._handle_of(job, await self._store.enqueue(job), None)

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue from a synchronous program, like `enqueue`. Raises `InsideEventLoop` in a running event loop."""
        return self._store.database.run_sync(self.enqueue(*args, **kwargs))

    def job(self, *args: P.args, **kwargs: P.kwargs) -> NewJob[R]:
        """A job with these arguments, for `app.enqueue_many`. Raises `InvalidArguments`."""
        return self._job(self.options, args, kwargs)

    def using(
        self, *, connection: object = drivers.Own.TRANSACTION, **options: Unpack[EnqueueOptions]
    ) -> BoundTask[P, R]:
        """The task with other options, for the next `enqueue(...)` or `job(...)`.

        The options are those of `EnqueueOptions`: `queue`, `priority`, `delay`, `run_at`, `max_attempts`, `timeout`,
        `expires`, `deadline`, `unique`, `tags`, `metadata`. With `unique`, the handle's `is_duplicate` shows that no
        job was stored, and the handle is that of the job that holds the key. `connection`: enqueue in the open
        transaction of this connection (or session): the job exists if and only if it commits. Raises `InvalidOption`.

        >>> await send_email.using(connection=session, delay=60, unique="welcome:42").enqueue(
        ...     "ada@example.com", "Hi", "…"
        ... )
        """
        return BoundTask(self, checked(options, self.options, self.arguments), drivers.given(connection))

    def on_failure(self, handler: Failing) -> Failing:
        """Call this function, sync or async, with `(job, error)` whenever a job of this task has ended as failed.

        The worker calls it at least once, after the outcome is decided and before it is recorded, and logs its errors.
        Raises `InvalidOption` for a value that cannot be called like this.

        >>> @send_email.on_failure
        ... async def tell_support(job: Job, error: BaseException) -> None: ...
        """
        checks.callback("on_failure", handler, "job, error")
        self.failure_handlers.append(handler)
        return handler

    def upcast(self, *, from_version: int) -> Callable[[Upcasting], Upcasting]:
        """Convert arguments of version `from_version` to the next version by this function, from dict to dict.

        For jobs that older code has enqueued: a worker calls it before it checks the arguments, and passes its result
        to the upcaster of the next version, up to the task's own `version`. The worker leaves jobs of versions from
        which no upcasters lead there to workers that understand them. The stored arguments do not change. An upcaster
        that raises, or whose arguments do not fit, fails the attempt. Raises `InvalidOption`.

        >>> @send_email.upcast(from_version=1)
        ... def _(args: dict[str, Any]) -> dict[str, Any]:
        ...     return {**args, "locale": "en"}
        """

        def add(function: Upcasting) -> Upcasting:
            self.upcasters.add(from_version, function)
            self.has_upcasters = True
            return function

        return add

    @property
    def claimed_as(self) -> list[str]:
        """The names by which a worker claims this task: `name` for version 1 of its arguments, `name@2` for another."""
        return [self.name if version == 1 else f"{self.name}@{version}" for version in self.upcasters.versions]

    def check(self, args: object, version: int) -> tuple[str, str | None]:
        """Check arguments from outside, of any version; return the JSON text to store, and that for the function.

        The latter is None if no upcasters lead from that version to this code's: then only JSON's own rules apply.
        Raises `InvalidArguments`.
        """
        limit = self._most_bytes
        if version == self.version:
            document = self.arguments.check(args, limit=limit)
            return document, document
        document = plain_document(self.name, cast("Mapping[str, object]", args), limit)
        if version not in self.upcasters.versions:
            return document, None
        return document, self.arguments.check(self.upcasters.bring(document, version), limit=limit)

    def _job(self, options: JobOptions, args: tuple[object, ...], kwargs: dict[str, Any]) -> NewJob[R]:
        document = self.arguments.encode(args, kwargs, limit=self._most_bytes)
        if options.unique is None:
            return NewJob(uuid7(), self.name, document, options, None, self.version)
        key = options.unique.stored_key(self.name, document, self.arguments)
        return NewJob(uuid7(), self.name, document, options, key, self.version)

    async def _handle_of(self, job: NewJob[R], stored: UUID, connection: object) -> JobHandle[R]:
        """The handle of the job itself, or of the job that holds its key."""
        if stored != job.id and (other := await foreign_holders(self._store.database, [job], [stored], connection)):
            return JobHandle(stored, other[stored], True, self._store.database, Any)  # noqa: FBT003  # is_duplicate
        return self.handle(stored, is_duplicate=stored != job.id)

    def handle(self, job_id: UUID, *, is_duplicate: bool = False) -> JobHandle[R]:
        """A handle on a job of this task."""
        return JobHandle(job_id, self.name, is_duplicate, self._store.database, self.returns)

    def __repr__(self) -> str:
        return f"<Task {self.name} queue={self.queue}>"

    if not TYPE_CHECKING:  # a type checker does not see them
        delay = _Elsewhere("await task.enqueue(...), or task.enqueue_sync(...) in a synchronous program")
        apply_async = _Elsewhere(
            "await task.using(...).enqueue(...), with delay= for a countdown and run_at= for an eta"
        )
        send = _Elsewhere("await task.enqueue(...), or task.enqueue_sync(...) in a synchronous program")
        send_with_options = _Elsewhere("await task.using(...).enqueue(...)")
        defer = _Elsewhere("task.enqueue_sync(...)")
        defer_async = _Elsewhere("await task.enqueue(...)")
        s = _Elsewhere("task.job(...) makes a job for app.enqueue_many")
        retry = _Elsewhere("raise Retry(seconds) in the handler")


class _NoApplication:
    """Replace the store of a task of a `Tasks` that no application includes."""

    def __init__(self, task: str) -> None:
        self._task = task

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigurationError(
            f"The task {quoted(self._task)} belongs to no application yet. Call app.include(tasks) first."
        )


class BoundTask(Generic[P, R]):
    """A task with the options that `task.using(...)` gave it."""

    __slots__ = ("_connection", "_options", "_task")

    def __init__(self, task: Task[P, R, Any], options: JobOptions, connection: object) -> None:
        self._task = task
        self._options = options
        self._connection = connection

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue a job with these arguments and the options of `using(...)`. Raises `InvalidArguments`."""
        task = self._task
        job = task._job(self._options, args, kwargs)  # noqa: SLF001  # two halves of one thing
        stored = await task._store.enqueue(job, self._connection)  # noqa: SLF001
        return await task._handle_of(job, stored, self._connection)  # noqa: SLF001

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue from a synchronous program, like `enqueue`, over a synchronous connection or none.

        Raises `InsideEventLoop` in a running event loop, `InvalidOption` for an asynchronous connection.
        """
        database = self._task._store.database  # noqa: SLF001  # two halves of one thing
        return database.run_sync(self.enqueue(*args, **kwargs), self._connection)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> NewJob[R]:
        """A job with these arguments and options, for `app.enqueue_many`, which has its own `connection`."""
        if self._connection is not None:
            raise InvalidOption(
                "using(connection=...) does not apply to job(...). Give it to enqueue_many(...) instead."
            )
        return self._task._job(self._options, args, kwargs)  # noqa: SLF001  # two halves of one thing


class TaskDecorator(Protocol):
    """The decorator `@app.task(...)`. The worker fills a first parameter annotated `Job`."""

    @overload
    def __call__(
        self, function: AsyncFunction[Concatenate[Job, P], R], /
    ) -> Task[P, R, AsyncFunction[Concatenate[Job, P], R]]: ...
    @overload
    def __call__(self, function: AsyncFunction[P, R], /) -> Task[P, R, AsyncFunction[P, R]]: ...
    @overload
    def __call__(
        self, function: AwaitableFunction[Concatenate[Job, P], R], /
    ) -> Task[P, R, AwaitableFunction[Concatenate[Job, P], R]]: ...
    @overload
    def __call__(self, function: AwaitableFunction[P, R], /) -> Task[P, R, AwaitableFunction[P, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Job, P], R], /
    ) -> Task[P, R, Callable[Concatenate[Job, P], R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R, Callable[P, R]]: ...
    def __call__(self, function: Callable[..., Any], /) -> Task[..., Any]:
        """Make a task of the function."""
        ...


class BatchDecorator(Protocol):
    """The decorator `@app.task(batch=…)`. The worker fills a first parameter annotated `list[Job]`.

    Each job is enqueued with one item of the handler's list; its result is one item of the returned list.
    """

    @overload
    def __call__(
        self, function: AsyncFunction[[list[Job], list[Item]], None], /
    ) -> Task[[Item], None, AsyncFunction[[list[Job], list[Item]], None]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the one above has taken those that return None
        self, function: AsyncFunction[[list[Job], list[Item]], list[R] | None], /
    ) -> Task[[Item], R, AsyncFunction[[list[Job], list[Item]], list[R] | None]]: ...
    @overload
    def __call__(
        self, function: AwaitableFunction[[list[Job], list[Item]], None], /
    ) -> Task[[Item], None, AwaitableFunction[[list[Job], list[Item]], None]]: ...
    @overload
    def __call__(
        self, function: AwaitableFunction[[list[Job], list[Item]], list[R] | None], /
    ) -> Task[[Item], R, AwaitableFunction[[list[Job], list[Item]], list[R] | None]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[Job], list[Item]], None], /
    ) -> Task[[Item], None, Callable[[list[Job], list[Item]], None]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[Job], list[Item]], list[R] | None], /
    ) -> Task[[Item], R, Callable[[list[Job], list[Item]], list[R] | None]]: ...
    @overload
    def __call__(
        self, function: AsyncFunction[[list[Item]], None], /
    ) -> Task[[Item], None, AsyncFunction[[list[Item]], None]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the one above has taken those that return None
        self, function: AsyncFunction[[list[Item]], list[R] | None], /
    ) -> Task[[Item], R, AsyncFunction[[list[Item]], list[R] | None]]: ...
    @overload
    def __call__(
        self, function: AwaitableFunction[[list[Item]], None], /
    ) -> Task[[Item], None, AwaitableFunction[[list[Item]], None]]: ...
    @overload
    def __call__(
        self, function: AwaitableFunction[[list[Item]], list[R] | None], /
    ) -> Task[[Item], R, AwaitableFunction[[list[Item]], list[R] | None]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[Item]], None], /
    ) -> Task[[Item], None, Callable[[list[Item]], None]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[Item]], list[R] | None], /
    ) -> Task[[Item], R, Callable[[list[Item]], list[R] | None]]: ...
    def __call__(self, function: Callable[..., Any], /) -> Task[..., Any]:
        """Make a task of the function."""
        ...


def return_type(function: Callable[..., object]) -> object:
    """The return annotation; Any if it cannot be resolved: it may name an import for type checkers only."""
    annotations = getattr(function, "__annotations__", {})
    holder = SimpleNamespace(__annotations__={"return": annotations.get("return", Any)})
    module = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return get_type_hints(holder, module, include_extras=True)["return"]
    except Exception:  # noqa: BLE001  # annotations are code
        return Any


__all__ = ["BatchDecorator", "BoundTask", "Task", "TaskDecorator", "return_type"]
