"""Tasks of Django's framework, as the module `tasks` of an application would have them."""

from __future__ import annotations

import threading
from datetime import date
from typing import Any

from django.db import connection
from django_tasks import TaskContext, task

from rowlock import Snooze

happened: list[Any] = []


@task
def add(a: int, b: int = 2) -> int:
    return a + b


@task(priority=50, queue_name="email")
async def greet(name: str) -> dict[str, str]:
    return {"hello": name}


@task
def fail(times: int) -> None:
    happened.append(times)
    raise LookupError(f"attempt {len(happened)}")


@task(takes_context=True)
def attempt(context: TaskContext, fail_until: int) -> list[Any]:
    if context.attempt < fail_until:
        raise ValueError("not yet")
    result = context.task_result
    return [context.attempt, result.status, len(result.errors), result.kwargs, len(set(result.worker_ids))]


@task(takes_context=True)
async def async_attempt(context: TaskContext) -> int:
    return context.attempt


@task
def query() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    happened.append((threading.get_ident(), connection.connection))
    return 1


@task
async def aquery() -> int:
    from asgiref.sync import sync_to_async

    def ask() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        happened.append((threading.get_ident(), connection.connection))

    await sync_to_async(ask)()
    return 1


@task
def birthday(of: str, day: date) -> str:
    return f"{of} {day.isoformat()}"


@task
def later_again() -> object:
    happened.append("ran")
    return Snooze(3600) if len(happened) == 1 else None
