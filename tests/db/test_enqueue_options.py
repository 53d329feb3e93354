"""One list of job options: every writer takes the same, and a task's own hold unless told otherwise."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from rowlock import EnqueueOptions, InvalidOption, Rowlock, Settings
from rowlock.cli.commands import enqueue as command
from rowlock.queue.enqueue.options import NAMES, checked
from rowlock.queue.jobs.new_job import JobOptions
from rowlock.tasks import TaskDefaults, Tasks
from rowlock.wire.jobs import JobRequest

OF_A_JOB_ALONE = {"delay", "run_at"}
"""What makes no sense for all jobs of a task."""


def test_the_writers_take_the_same_options() -> None:
    assert frozenset(EnqueueOptions.__annotations__) == NAMES
    assert set(JobRequest.__struct_fields__) == NAMES | {"task", "args", "args_version"}
    assert {name.removeprefix("--").replace("-", "_") for name in _options_of_the_command()} >= NAMES - {"tags"}
    assert set(JobOptions.__struct_fields__) == NAMES | {"trace"}
    assert NAMES - OF_A_JOB_ALONE - {"unique"} <= set(TaskDefaults.__annotations__)
    assert set(inspect.signature(Tasks.task).parameters) | set(_options_of_a_task()) >= NAMES - OF_A_JOB_ALONE


def _options_of_the_command() -> set[str]:
    return {option for parameter in command.command.params for option in parameter.opts}


def _options_of_a_task() -> set[str]:
    from rowlock.tasks import _OPTIONS  # what the decorator takes

    return set(_OPTIONS)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match=r"'prority'; the options of a job are deadline, delay, "):
        checked({"prority": 1}, JobOptions(queue="default", priority=5, max_attempts=1))  # type: ignore[typeddict-unknown-key]  # on purpose


@pytest.mark.parametrize("way", ["task", "name", "job"])
async def test_the_options_of_a_task_hold_for_every_way_in(way: str, settings: Settings) -> None:
    options: dict[str, Any] = {"queue": "own", "priority": 3, "max_attempts": 2, "tags": ["a"], "metadata": {"k": "v"}}
    async with Rowlock(settings=settings) as app:

        @app.task(expires=60, deadline=timedelta(minutes=2), **options)  # type: ignore[untyped-decorator]  # with Any
        async def work() -> None: ...

        match way:
            case "task":
                handle: Any = await work.enqueue()
            case "name":
                handle = await app.enqueue("work")
            case _:
                (handle,) = await app.enqueue_many([await app.job("work")])
        job = await handle.get()
    assert {name: getattr(job, name) for name in options} == options
    assert job.expires_at - job.run_at == pytest.approx(timedelta(seconds=60), abs=timedelta(seconds=1))
    assert job.deadline - job.expires_at == pytest.approx(timedelta(seconds=60), abs=timedelta(seconds=1))


WAYS = ("alone", "alone in a transaction", "many", "many in a transaction")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize(
    "options",
    [
        {"run_at": datetime(2090, 1, 1, tzinfo=UTC), "expires": 3600},
        {"delay": 86400 * 365, "deadline": datetime.now(UTC) + timedelta(hours=1)},
        {"run_at": datetime(2090, 1, 1, tzinfo=UTC)},  # the task's own `expires`
    ],
)
async def test_a_job_that_would_be_over_before_it_is_due_is_refused(
    way: str, key: str | None, options: dict[str, Any], settings: Settings, connection: asyncpg.Connection[Any]
) -> None:
    async with Rowlock(settings=settings) as app:

        @app.task(expires=7200)
        async def work() -> None: ...

        with pytest.raises(InvalidOption, match=r"must be after|is not after"):
            await _enqueue(app, way, {**options, "unique": key}, connection)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", [None, "k"])
async def test_a_limit_that_is_over_is_taken_by_every_way_in(
    way: str, key: str | None, settings: Settings, connection: asyncpg.Connection[Any]
) -> None:
    """The job ends as expired: whoever stores it late must not fail. A drain ends it, though another has the duty."""
    await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity' WHERE name = 'overdue'")
    async with Rowlock(settings=settings) as app:

        @app.task
        async def work() -> None: ...

        await _enqueue(app, way, {"expires": datetime.now(UTC) - timedelta(hours=1), "unique": key}, connection)
        await app.worker().drain()
        (job,) = await app.jobs.list()
    assert job.state == "expired"


async def _enqueue(app: Rowlock, way: str, options: dict[str, Any], connection: asyncpg.Connection[Any]) -> None:
    task = app.tasks["work"]
    match way:
        case "alone":
            await task.using(**options).enqueue()
        case "alone in a transaction":
            async with connection.transaction():
                await task.using(**options, connection=connection).enqueue()
        case "many":
            await app.enqueue_many([task.using(**options).job()])
        case _:
            async with connection.transaction():
                await app.enqueue_many([task.using(**options).job()], connection=connection)
