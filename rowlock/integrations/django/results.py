"""A job as Django's `TaskResult`; conversion of priorities."""

from __future__ import annotations

import builtins
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from django.conf import settings
from django.utils import timezone

from rowlock import errors
from rowlock.integrations.django.framework import TaskError, TaskResult, TaskResultStatus
from rowlock.queue.jobs import lifecycle
from rowlock.queue.jobs.results import describe_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from rowlock.integrations.django.framework import BaseTaskBackend, Task
    from rowlock.queue.jobs.job import Job

_LOWEST: Final = -100
_WIDTH: Final = 20

_STATUS: Final = {
    "running": TaskResultStatus.RUNNING,
    "succeeded": TaskResultStatus.SUCCESSFUL,
    "failed": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
    "expired": TaskResultStatus.FAILED,
}
"""Django's status by a job's state; in all other states the job has yet to run."""

_ERRORS: Final = ("error", "timeout", "crashed", "failed")
"""The outcomes of attempts that are errors; other attempts were snoozed, cancelled, or released at a stop."""

_OWN: Final = (builtins, errors, lifecycle)
"""The modules of errors whose names are stored without a module."""


def rowlock_priority(priority: int) -> int:
    """Map Django's -100 to 100 to 0 to 9, twenty a step: -100 to -81 is 0, 0 to 19 is 5, 80 to 100 is 9."""
    return min(9, (int(priority) - _LOWEST) // _WIDTH)


def django_priority(priority: int, usual: int) -> int:
    """Map a job's priority to Django's: the task's own if it maps to this one, else the lowest that does."""
    return usual if rowlock_priority(usual) == priority else _LOWEST + _WIDTH * priority


def result_of(
    backend: BaseTaskBackend, task: Task, job: Job, attempts: Sequence[Mapping[str, Any]] = ()
) -> TaskResult[Any]:
    """Convert the job and its attempts that did not succeed to a result of the task."""
    ran = [row for row in attempts if row["worker"] is not None]
    workers = [str(row["worker"]) for row in ran]
    if job.worker is not None and job.attempt not in {row["attempt"] for row in ran}:
        workers.append(str(job.worker))
    last = job.started_at or (ran[-1]["started_at"] if ran else None)
    result: TaskResult[Any] = TaskResult(
        task=_task_of(task, job, backend.alias),
        id=str(job.id),
        status=_STATUS.get(job.state, TaskResultStatus.READY),
        enqueued_at=_local(job.created_at),
        started_at=_local(ran[0]["started_at"] if ran else last),
        finished_at=_local(job.finished_at),
        last_attempted_at=_local(last),
        args=[],
        kwargs=job.args,
        backend=backend.alias,
        errors=[_error(row) for row in attempts if row["outcome"] in _ERRORS and row["error_type"] is not None],
        worker_ids=workers,
    )
    if job.state == "succeeded":
        object.__setattr__(result, "_return_value", job.result)
    return result


def running_result(backend: BaseTaskBackend, task: Task, job: Job) -> TaskResult[Any]:
    """The result of a running job. A first attempt needs no reading: its handler knows everything."""
    worker: UUID | None = getattr(job._runtime, "_worker", None)  # noqa: SLF001  # the handler's own job lacks it
    if job.attempt > 1 or worker is None:
        return backend.get_result(str(job.id))
    return result_of(backend, task, msgspec.structs.replace(job, worker=worker, started_at=timezone.now()))


def ended_result(result: TaskResult[Any], value: object = None, error: BaseException | None = None) -> TaskResult[Any]:
    """The result of a job that ran here, as it will be after its end is recorded."""
    status, failed = TaskResultStatus.SUCCESSFUL, list(result.errors)
    if error is not None:
        described = describe_error(error)
        status = TaskResultStatus.FAILED
        failed.append(TaskError(exception_class_path=_class_path(described.type), traceback=described.traceback))
    ended: TaskResult[Any] = replace(result, status=status, finished_at=_local(timezone.now()), errors=failed)
    object.__setattr__(ended, "_return_value", value)
    return ended


def _task_of(task: Task, job: Job, backend: str) -> Task:
    """The task with the job's options. Not by `replace`, which would validate them by the present settings."""
    used = copy(task)
    object.__setattr__(used, "priority", django_priority(job.priority, task.priority))
    object.__setattr__(used, "queue_name", job.queue)
    object.__setattr__(used, "backend", backend)
    object.__setattr__(used, "run_after", _local(job.run_at) if job.state == "scheduled" else None)
    return used


def _error(row: Mapping[str, Any]) -> TaskError:
    text = f"{row['error_type']}: {row['message']}" if row["message"] else row["error_type"]
    return TaskError(exception_class_path=_class_path(row["error_type"]), traceback=row["traceback"] or text)


def _class_path(name: str) -> str:
    """The path of an error's class. Python's own and Rowlock's are stored without a module."""
    if "." in name:
        return name
    return next(
        (f"{module.__name__}.{name}" for module in _OWN if hasattr(module, name)), "rowlock.errors.RowlockError"
    )


def _local(moment: datetime | None) -> datetime | None:
    """Convert to Django's form of times: without a zone if USE_TZ is off."""
    return moment if moment is None or settings.USE_TZ or timezone.is_naive(moment) else timezone.make_naive(moment)
