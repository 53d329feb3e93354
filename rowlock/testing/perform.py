"""Run one job in the test, and return its handler's result: for a test of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from uuid import UUID

from rowlock.errors import InvalidOption, UnknownTask
from rowlock.queue.enqueue.task import BoundTask, Task
from rowlock.queue.jobs.job import Job
from rowlock.queue.read.handle import JobHandle
from rowlock.testing.bench import Bench
from rowlock.testing.databases import check_app
from rowlock.words import quoted

if TYPE_CHECKING:
    from rowlock.app import Rowlock

P = ParamSpec("P")
R = TypeVar("R")


async def perform(app: Rowlock, task: Task[P, R] | BoundTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Enqueue a job with these arguments, run one attempt of it as a worker would, and return its result.

    Everything around a handler takes part: arguments pass through JSON, the `Job`, the lifespans (which open for this
    call unless they are open already), middleware, timeout, directives, failure handlers. It raises the handler's
    exception, also a directive (`Snooze`, `Cancel`, …); the job then follows its task's options, and is queued for a
    retry for example. The result is that of `handle.result()`. It does not wait for a delay. Raises `UnknownTask`
    for a task of another application, `InvalidArguments`, and `InvalidOption` for a job that is not stored because of
    its unique key.

    >>> assert await perform(app, add, 2, 3) == 5
    >>> await perform(app, send_email.using(timeout=1), "ada@example.com", "Hi", "…")
    """
    check_app(app)
    if not isinstance(task, Task | BoundTask):
        raise InvalidOption(
            f"task must be one of this application, or what its using(...) returns; got {quoted(task)}. Pass the "
            "function that @app.task decorates."
        )
    check_task(app, task if isinstance(task, Task) else task._task)  # noqa: SLF001  # BoundTask is of this package
    if isinstance(task, BoundTask) and task._connection is not None:  # noqa: SLF001
        raise InvalidOption(
            "perform() must run a committed job; got a connection. Omit it; or enqueue, commit, and use perform_job()."
        )
    handle = await task.enqueue(*args, **kwargs)
    if handle.is_duplicate:
        raise InvalidOption(
            f"No job was stored: job {handle.id} holds the unique key. Use perform_job() on that one, or drain() first."
        )
    return cast("R", await perform_job(app, handle))


async def perform_job(app: Rowlock, job: JobHandle[R] | Job | UUID | str) -> R | Any:  # noqa: ANN401  # any JSON
    """Run one attempt of a waiting job, due or not, and return its result or raise its error, as `perform` does.

    Raises `JobNotFound`, and `WrongState` for a job that does not wait.

    >>> handle = await send_email.using(delay=3600).enqueue("ada@example.com", "Hi", "…")
    >>> await perform_job(app, handle)
    """
    check_app(app)
    if not isinstance(job, JobHandle | Job | UUID | str):
        raise InvalidOption(
            f"job must be a job, its handle or its id; got {quoted(job)}. Pass what enqueue() returned."
        )
    found = await app.get(job if isinstance(job, UUID | str) else job.id)
    async with Bench(app) as bench:
        ended = await bench.perform(found)
    if ended.error is not None:
        raise ended.error
    return await app.handle(found).result(timeout=0)


def check_task(app: Rowlock, task: Task[..., Any]) -> None:
    """Raise `UnknownTask` unless the task belongs to this application."""
    if app.tasks.get(task.name) is not task:
        raise UnknownTask(
            f"The task must be one of this application ({', '.join(sorted(app.tasks)) or 'none'}); got {task.name!r} "
            f"of {task.__module__}. Pass the application that the task was made with."
        )


__all__ = ["check_task", "perform", "perform_job"]
