"""The backend for Django's Tasks framework: `rowlock.integrations.django.RowlockBackend` in TASKS."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.core import checks
from django.db import connections, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from rowlock.errors import ConfigurationError, JobNotFound
from rowlock.integrations.django import queues
from rowlock.integrations.django.framework import (
    BaseTaskBackend,
    InvalidTaskBackend,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
)
from rowlock.integrations.django.handlers import register
from rowlock.integrations.django.results import result_of, rowlock_priority
from rowlock.integrations.pyformat import named, pyformat
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.job import Job
from rowlock.queue.read.reader import parse_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from rowlock.app import Rowlock
    from rowlock.queue.enqueue.task import Task as RowlockTask

_TASK_OPTIONS: Final = ("max_attempts", "backoff", "timeout", "expires", "deadline", "result_ttl", "capture_logs")
"""Options of `@app.task` that OPTIONS can set for all tasks of the backend."""


class RowlockBackend(BaseTaskBackend):
    """Runs Django's tasks as Rowlock's jobs, enqueued in Django's own transaction: a job exists if and only if it
    commits.

    A task's name is its module path; arguments are stored by parameter name. OPTIONS: `database`, the alias of the
    queue's database, and for all tasks `max_attempts`, `backoff`, `timeout`, `expires`, `deadline`, `result_ttl` and
    `capture_logs`, as in `@app.task`.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        given = dict(self.options)
        self.database: str = given.pop("database", queues.DEFAULT)
        self._task_options = given
        for name in given:
            if name not in _TASK_OPTIONS:
                raise InvalidTaskBackend(
                    f"TASKS[{alias!r}]['OPTIONS'] must be some of database, {', '.join(_TASK_OPTIONS)}; got {name!r}."
                )

    @cached_property
    def queue(self) -> Rowlock:
        """The queue behind this backend. Raises `ConfigurationError` if its database is not PostgreSQL."""
        return queues.get_queue(self.alias)

    def validate_task(self, task: Task[..., Any]) -> None:
        """Refuse a task that cannot run, and register it with the queue. Raises `InvalidTask`."""
        super().validate_task(task)
        self._registered(task)

    def enqueue(self, task: Task[..., Any], args: Any, kwargs: Any) -> TaskResult[Any]:  # noqa: ANN401  # Django's
        """Enqueue a job in the open transaction of Django's connection; without one, in a transaction of its own.

        Raises `InvalidArguments` if the arguments do not fit the function: nothing is stored, and an open transaction
        stays usable.
        """
        self.validate_task(task)
        result: TaskResult[Any] = TaskResult(  # converts the arguments to plain JSON, as Django's own backends do
            task=task,
            id="",
            status=TaskResultStatus.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        connection = connections[self.database]
        run_at = task.run_after
        if run_at is not None and timezone.is_naive(run_at):
            run_at = timezone.make_aware(run_at)
        options = {"queue": task.queue_name, "priority": rowlock_priority(task.priority), "run_at": run_at}
        bound = self._registered(task).using(connection=connection, **options)
        with transaction.atomic(using=self.database) if connection.get_autocommit() else nullcontext():
            handle = bound.enqueue_sync(*result.args, **result.kwargs)
        object.__setattr__(result, "id", str(handle.id))
        task_enqueued.send(sender=type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[Any]:
        """The job with this id as Django's connection sees it. Raises `TaskResultDoesNotExist`."""
        try:
            job_id = parse_id(result_id)
        except JobNotFound as error:
            raise TaskResultDoesNotExist(str(error)) from error
        rows = self._fetch("get_job", job_id)
        if not rows:
            raise TaskResultDoesNotExist(f"Job {result_id} does not exist: it was not committed, or has been removed.")
        job = Job.from_row(rows[0])
        return result_of(self, self._task_named(job), job, self.attempts(job_id))

    def check(self, **_: object) -> Iterable[checks.CheckMessage]:
        """The messages of this backend for `manage.py check`."""
        try:
            queues.settings_of(self.database)
        except ConfigurationError as error:
            yield checks.Error(str(error), obj=f"TASKS[{self.alias!r}]", id="rowlock.E001")
        if not apps.is_installed("rowlock.integrations.django"):
            yield checks.Warning(
                "Django does not migrate Rowlock's tables.",
                hint='Add "rowlock.integrations.django" to INSTALLED_APPS.',
                obj=f"TASKS[{self.alias!r}]",
                id="rowlock.W001",
            )

    def _registered(self, task: Task[..., Any]) -> RowlockTask[..., Any]:
        try:
            queue = self.queue
        except ConfigurationError as error:
            raise InvalidTaskBackend(str(error)) from error
        return register(queue, self, task, self._task_options)

    def _task_named(self, job: Job) -> Task[..., Any]:
        """Find the job's task by its module path."""
        try:
            found = import_string(job.task)
        except ImportError:
            found = None
        if not isinstance(found, Task):
            raise TaskResultDoesNotExist(
                f"The task of job {job.id} must be one of Django's; got {job.task}. Read it with get_queue().get(...)."
            )
        return found

    def attempts(self, job_id: UUID) -> Sequence[dict[str, Any]]:
        """List the job's attempts that did not succeed, over Django's connection."""
        return self._fetch("list_attempts", job_id)

    def _fetch(self, name: str, job_id: UUID) -> Sequence[dict[str, Any]]:
        """Return the rows of `<name>.sql`, as the open transaction of Django's connection sees them."""
        with connections[self.database].cursor() as cursor:
            cursor.execute(pyformat(statement(name, self.queue.settings.schema)), named((job_id,)))
            columns = [column[0] for column in cursor.description]
            return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
