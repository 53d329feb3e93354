"""Rowlock's statements over Django's connection: part of the transaction that is open there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections

from rowlock.integrations.pyformat import named, pyformat
from rowlock.queue import statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowlock.queue.job import NewJob


def fetch(database: str, name: str, schema: str, *parameters: object) -> Sequence[dict[str, Any]]:
    """Run `queue/sql/<name>.sql` over the connection to one of Django's databases, and return its rows."""
    with connections[database].cursor() as cursor:
        cursor.execute(pyformat(statements.statement(name, schema)), named(parameters))
        columns = [column[0] for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def store(database: str, schema: str, job: NewJob[Any]) -> None:
    """Enqueue a job that has no unique key, and whose limits in time are durations."""
    options = job.options
    limits = (None, options.expires, None, options.deadline)
    times = (options.delay, options.run_at, options.max_attempts, options.timeout)
    fetch(
        database,
        "enqueue",
        schema,
        *(job.task, job.args, options.queue, options.priority, *times, None, job.id),
        *(*limits, "finish", None, False, "return", job.args_version),
    )
