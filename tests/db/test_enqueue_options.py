"""One list of job options: every writer takes the same, and a task's own hold unless told otherwise."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest

from rowlock import EnqueueOptions, Rowlock, Settings
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
