"""Every public call with a wrong value for each parameter: it accepts or refuses the value, and never breaks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from rowlock import InvalidOption, JobFilter, Rowlock, RowlockError, Unique
from rowlock.queue.enqueue.task import Task
from rowlock.queue.jobs.options import EnqueueOptions
from rowlock.queue.schedules.schedule import ScheduleChanges
from tests.hostile.world import World

WRONG: tuple[object, ...] = (
    *("x", "", "\0", "\ud800", b"x", 0, -1, 2**70, 1.5, float("nan"), True, None, [], ["x", 1], {}, {"x": object()}),
    *(object(), uuid4(), print, Rowlock),
)
"""Values of every type. Most calls must refuse most of them."""

LEFT_OUT = {
    "through",  # for the API alone
    *("close", "close_sync", "overview"),  # take nothing
    *("get_sync", "result_sync", "enqueue_sync", "enqueue_many_sync", "run_sync"),  # not in an event loop
    "check",  # for the API, which takes arguments from JSON
    "task",  # as `declare` below
}
ROOMS = ("jobs", "dead_letters", "schedules", "queues", "workers", "retention", "keys")
GIVEN: dict[str, object] = {
    "concurrency": 1,
    "cookie": "x",
    "cron": "0 * * * *",
    "delay": 1,
    "from_version": 1,
    "job": uuid4(),
    "job_id": uuid4(),
    "jobs": [],
    "key": uuid4(),
    "name": "hourly",
    "queue": "default",
    "scopes": ["read"],
    "task": "echo",
    "text": "x",
    "which": JobFilter(task="echo"),
    "worker_id": uuid4(),
}
"""A right value of each parameter that must be given, if only another one is to be wrong."""

KEYWORDS = {
    "Enqueuing.enqueue": EnqueueOptions.__annotations__,
    "Enqueuing.job": EnqueueOptions.__annotations__,
    "Schedules.edit": ScheduleChanges.__annotations__,
    "Task.using": EnqueueOptions.__annotations__,
    "declare": list(inspect.signature(Task.__init__).parameters)[2:],
}
"""The keywords of calls whose last parameter stands for several."""


def calls(world: World) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public calls, with their names."""
    app = world.app
    echo = app.tasks["echo"]
    rooms: dict[str, object] = {
        "app": app,
        "handle": echo.handle(uuid4()),
        "task": echo,
        **{f"app.{name}": getattr(app, name) for name in ROOMS},
    }
    for room, one in rooms.items():
        for name, call in inspect.getmembers(one, inspect.ismethod):
            if not name.startswith("_") and name not in LEFT_OUT:
                yield f"{room}.{name}", call
    yield "JobFilter", JobFilter
    yield "Unique", Unique

    async def function(value: int) -> None: ...

    def declare(**options: Any) -> Any:  # noqa: ANN401
        return Rowlock(settings=app.settings).task(**options)(function)

    yield "task", declare


def parameters_of(call: Callable[..., Any]) -> Iterator[str]:
    """The parameters, and of keywords with a type the keywords."""
    for parameter in inspect.signature(call).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            yield from KEYWORDS.get(
                call.__qualname__.rpartition(".")[2] if "<" in call.__qualname__ else call.__qualname__, ()
            )
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            yield parameter.name


def required(call: Callable[..., Any]) -> dict[str, object]:
    """Right values for the parameters that have no default."""
    return {
        parameter.name: GIVEN.get(parameter.name)
        for parameter in inspect.signature(call).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}
    }


async def test_no_call_breaks_at_a_wrong_value(full: World) -> None:
    broken: list[str] = []
    tried = 0
    for name, call in calls(full):
        for parameter in parameters_of(call):
            for wrong in WRONG:
                tried += 1
                try:
                    answer = call(**required(call) | {parameter: wrong})
                    if inspect.isawaitable(answer):
                        await answer
                except RowlockError:
                    pass
                except Exception as error:  # noqa: BLE001  # all of them are shown together
                    what = f"{name}({parameter}={type(wrong).__name__}): {type(error).__name__}"
                    broken.append(f"{what}: {str(error)[:150]!r}")
    assert tried > 1000
    assert not broken, "\n".join([f"{len(broken)} of {tried} calls:", *dict.fromkeys(broken)])


@pytest.mark.parametrize("wrong", ["false", "", 0, 1, None])
@pytest.mark.parametrize("option", ["dry_run", "everything"])
async def test_whether_an_act_on_many_changes_all_is_true_or_false_and_nothing_else(
    full: World, option: str, wrong: object
) -> None:
    jobs = full.app.jobs
    options: dict[str, Any] = {"everything": True, "dry_run": False, option: wrong}
    for act in (jobs.cancel_many, jobs.retry_many, jobs.discard_many, partial(jobs.reschedule_many, delay=0)):
        with pytest.raises(InvalidOption, match=f"{option} must be True or False; got"):
            await act(JobFilter(), **options)


@pytest.mark.parametrize("wrong", ["", 0, {}, [], "queue"])
async def test_what_is_no_filter_does_not_mean_all_jobs(full: World, wrong: Any) -> None:  # noqa: ANN401
    app = full.app
    acts = (app.jobs.cancel_many, app.jobs.retry_many, app.jobs.discard_many, app.jobs.list)
    for act in (*acts, app.dead_letters.list, app.dead_letters.groups):
        with pytest.raises(InvalidOption, match="which must be a JobFilter"):
            await act(wrong)
