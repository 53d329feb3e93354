"""Declare tasks: for an application, or for a library that an application includes later."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar, Unpack, overload

from rowlock.errors import ConfigurationError, InvalidOption
from rowlock.queue.enqueue.task import (
    DEFAULT_BACKOFF,
    AsyncFunction,
    AwaitableFunction,
    BatchDecorator,
    Task,
    TaskDecorator,
)
from rowlock.queue.jobs.options import JobDefaults, TaskJobs
from rowlock.queue.schedules.schedule import Declared, Schedule
from rowlock.words import quoted

if TYPE_CHECKING:
    from rowlock.queue.enqueue.store import Store
    from rowlock.queue.jobs.checks import Executor
    from rowlock.queue.jobs.job import Job
    from rowlock.queue.tasks.backoff import BackoffOption, ExceptionClasses

P = ParamSpec("P")
R = TypeVar("R")

When: TypeAlias = str | timedelta | Schedule
Times: TypeAlias = When | Sequence[When]

_OPTIONS: Final = TaskJobs.__annotations__.keys() | (
    inspect.signature(Task.__init__).parameters.keys() - {"self", "function", "store", "of_jobs"}
)

_OTHER_WORDS: Final = {
    "acks_late": "omit it: a job's outcome is always recorded after it has run",
    "autoretry_for": "use retry_on",
    "base": "use @app.middleware and @task.on_failure",
    "bind": "omit it, and annotate the first parameter with Job: the worker fills it",
    "countdown": "use task.using(delay=…)",
    "default_retry_delay": "use backoff",
    "dont_autoretry_for": "use never_retry",
    "eta": "use task.using(run_at=…)",
    "ignore_result": "use result_ttl=0",
    "max_retries": "use max_attempts, which counts the first attempt, too (max_retries + 1)",
    "min_backoff": "use backoff",
    "queue_name": "use queue",
    "retry": "use max_attempts",
    "retry_backoff": "use backoff",
    "retry_kwargs": "use max_attempts and backoff",
    "soft_time_limit": "use timeout",
    "time_limit": "use timeout",
}
"""The names that other job queues use for the options of a task."""


class TaskDefaults(JobDefaults, total=False):
    """Options of `@app.task` that can be given for all tasks: `Rowlock(task_defaults={"timeout": 60})`."""

    max_crashes: int | None
    backoff: BackoffOption
    retry_on: ExceptionClasses | None
    never_retry: ExceptionClasses | None
    timeout: timedelta | float | None
    result_ttl: timedelta | float | None
    sensitive: bool


class Tasks:
    """Tasks of a library or a module. `app.include(tasks)` adds them to an application.

    They can be enqueued and run once they are included. `task_defaults`: options for all of them.

    >>> tasks = Tasks(task_defaults={"queue": "email"})
    >>> @tasks.task(max_attempts=5)
    ... async def send_email(recipient: str) -> None: ...
    """

    def __init__(self, *, task_defaults: TaskDefaults | None = None) -> None:
        self.task_defaults: TaskDefaults = {} if task_defaults is None else _checked_defaults(task_defaults)
        self.tasks: dict[str, Task[..., Any]] = {}
        self.included_in: Tasks | None = None
        """The application, once there is one."""
        self._bound_to: Store | None = None
        self._given: dict[str, dict[str, Any]] = {}
        self._declared: dict[str, Declared] = {}

    @overload
    def task(
        self, function: AsyncFunction[Concatenate[Job, P], R], /
    ) -> Task[P, R, AsyncFunction[Concatenate[Job, P], R]]: ...
    @overload
    def task(self, function: AsyncFunction[P, R], /) -> Task[P, R, AsyncFunction[P, R]]: ...
    @overload
    def task(
        self, function: AwaitableFunction[Concatenate[Job, P], R], /
    ) -> Task[P, R, AwaitableFunction[Concatenate[Job, P], R]]: ...
    @overload
    def task(self, function: AwaitableFunction[P, R], /) -> Task[P, R, AwaitableFunction[P, R]]: ...
    @overload
    def task(self, function: Callable[Concatenate[Job, P], R], /) -> Task[P, R, Callable[Concatenate[Job, P], R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R, Callable[P, R]]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        max_crashes: int | None = None,
        backoff: BackoffOption = DEFAULT_BACKOFF,
        retry_on: ExceptionClasses | None = None,
        never_retry: ExceptionClasses | None = None,
        timeout: timedelta | float | None = None,
        executor: Executor | None = None,
        schedule: Times = (),
        result_ttl: timedelta | float | None = None,
        capture_logs: bool | str = False,
        version: int = 1,
        sensitive: bool = False,
        **of_jobs: Unpack[TaskJobs],
    ) -> TaskDecorator: ...
    @overload
    def task(
        self,
        /,
        *,
        batch: int,
        batch_wait: timedelta | float | None = None,
        name: str | None = None,
        max_crashes: int | None = None,
        backoff: BackoffOption = DEFAULT_BACKOFF,
        retry_on: ExceptionClasses | None = None,
        never_retry: ExceptionClasses | None = None,
        timeout: timedelta | float | None = None,
        schedule: Times = (),
        result_ttl: timedelta | float | None = None,
        version: int = 1,
        sensitive: bool = False,
        **of_jobs: Unpack[TaskJobs],
    ) -> BatchDecorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        schedule: Times = (),
        **options: Any,
    ) -> Any:
        """Make a task of a function: `@app.task`, or `@app.task(queue=…, …)`.

        An `async` function runs on the event loop, a plain one in a thread, or with `executor="process"` in a process.
        `name` (default: the function's) identifies the task in the job's row. `backoff`: the delay before the first
        retry, in seconds or as a `timedelta`, doubling from then on; or a list of delays, a function of attempt and
        error, or a policy. `retry_on`: only these exceptions are retried; `never_retry`: these are not. `max_crashes`:
        how often its worker may die while the job runs (default: the worker's setting); 1: a job that has begun begins
        again only if its handler fails. `timeout`: of each attempt.
        `expires`: a job that has not started by then never runs. `deadline`: the job ends by then, whatever its
        outcome; both count from its enqueue. `schedule`: one cron text, `timedelta` or `Schedule`, or several.
        `result_ttl`: how long results are kept, in seconds or as a `timedelta` (0: not at all; None: as long as the
        job's row). `capture_logs`: whether to keep the handler's log lines, or from which level on (`"warning"`).
        `unique`: a key, or the rules of a `Unique`, for all its jobs. `version`: of its arguments; raise it with a
        change that arguments of older jobs do not fit: see `Task.upcast`. `batch`: the most jobs in one call of a
        function that takes a list with an item of each, and returns None or a list with an outcome of each;
        `batch_wait`: how long the first waits for the others, in seconds or as a `timedelta` (0.05). `tags`: words to
        find its jobs by. `metadata`: texts by key to find its jobs by. `sensitive`: the HTTP API, the dashboard and the
        command line hide the arguments of its jobs, and what they return, report, log or raise; Python and SQL show
        them. Raises `InvalidOption`, also for a taken name.
        """
        _refuse_foreign(options)

        def make(function: Callable[..., Any]) -> Task[..., Any]:
            if not callable(function):
                raise InvalidOption(
                    f"A task must be a function; got {quoted(function)}. Write @app.task above its def, with "
                    'options as @app.task(name="…").'
                )
            made: Task[..., Any] = Task(function, self._bound_to, **{**self.task_defaults, **options})
            declared = self._check_new(made, schedule)
            if self.included_in is not None:
                self.included_in._adopt(self, made, options, declared)  # noqa: SLF001  # the same class
            self._add(made, options, declared)
            return made

        return make if function is None else make(function)

    def _check_new(self, made: Task[..., Any], schedule: Times) -> dict[str, Declared]:
        """Check that the task's name is free; return its schedules. Raises `InvalidOption`, `InvalidArguments`."""
        if made.name in self.tasks:
            other = self.tasks[made.name]
            raise InvalidOption(
                f"name must be unique among tasks; got {made.name!r}, the name of {other.__module__}.{other.__name__}. "
                "Give this task its own name=."
            )
        return self._declare_all(made, schedule)

    def _add(self, made: Task[..., Any], options: dict[str, Any], declared: dict[str, Declared]) -> None:
        self.tasks[made.name] = made
        self._given[made.name] = options
        self._declared |= declared

    def _include(self, tasks: Tasks) -> None:
        if not _is_free(tasks):
            raise InvalidOption(
                f"include must be given a Tasks that belongs to no application yet; got {quoted(tasks)}. "
                "Make another one for another application."
            )
        for name, task in tasks.tasks.items():
            self._check_new(task, ())
            self._check_schedules(tasks._declared.values())
            self._adopt(tasks, task, tasks._given[name], {})
        self._declared |= tasks._declared
        tasks.included_in, tasks._bound_to = self, self._bound_to

    def _adopt(
        self, tasks: Tasks, task: Task[..., Any], options: dict[str, Any], declared: dict[str, Declared]
    ) -> None:
        """Add a task of a collection, with this application's connections and defaults."""
        self._check_new(task, ())
        self._check_schedules(declared.values())
        made: Task[..., Any] = Task(
            task.function, self._bound_to, **{**self.task_defaults, **tasks.task_defaults, **options}
        )
        kept = {name: vars(task)[name] for name in ("failure_handlers", "upcasters", "has_upcasters")}
        vars(task).update({**vars(made), **kept})  # in place: the collection's modules hold the task
        self._add(task, options, declared)

    def _check_schedules(self, declared: Iterable[Declared]) -> None:
        for one in declared:
            if one.name in self._declared:
                raise InvalidOption(
                    f"name must be unique among schedules; got {one.name!r}. Give this schedule its own name=."
                )

    def _declare_all(self, task: Task[..., Any], given: Times) -> dict[str, Declared]:
        """Check the schedules; return them by name. Raises `InvalidOption`, `InvalidArguments`."""
        declared: dict[str, Declared] = {}
        for one in _each(given):
            schedule = one if isinstance(one, Schedule) else Schedule(one)
            name = task.name if schedule.name is None else schedule.name
            if name in declared or name in self._declared:
                raise InvalidOption(
                    f"name must be unique among schedules; got {name!r}. Give this schedule its own name=."
                )
            document, _ = task.check(schedule.args, task.version)
            declared[name] = Declared(
                name=name, task=task.name, args=document, args_version=task.version, schedule=schedule
            )
        return declared


def _is_free(tasks: object) -> bool:
    """Whether it is a collection of no application yet."""
    return isinstance(tasks, Tasks) and tasks._bound_to is None  # noqa: SLF001  # the same module's


def _each(given: object) -> Iterable[Any]:
    """The schedules, of one or several. Raises `InvalidOption`."""
    if isinstance(given, str | timedelta | Schedule):
        return [given]
    if not isinstance(given, Iterable):
        raise InvalidOption(
            f"schedule must be a cron text, a timedelta or a Schedule, or a list of them; got {quoted(given)}.",
            option="schedule",
        )
    return given


def collections_in(package: str, module: str) -> Iterator[Tasks]:
    """Import `package.module` and its submodules; yield every `Tasks` in them. Raises `ConfigurationError`."""
    names: dict[str, object] = {"package": package, "module": module}
    for what, part in names.items():
        if not isinstance(part, str) or not part.isprintable() or not all(part.split(".")):
            raise InvalidOption(
                f"autodiscover must be given the name of a {what}, as in an import; got {quoted(part)}. "
                'Write it as "shop".'
            )
    name = f"{package}.{module}"
    try:
        found = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise ConfigurationError(
            f"autodiscover must be given packages with a module {quoted(module)}; got {quoted(package)}, but "
            f"{error.name} does not exist. Create {name}, or omit the package."
        ) from error
    below = pkgutil.walk_packages(getattr(found, "__path__", ()), f"{name}.")
    for one in (found, *(import_module(info.name) for info in below)):
        yield from (value for value in vars(one).values() if isinstance(value, Tasks))


def _checked_defaults(defaults: TaskDefaults) -> TaskDefaults:
    """The options themselves. Raises `InvalidOption`."""
    if not isinstance(defaults, Mapping):
        raise InvalidOption(
            f'task_defaults must be options by name; got {quoted(defaults)}. Write them as {{"queue": "email"}}.'
        )
    unknown = set(defaults) - TaskDefaults.__annotations__.keys()
    if unknown:
        raise InvalidOption(
            f"task_defaults must be some of {', '.join(TaskDefaults.__annotations__)}; got "
            f"{min(map(quoted, unknown))}. Give it to each task."
        )

    def any_task() -> None: ...

    if defaults:
        Task(any_task, None, **defaults)
    return defaults


def _refuse_foreign(options: dict[str, Any]) -> None:
    """Refuse an unknown option, and name Rowlock's word for it. Raises `InvalidOption`."""
    for option in options.keys() - _OPTIONS:
        instead = _OTHER_WORDS.get(option)
        if instead is None:
            meant = get_close_matches(option, _OPTIONS, 1)
            instead = f"did you mean {meant[0]}?" if meant else f"use some of {', '.join(sorted(_OPTIONS))}"
        raise InvalidOption(f"@app.task has no option {option!r}: {instead}.".replace("?.", "?"), option=option)


__all__ = ["TaskDefaults", "Tasks", "collections_in"]
