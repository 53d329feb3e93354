"""Assertions on enqueued jobs: in the database, or as the test's own open transaction sees them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rowlock.errors import InvalidOption, UnknownTask
from rowlock.queue.connect.drivers import adapt
from rowlock.queue.connect.statements import statement
from rowlock.queue.enqueue.task import Task
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.json_values import encode_hook
from rowlock.queue.jobs.options import MARKS
from rowlock.queue.read.pages import list_jobs
from rowlock.testing.bench import PACKAGE
from rowlock.testing.databases import check_app
from rowlock.testing.perform import check_task
from rowlock.values import is_whole
from rowlock.words import quoted

if TYPE_CHECKING:
    from rowlock.app import Rowlock

COLUMNS: Final = (
    *(
        "id",
        "state",
        "queue",
        "task",
        "priority",
        "args_version",
        "args",
        "attempt",
        "max_attempts",
        "errors",
        "crashes",
    ),
    *("unique_key", "error", "created_at", "run_at", "expires_at", "deadline", *MARKS),
)
"""The columns of list_waiting.sql."""
CLOSE: Final = timedelta(seconds=1)
"""The tolerance of an expected delay: clocks advance between the two readings."""
MOST_SHOWN: Final = 20
LONGEST_ARGS: Final = 200


async def enqueued(
    app: Rowlock,
    task: Task[..., Any] | str | None = None,
    *,
    args: Mapping[str, object] | None = None,
    queue: str | None = None,
    priority: int | None = None,
    delay: timedelta | float | None = None,
    connection: object = None,
) -> list[Job]:
    """List the waiting jobs (queued, scheduled, retrying or blocked) that match all conditions, in order of enqueue.

    `args`: some of the arguments, by name; defaults that the call left out match as well. `delay`: the time from the
    enqueue until the job is due, to the second. With a `connection` (or session), its open transaction's view.
    Raises `UnknownTask` for an unregistered task, and `InvalidOption`.

    >>> (job,) = await enqueued(app, send_email, args={"recipient": "ada@example.com"})
    """
    await _check_task(app, task, connection)
    expected = _Expected(app, task, args=args, queue=queue, priority=priority, delay=delay)
    return [job for job in await _waiting(app, connection) if expected.fits(job)]


async def assert_enqueued(
    app: Rowlock,
    task: Task[..., Any] | str | None = None,
    *,
    args: Mapping[str, object] | None = None,
    queue: str | None = None,
    priority: int | None = None,
    delay: timedelta | float | None = None,
    count: int | None = None,
    connection: object = None,
) -> list[Job]:
    """Assert that such a job waits, or exactly `count` of them, and return them; see `enqueued`.

    Otherwise it raises an `AssertionError` that lists the enqueued jobs instead.

    >>> await assert_enqueued(app, send_email, args={"recipient": "ada@example.com"}, queue="email", count=1)
    """
    __tracebackhide__ = True
    _check_count(count)
    await _check_task(app, task, connection)
    expected = _Expected(app, task, args=args, queue=queue, priority=priority, delay=delay)
    waiting = await _waiting(app, connection)
    found = [job for job in waiting if expected.fits(job)]
    if len(found) == count or (count is None and found):
        return found
    wanted = f"A job{expected} should be" if count is None else f"{count} job{'s' * (count != 1)}{expected} should be"
    raise AssertionError(f"{wanted} enqueued, found {len(found)}.\n{await _report(app, waiting, found, connection)}")


async def assert_not_enqueued(
    app: Rowlock,
    task: Task[..., Any] | str | None = None,
    *,
    args: Mapping[str, object] | None = None,
    queue: str | None = None,
    priority: int | None = None,
    delay: timedelta | float | None = None,
    connection: object = None,
) -> None:
    """Assert that no such job waits; see `enqueued`. Without conditions: that no job waits at all.

    >>> await assert_not_enqueued(app, send_email)
    """
    __tracebackhide__ = True
    await _check_task(app, task, connection)
    expected = _Expected(app, task, args=args, queue=queue, priority=priority, delay=delay)
    waiting = await _waiting(app, connection)
    if found := [job for job in waiting if expected.fits(job)]:
        report = await _report(app, waiting, found, connection)
        raise AssertionError(f"No job{expected} should be enqueued, found {len(found)}.\n{report}")


def enqueued_sync(
    app: Rowlock,
    task: Task[..., Any] | str | None = None,
    *,
    connection: object = None,
    **expected: Any,  # noqa: ANN401  # those of `enqueued`
) -> list[Job]:
    """As `enqueued`, for synchronous tests, over a synchronous connection or none."""
    check_app(app)
    return app.database.run_sync(enqueued(app, task, connection=connection, **expected), connection)


def assert_enqueued_sync(
    app: Rowlock,
    task: Task[..., Any] | str | None = None,
    *,
    connection: object = None,
    **expected: Any,  # noqa: ANN401  # those of `assert_enqueued`
) -> list[Job]:
    """As `assert_enqueued`, for synchronous tests, over a synchronous connection or none.

    >>> assert_enqueued_sync(app, send_email, args={"recipient": "ada@example.com"}, connection=django_connection)
    """
    __tracebackhide__ = True
    check_app(app)
    return app.database.run_sync(assert_enqueued(app, task, connection=connection, **expected), connection)


def assert_not_enqueued_sync(
    app: Rowlock,
    task: Task[..., Any] | str | None = None,
    *,
    connection: object = None,
    **expected: Any,  # noqa: ANN401  # those of `assert_not_enqueued`
) -> None:
    """As `assert_not_enqueued`, for synchronous tests, over a synchronous connection or none."""
    __tracebackhide__ = True
    check_app(app)
    app.database.run_sync(assert_not_enqueued(app, task, connection=connection, **expected), connection)


class _Expected:
    """The conditions on a job. Raises `InvalidOption` for conditions that no job can meet."""

    def __init__(
        self,
        app: Rowlock,
        task: Task[..., Any] | str | None,
        *,
        args: Mapping[str, object] | None,
        queue: str | None,
        priority: int | None,
        delay: timedelta | float | None,
    ) -> None:
        self._app = app
        self._task = task.name if isinstance(task, Task) else task
        self._args = {} if args is None else _plain(args)
        if self._task in app.tasks:
            app.tasks[self._task].arguments.check_names(list(self._args))
        others = {
            "queue": None if queue is None else checks.queue_name(queue),
            "priority": None if priority is None else checks.priority(priority),
            "delay": checks.delay(delay),
        }
        self._others = {name: value for name, value in others.items() if value is not None}

    def fits(self, job: Job) -> bool:
        """Whether a job meets the conditions."""
        if self._task is not None and job.task != self._task:
            return False
        if any(not self._is_so(job, name, value) for name, value in self._others.items()):
            return False
        if not self._args:
            return True
        given = self._with_defaults(job)
        return all(name in given and given[name] == value for name, value in self._args.items())

    def _is_so(self, job: Job, name: str, value: object) -> bool:
        if isinstance(value, timedelta):
            return abs(job.run_at - job.created_at - value) <= CLOSE
        return bool(getattr(job, name) == value)

    def _with_defaults(self, job: Job) -> Mapping[str, Any]:
        known = self._app.tasks.get(job.task)
        if known is None or known.version != job.args_version or self._args.keys() <= job.args.keys():
            return job.args
        try:
            return _plain(known.arguments.decode(msgspec.json.encode(job.args))) | job.args
        except ValueError:  # the arguments do not fit the function: add no defaults
            return job.args

    def __str__(self) -> str:
        text = "" if self._task is None else f" of {self._task}"
        if self._args:
            text += f" with args {_shown(self._args)}"
        return text + "".join(f", {name} {value}" for name, value in self._others.items())


def _rounded(wait: timedelta) -> timedelta:
    """Round the wait to a second: the server's clock advances between two readings."""
    return timedelta(seconds=round(wait.total_seconds()))


async def _waiting(app: Rowlock, connection: object) -> list[Job]:
    sql = statement("list_waiting", app.settings.schema, PACKAGE)
    if connection is not None:
        rows: Sequence[Any] = await adapt(connection).fetch(sql)
    else:
        async with app.database.connection() as own:
            rows = await own.fetch(sql)
    return [Job.from_row(dict(zip(COLUMNS, row, strict=True))) for row in rows]


async def _report(app: Rowlock, waiting: Sequence[Job], found: Sequence[Job], connection: object) -> str:
    """List the enqueued jobs, one a line."""
    lines = [f"{'*' if job in found else ' '} {_line(job)}" for job in waiting[:MOST_SHOWN]]
    if len(waiting) > MOST_SHOWN:
        lines.append(f"  … and {len(waiting) - MOST_SHOWN} more")
    text = "\n".join(["Enqueued jobs (* matches):", *lines] if lines else ["Nothing is enqueued."])
    if connection is not None:
        return text
    over = [job for job in await list_jobs(app.database, limit=100) if job.is_finished or job.state == "running"]
    if over:
        text += "\n".join(["\nJobs that wait no longer:", *(f"  {_line(job)}" for job in over[:MOST_SHOWN])])
    elif not waiting:
        text += " (Only an open transaction's own connection sees its jobs: pass it as connection=.)"
    return text


def _line(job: Job) -> str:
    due = f" in {_rounded(job.run_at - job.created_at)}" if job.state == "scheduled" else ""
    return f"{job.task} {_shown(job.args)} queue={job.queue} priority={job.priority} {job.state}{due}"


def _shown(args: Mapping[str, Any]) -> str:
    text = json.dumps(args, ensure_ascii=False)
    return text if len(text) <= LONGEST_ARGS else f"{text[:LONGEST_ARGS]}…"


def _check_count(count: object) -> None:
    if count is not None and not is_whole(count, 0, 2**31 - 1):
        raise InvalidOption(
            f"count must be a whole number of at least 0; got {quoted(count)}. Omit it for any number above zero."
        )


def _plain(args: Mapping[str, object]) -> dict[str, Any]:
    """Convert the arguments to their stored form."""
    if not isinstance(args, Mapping):
        raise InvalidOption(f"args must be arguments by name; got {quoted(args)}. Omit it for any.")
    try:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(args), enc_hook=encode_hook))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOption(f"args must be writable as JSON; got {type(args).__name__}: {error}") from None
    return plain


async def _check_task(app: Rowlock, task: Task[..., Any] | str | None, connection: object) -> None:
    """Raise `UnknownTask` for a task of another application, and for a name that is not registered."""
    check_app(app)
    if isinstance(task, Task):
        check_task(app, task)
    elif task is not None:
        name = checks.task_name(task)
        if name not in app.tasks and not await app.database.run("get_task", name, connection=connection):
            close = difflib.get_close_matches(name, app.tasks, n=1)
            raise UnknownTask(
                f"task must be one of this application ({', '.join(sorted(app.tasks)) or 'none'}) or one that a worker "
                f"has registered; got {name!r}.{f' Is {close[0]!r} meant?' if close else ''}"
            )


__all__ = [
    "assert_enqueued",
    "assert_enqueued_sync",
    "assert_not_enqueued",
    "assert_not_enqueued_sync",
    "enqueued",
    "enqueued_sync",
]
