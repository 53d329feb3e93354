"""A task: the Python function behind jobs, with the options that its jobs start from."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime, timedelta
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
from rowlock.queue.enqueue.options import EnqueueOptions, checked
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.checks import Executor
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.new_job import JobOptions, NewJob
from rowlock.queue.jobs.results import checked_type
from rowlock.queue.jobs.unique import Unique, parse_unique
from rowlock.queue.read.handle import JobHandle
from rowlock.queue.read.reader import foreign_holders
from rowlock.queue.tasks.arguments import Arguments, plain_document
from rowlock.queue.tasks.backoff import BackoffOption, ExceptionClasses, parse_backoff, parse_rules
from rowlock.queue.tasks.batch import item_type, read_batch
from rowlock.queue.tasks.upcasters import Upcasters, Upcasting
from rowlock.settings import Settings
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from rowlock.queue.enqueue.store import Store

P = ParamSpec("P")
R = TypeVar("R")
Item = TypeVar("Item")
F = WithDefault("F", bound=Callable[..., Any], default=Callable[..., Any])

AsyncFunction: TypeAlias = Callable[P, Coroutine[Any, Any, R]]
AwaitableFunction: TypeAlias = Callable[P, Awaitable[R]]
"""Of a plain wrapper around an `async` function, say."""

FailureHandler: TypeAlias = Callable[[Job, BaseException], object]
Failing = TypeVar("Failing", bound=FailureHandler)


class CallNext(Protocol):
    """What a middleware awaits, once or more often or not at all: the next one, and in the end the handler.

    >>> @app.middleware
    ... async def timing(job: Job, call_next: CallNext) -> object:
    ...     return await call_next()
    """

    def __call__(self) -> Awaitable[Any]:
        """Call the next middleware, or the handler; what it returns or raises comes through."""
        ...


Middleware: TypeAlias = Callable[[Job, CallNext], Awaitable[Any]]
"""What `@app.middleware` takes: an `async` function of the job and `call_next`."""

DEFAULT_QUEUE = "default"
DEFAULT_PRIORITY = 5
DEFAULT_MAX_ATTEMPTS = 10
DEFAULT_BACKOFF = 2.0


class _Elsewhere:
    """A method that tasks of other queues have: it says how that is done here.

    A descriptor, and no `__getattr__`, which would make every other attribute of a task slower to read.
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
    """A function that can be enqueued. `@app.task` makes it; calling it calls the function itself, at once and here.

    `Task[[str, int], bool]` annotates one whose jobs take a `str` and an `int`, and have a `bool` as their result. The
    third parameter is the type of the function itself, for calls.

    >>> handle = await send_email.enqueue("ada@example.com", "Hi", "…")
    """

    def __init__(
        self,
        function: Callable[..., object],
        store: Store | None,
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
        expires: timedelta | float | datetime | None = None,
        deadline: timedelta | float | datetime | None = None,
        executor: Executor | None = None,
        result_ttl: timedelta | float | None = None,
        capture_logs: bool | str = False,
        unique: Unique | str | None = None,
        version: int = 1,
        batch: int | None = None,
        batch_wait: timedelta | float | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        sensitive: bool = False,
    ) -> None:
        self.function = self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__name__ = getattr(function, "__name__", "task")
        self.name = checks.task_name(self.__name__ if name is None else name)
        self.version = checks.args_version(version, "version")
        self.upcasters = Upcasters(self.name, self.version)
        self.has_upcasters = False
        self.queue = checks.queue_name(queue)
        self.priority = checks.priority(priority)
        self.max_attempts = checks.max_attempts(max_attempts)
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
                f"capture_logs {quoted(capture_logs)} does not reach into a process: leave it out, or the executor."
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
        self.unique = parse_unique(unique, self.arguments)
        self.is_sensitive = checks.flag("sensitive", sensitive)
        self.options = JobOptions(
            queue=self.queue,
            priority=self.priority,
            max_attempts=self.max_attempts,
            expires=checks.limit_in_time("expires", expires),
            deadline=checks.limit_in_time("deadline", deadline),
            unique=self.unique,
            tags=checks.tags(tags),
            metadata=checks.metadata(metadata),
        )
        self._store = cast("Store", _NoApplication(self.name)) if store is None else store
        self._most_bytes = (Settings() if store is None else store.database.settings).max_args_bytes

    if TYPE_CHECKING:
        __call__: F
    else:

        def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # the function's own
            """Call the function itself, without the queue: with a job if it takes one, a batch handler with a list."""
            return self.function(*args, **kwargs)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue a job with these arguments, in a transaction of its own, or in that of `using(connection=…)`.

        Raises `InvalidArguments` if they do not fit the function, and `DuplicateJob` if another one is to be an error;
        nothing is stored then. Raises `EnqueueUnknown` if the connection was lost before the answer.
        """
        job = self._job(self.options, args, kwargs)
        return await self._handle_of(job, await self._store.enqueue(job), None)

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `enqueue`, for synchronous programs. Raises `InsideEventLoop` where one must await."""
        return self._store.database.run_sync(self.enqueue(*args, **kwargs))

    def job(self, *args: P.args, **kwargs: P.kwargs) -> NewJob[R]:
        """A job with these arguments, to be given to `app.enqueue_many`. Raises `InvalidArguments`."""
        return self._job(self.options, args, kwargs)

    def using(
        self, *, connection: object = drivers.Own.TRANSACTION, **options: Unpack[EnqueueOptions]
    ) -> BoundTask[P, R]:
        """The task with other options, for the `enqueue(...)` or `job(...)` that follows.

        The options are those of `EnqueueOptions`: `queue`, `priority`, `delay`, `run_at`, `max_attempts`, `timeout`,
        `expires`, `deadline`, `unique`, `tags`, `metadata`. With `unique`, the handle's `is_duplicate` says that no
        job was stored, and the handle is that of the job that holds the key. `connection`:
        enqueue in this connection's (or session's) open transaction: the job exists if and only if it commits. Raises
        `InvalidOption`.

        >>> await send_email.using(connection=session, delay=60, unique="welcome:42").enqueue(
        ...     "ada@example.com", "Hi", "…"
        ... )
        """
        return BoundTask(self, checked(options, self.options, self.arguments), drivers.given(connection))

    def on_failure(self, handler: Failing) -> Failing:
        """Call this function, sync or async, with `(job, error)` whenever a job of this task has ended as failed.

        In the worker, once it is decided, before it is recorded; at least once. What it raises is logged. Raises
        `InvalidOption` for what cannot be called so.

        >>> @send_email.on_failure
        ... async def tell_support(job: Job, error: BaseException) -> None: ...
        """
        checks.callback("on_failure", handler, "job, error")
        self.failure_handlers.append(handler)
        return handler

    def upcast(self, *, from_version: int) -> Callable[[Upcasting], Upcasting]:
        """Bring arguments of version `from_version` to the next one: by this function, from dict to dict.

        For jobs that older code has enqueued: a worker calls it before the arguments are checked, and the one of the
        next version with what it returned, up to the task's own `version`. Jobs of versions from which nothing leads
        there are left to workers that understand them. What is stored stays as it is. An upcaster that raises, or
        whose arguments do not fit, fails the attempt. Raises `InvalidOption`.

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
        """What a worker that has this task looks for: `name` for version 1 of its arguments, `name@2` for another."""
        return [self.name if version == 1 else f"{self.name}@{version}" for version in self.upcasters.versions]

    def check(self, args: object, version: int) -> tuple[str, str | None]:
        """Arguments from outside, of any version, as JSON text: as they are to be stored, and as the function has them.

        The latter is None where nothing leads from that version to this code's: only JSON's own rules are checked
        then. Raises `InvalidArguments`.
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
        """The handle of a job that was given: of itself, or of the job that holds its key."""
        if stored != job.id and (other := await foreign_holders(self._store.database, [job], [stored], connection)):
            return JobHandle(stored, other[stored], True, self._store.database, Any)  # noqa: FBT003  # is_duplicate
        return self.handle(stored, is_duplicate=stored != job.id)

    def handle(self, job_id: UUID, *, is_duplicate: bool = False) -> JobHandle[R]:
        """A handle on a job of this task."""
        return JobHandle(job_id, self.name, is_duplicate, self._store.database, self.returns)

    def __repr__(self) -> str:
        return f"<Task {self.name} queue={self.queue}>"

    if not TYPE_CHECKING:  # for a type checker they are not there
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
    """In the place of a store, for a task of a `Tasks` that no application includes."""

    def __init__(self, task: str) -> None:
        self._task = task

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigurationError(
            f"The task {quoted(self._task)} belongs to no application yet: app.include(tasks) first."
        )


class BoundTask(Generic[P, R]):
    """A task with the options that `task.using(...)` gave it."""

    __slots__ = ("_connection", "_options", "_task")

    def __init__(self, task: Task[P, R, Any], options: JobOptions, connection: object) -> None:
        self._task = task
        self._options = options
        self._connection = connection

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue a job with these arguments and the options given before. Raises `InvalidArguments`."""
        task = self._task
        job = task._job(self._options, args, kwargs)  # noqa: SLF001  # two halves of one thing
        stored = await task._store.enqueue(job, self._connection)  # noqa: SLF001
        return await task._handle_of(job, stored, self._connection)  # noqa: SLF001

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `enqueue`, for synchronous programs, over a synchronous connection or none.

        Raises `InsideEventLoop` where one must await, `InvalidOption` for an asynchronous connection.
        """
        database = self._task._store.database  # noqa: SLF001  # two halves of one thing
        return database.run_sync(self.enqueue(*args, **kwargs), self._connection)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> NewJob[R]:
        """A job with these arguments and options, to be given to `app.enqueue_many`; a connection is given there."""
        if self._connection is not None:
            raise InvalidOption("connection is given to enqueue_many(..., connection=...), not to its jobs.")
        return self._task._job(self._options, args, kwargs)  # noqa: SLF001  # two halves of one thing


class TaskDecorator(Protocol):
    """What `@app.task(...)` returns. A parameter annotated `Job` in the first place is the worker's to fill."""

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
    """What `@app.task(batch=…)` returns. A parameter annotated `list[Job]` in the first place is the worker's to fill.

    What is enqueued is one item of the handler's list; each job has one item of the list that it returns.
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
    """The return annotation; Any where it cannot be resolved, since it may name what only type checkers import."""
    annotations = getattr(function, "__annotations__", {})
    holder = SimpleNamespace(__annotations__={"return": annotations.get("return", Any)})
    module = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return get_type_hints(holder, module, include_extras=True)["return"]
    except Exception:  # noqa: BLE001  # annotations are code
        return Any


__all__ = ["BatchDecorator", "BoundTask", "Task", "TaskDecorator", "return_type"]
