"""Every public call with a wrong value for each parameter: it accepts or refuses the value, and never breaks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final
from uuid import uuid4

import pytest

from rowlock import (
    Cancel,
    Exponential,
    Fail,
    InvalidOption,
    JobFilter,
    Linear,
    Retry,
    Rowlock,
    RowlockError,
    Schedule,
    Settings,
    Snooze,
    Tasks,
    Unique,
    testing,
)
from rowlock.queue.enqueue.task import Task
from rowlock.queue.jobs.checks import END_OF_TIME
from rowlock.queue.jobs.options import EnqueueOptions
from rowlock.queue.schedules.schedule import ScheduleChanges
from tests.hostile.world import World


class Name(str):  # noqa: SLOT000  # as people write it
    """A text, but not of `str` itself."""


class Number(int):
    """A number, but not of `int` itself."""


class Moment(datetime):
    """A time, but not of `datetime` itself: other libraries have such."""


class Mute:
    """It cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


WRONG: tuple[object, ...] = (
    *("x", "", "\0", "\ud800", b"x", 0, -1, 2**70, 1.5, float("nan"), True, None, [], ["x", 1], {}, {"x": object()}),
    *(object(), uuid4(), print, Rowlock, float("inf"), 10**5000, [[]], [None], Mute(), timedelta.max, range(3)),
    *(Name("x"), Number(3), Decimal("nan"), END_OF_TIME),
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
    "by": 1,
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

MADE: Final[tuple[type, ...]] = (
    *(JobFilter, Unique, Settings, Retry, Snooze, Cancel, Fail, Tasks, Rowlock, Schedule, Exponential, Linear),
)
"""What a caller makes by itself."""

KEYWORDS = {
    "Enqueuing.enqueue": EnqueueOptions.__annotations__,
    "Enqueuing.job": EnqueueOptions.__annotations__,
    "Schedules.edit": ScheduleChanges.__annotations__,
    "Task.using": EnqueueOptions.__annotations__,
    "declare": ["schedule", *list(inspect.signature(Task.__init__).parameters)[2:]],
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
    for made in MADE:
        yield made.__name__, made
    yield "Settings.from_environment", Settings.from_environment

    async def function(value: int) -> None: ...

    def declare(**options: Any) -> Any:  # noqa: ANN401
        return Rowlock(settings=app.settings).task(**options)(function)

    yield "task", declare

    for name in ("task", "include", "autodiscover"):  # what they are given, by its place
        yield f"{name}, by place", _in_place(getattr(Rowlock(settings=app.settings), name))


def calls_of_kit(app: Rowlock) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The calls of the testing kit, with their names."""

    async def use_database(wrong: Any, *, other: Any = None) -> None:  # noqa: ANN401
        with testing.use_database(app if other is None else wrong, wrong):
            pass

    yield "use_database", use_database
    yield "perform", _in_place(partial(testing.perform, app))
    yield "perform_job", _in_place(partial(testing.perform_job, app))
    for call in (testing.drain, testing.enqueued, testing.assert_enqueued, testing.assert_not_enqueued):
        yield call.__name__, partial(call, app)
        yield f"{call.__name__}, the application", _in_place(call)
    yield "move_time", partial(testing.move_time, app)
    yield "fire_schedules", _in_place(testing.fire_schedules)
    yield "Databases", testing.Databases


def _in_place(call: Callable[..., Any]) -> Callable[..., Any]:
    def called(given: Any) -> Any:  # noqa: ANN401
        return call(given)

    return called


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
    assert await _try(calls(full)) > 1000


async def test_no_call_of_the_testing_kit_breaks_at_a_wrong_value(full: World) -> None:
    assert await _try(calls_of_kit(full.app), AssertionError) > 500


async def _try(calls: Iterator[tuple[str, Callable[..., Any]]], *refusals: type[Exception]) -> int:
    """Call each with wrong values, one at a time; return how often."""
    broken: list[str] = []
    tried = 0
    refused: tuple[type[Exception], ...] = (RowlockError, *refusals)
    for name, call in calls:
        for parameter in parameters_of(call):
            for wrong in WRONG:
                tried += 1
                try:
                    answer = call(**required(call) | {parameter: wrong})
                    if inspect.isawaitable(answer):
                        await answer
                except refused:
                    pass
                except Exception as error:  # noqa: BLE001  # all of them are shown together
                    what = f"{name}({parameter}={type(wrong).__name__}): {type(error).__name__}"
                    broken.append(f"{what}: {str(error)[:150]!r}")
    assert not broken, "\n".join([f"{len(broken)} of {tried} calls:", *dict.fromkeys(broken)])
    return tried


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


async def test_a_value_of_a_subclass_counts_as_one_of_its_class(full: World) -> None:
    app, three, ada, hour = full.app, Number(3), Name("ada"), Number(3600)
    (worker, *_) = await app.workers.list()
    assert (await app.workers.scale(worker.id, three, by=ada)).concurrency == 3
    assert (await app.queues.scale(Name("mail"), three, by=ada)).name == "mail"
    options: dict[str, Any] = {"queue": Name("mail"), "tags": [Name("a")], "unique": Name("key"), "priority": three}
    options |= {"max_attempts": three, "metadata": {Name("b"): Name("c")}, "delay": hour}
    for handle in (
        await full.echo.using(**options).enqueue(1),
        await app.enqueue(Name("echo"), {Name("value"): 1}, **options | {"unique": Unique(by=[Name("value")])}),
        *await app.enqueue_many([full.echo.using(**options | {"unique": None}).job(1)]),
    ):
        job = await app.get(handle.id)
        assert (job.queue, job.tags, job.priority, job.max_attempts) == ("mail", ["a"], 3, 3)
    later = Moment(2030, 1, 1, tzinfo=UTC)
    assert (await app.jobs.reschedule(handle.id, run_at=later, priority=Number(4), by=ada)).run_at == later
    await app.jobs.reschedule_many(JobFilter(queue=Name("mail"), created_before=later), run_at=later, by=ada)
    which = JobFilter(queue=Name("mail"), tag=Name("a"), newer_than=hour, metadata={Name("b"): Name("c")})
    assert len(await app.jobs.list(which)) == 3
    assert await app.jobs.cancel(handle.id, reason=Name("why"), by=ada) == "cancelled"
    assert (await app.jobs.cancel_many(which, reason=Name("why"), by=ada)).count == 2
    await app.keys.create(Name("k"), scopes=[Name("read")], queues=[Name("mail")], expires=hour, by=ada)  # type: ignore[list-item]
    await app.retention.keep(Name("mail"), succeeded=hour, failed=Name("forever"), by=ada)  # type: ignore[arg-type]
    await app.schedules.create(
        Name("often"), Name("echo"), Name("* * * * *"), queue=Name("mail"), priority=three, by=ada
    )
    worker_of_mail = app.worker(queues=[Name("mail:2")], concurrency=three)
    assert worker_of_mail is not None
    settings = Settings(schema=Name("jobs"), max_crashes=three, lease=Number(30))
    assert {type(value) for value in (settings.schema, settings.max_crashes)} == {str, int}


@pytest.mark.parametrize("wrong", [b"x", ["x", 1], range(3), [b"x"], "x", [f"x:{'9' * 5000}"], {"x": 2**70}, {1: 1}])
async def test_the_queues_of_a_worker_are_names(full: World, wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidOption, match=r"^(queues?|The limit of .*) must be "):
        full.app.worker(queues=wrong)
