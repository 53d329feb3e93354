"""The handler of a Django task: calls the task's function with Django's context, signals and connections."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from rowlock.errors import InvalidOption
from rowlock.integrations.django.framework import InvalidTask, TaskContext, task_finished, task_started
from rowlock.integrations.django.results import ended_result, rowlock_priority, running_result
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.lifecycle import Directive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rowlock.app import Rowlock
    from rowlock.integrations.django.framework import BaseTaskBackend
    from rowlock.integrations.django.framework import Task as DjangoTask
    from rowlock.queue.enqueue.task import Task

JOB = "rowlock_job"
"""The parameter in which the worker passes the job; no function has one of this name."""


def register(queue: Rowlock, backend: BaseTaskBackend, task: DjangoTask, options: Mapping[str, Any]) -> Task[..., Any]:
    """Return the queue's task for a Django task, by its module path; create it on first use.

    Raises Django's `InvalidTask` for a function whose arguments cannot be stored.
    """
    known = queue.tasks.get(task.module_path)
    if known is not None and inspect.unwrap(known.function) is inspect.unwrap(task.func):
        return known
    queue.tasks.pop(task.module_path, None)  # from an earlier import of the module
    try:
        made: Task[..., Any] = queue.task(
            name=task.module_path, queue=task.queue_name, priority=rowlock_priority(task.priority), **options
        )(_handler(backend, task))
    except InvalidOption as error:
        raise InvalidTask(str(error)) from error
    made.on_failure(_notifying(backend, task))
    return made


def _handler(backend: BaseTaskBackend, task: DjangoTask) -> Callable[..., Any]:
    function, sender = task.func, type(backend)

    def begin(job: Job, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """Close stale connections; return the current result and the arguments."""
        close_old_connections()
        result = running_result(backend, task, job)
        return result, ((TaskContext(task_result=result), *args) if task.takes_context else args)

    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def handle(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # the types of the task's function
            result, given = await sync_to_async(begin)(kwargs.pop(JOB), args)
            try:
                await task_started.asend(sender=sender, task_result=result)
                value = await function(*given, **kwargs)
                if not isinstance(value, Directive):
                    await task_finished.asend(sender=sender, task_result=ended_result(result, value))
                return value
            finally:
                await sync_to_async(close_old_connections)()

    else:

        @wraps(function)
        def handle(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # the types of the task's function
            try:
                result, given = begin(kwargs.pop(JOB), args)
                task_started.send(sender=sender, task_result=result)
                value = function(*given, **kwargs)
                if not isinstance(value, Directive):
                    task_finished.send(sender=sender, task_result=ended_result(result, value))
                return value
            finally:
                close_old_connections()

    handle.__signature__ = _signature(task)  # type: ignore[attr-defined]  # Rowlock reads the arguments from it
    return handle


def _signature(task: DjangoTask) -> inspect.Signature:
    """The function's signature without the context, which the worker passes, and with the job instead."""
    parameters = list(inspect.signature(task.func).parameters.values())[bool(task.takes_context) :]
    place = sum(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    parameters.insert(place, inspect.Parameter(JOB, inspect.Parameter.KEYWORD_ONLY, annotation=Job))
    return inspect.Signature(parameters)


def _notifying(backend: BaseTaskBackend, task: DjangoTask) -> Callable[[Job, BaseException], None]:
    def notify(job: Job, error: BaseException) -> None:
        """Send Django's signal that the task has failed for good: inside an `except`, where loggers expect it."""
        close_old_connections()
        try:
            raise error  # noqa: TRY301  # to be inside the `except`
        except BaseException as raised:  # noqa: BLE001  # any exception of the task
            result = running_result(backend, task, job)
            task_finished.send(sender=type(backend), task_result=ended_result(result, error=raised))
        finally:
            close_old_connections()

    return notify
