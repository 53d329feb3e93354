"""Tasks without an application, defaults for all tasks, and words of other queues."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rowlock import ConfigurationError, InvalidOption, Job, JobNotFound, Rowlock, Schedule, Settings, Tasks
from rowlock.queue.schedules.cron import Cron


async def test_tasks_of_a_library_are_of_the_application_that_includes_them() -> None:
    tasks = Tasks(task_defaults={"queue": "email", "priority": 7})

    @tasks.task(schedule="@daily", priority=8)
    async def send() -> None: ...

    @tasks.task
    async def check() -> None: ...

    @send.on_failure
    def tell(job: Job, error: BaseException) -> None: ...

    with pytest.raises(ConfigurationError, match=r"app\.include\(tasks\)"):
        await send.enqueue()
    app = Rowlock("postgresql://h/d", task_defaults={"timeout": 60, "queue": "other"})
    app.include(tasks)

    @tasks.task
    async def late() -> None: ...

    assert app.tasks == {"send": send, "check": check, "late": late}
    assert [task.queue for task in (send, check, late)] == ["email"] * 3
    assert [task.priority for task in (send, check, late)] == [8, 7, 7]
    assert {task.timeout for task in (send, check, late)} == {timedelta(seconds=60)}
    assert send.failure_handlers == [tell]
    assert [declared.name for declared in app.worker()._schedules] == ["send"]  # what it declares
    with pytest.raises(InvalidOption, match="no application yet"):
        Rowlock("postgresql://h/d").include(tasks)


def test_names_are_taken_across_collections() -> None:
    first, second = Tasks(), Tasks()
    for tasks in (first, second):

        @tasks.task
        def send() -> None: ...

    app = Rowlock("postgresql://h/d")
    with pytest.raises(InvalidOption, match="must be unique among tasks; got 'send'"):
        app.include(first, second)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    below = tmp_path / "discovered" / "tasks"
    below.mkdir(parents=True)
    (below.parent / "__init__.py").write_text("")
    (below / "__init__.py").write_text("from rowlock import Tasks\ntasks = Tasks()\n@tasks.task\ndef one(): ...\n")
    (below / "more.py").write_text(
        "from discovered.tasks import tasks\nfrom rowlock import Tasks\nothers = Tasks()\n"
        "@tasks.task\ndef two(): ...\n@others.task\ndef three(): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "discovered"
    for name in [name for name in sys.modules if name.split(".")[0] == "discovered"]:
        del sys.modules[name]


def test_tasks_are_discovered_in_packages(package: str) -> None:
    app = Rowlock("postgresql://h/d")
    app.autodiscover(package)
    app.autodiscover(package)
    assert app.tasks.keys() == {"one", "two", "three"}
    with pytest.raises(ConfigurationError, match=re.escape("discovered.jobs")):
        app.autodiscover(package, module="jobs")


def test_defaults_hold_for_every_task_that_says_nothing_else() -> None:
    app = Rowlock("postgresql://h/d", task_defaults={"max_attempts": 3, "timeout": 60, "tags": ["shop"]})

    @app.task
    def plain() -> None: ...

    @app.task(timeout=None, max_attempts=5)
    def other() -> None: ...

    @app.task(batch=10)
    def many(items: list[int]) -> None: ...

    assert [task.max_attempts for task in (plain, other, many)] == [3, 5, 3]
    assert [task.timeout for task in (plain, other)] == [timedelta(seconds=60), None]
    assert plain.options.tags == ("shop",)


@pytest.mark.parametrize(
    "defaults, said",
    [({"max_attempts": 0}, "max_attempts must .*; got 0"), ({"name": "x"}, "got 'name'"), ({"queue": "ä"}, "queue")],
)
def test_defaults_that_make_no_sense_are_refused_at_once(defaults: Any, said: str) -> None:  # noqa: ANN401  # wrong ones
    with pytest.raises(InvalidOption, match=said):
        Rowlock("postgresql://h/d", task_defaults=defaults)


@pytest.mark.parametrize(
    "option, said",
    [
        ("max_retries", "use max_attempts"),
        ("bind", "annotate the first parameter with Job"),
        ("time_limit", "use timeout"),
        ("max_attemps", "did you mean max_attempts?"),
        ("nonsense", "use some of"),
    ],
)
def test_words_of_other_queues_are_answered_with_the_word_that_is_used_here(option: str, said: str) -> None:
    app: Any = Rowlock("postgresql://h/d")
    with pytest.raises(InvalidOption, match=re.escape(said)):
        app.task(**{option: 3})
    task = app.task(name="task")(lambda: None)
    with pytest.raises(AttributeError, match=r"await task\.enqueue"):
        task.delay(1)
    with pytest.raises(AttributeError, match=r"'apply_async': await task\.using"):
        task.apply_async()
    assert not hasattr(task, "something")


def test_generators_are_refused_where_the_task_is_defined() -> None:
    app = Rowlock("postgresql://h/d")

    def plain() -> Iterator[int]:
        yield 1

    async def asynchronous() -> AsyncIterator[int]:
        yield 1

    for function in (plain, asynchronous):
        with pytest.raises(InvalidOption, match="generator"):
            app.task(function)


async def test_no_connection_where_one_was_meant_is_refused() -> None:
    app = Rowlock("postgresql://h/d")

    @app.task
    async def send() -> None: ...

    with pytest.raises(InvalidOption, match="connection must be an open connection or session; got None"):
        send.using(connection=None)
    for call in (app.enqueue("send", connection=None), app.enqueue_many([send.job()], connection=None)):
        with pytest.raises(InvalidOption, match="got None"):
            await call
    with pytest.raises(InvalidOption, match="got None"):
        app.enqueue_sync("send", connection=None)
    with pytest.raises(InvalidOption, match="got None"):
        app.enqueue_many_sync([], connection=None)


@pytest.mark.parametrize(
    "option, error",
    [({"dleay": 60}, TypeError), ({"priority": 10}, InvalidOption), ({"delay": -1}, InvalidOption)],
    ids=str,
)
def test_a_synchronous_enqueue_checks_the_options_as_an_asynchronous_one(option: Any, error: type[Exception]) -> None:  # noqa: ANN401  # wrong ones
    app = Rowlock("postgresql://127.0.0.1/nothing_connects")

    @app.task
    def report() -> None: ...

    for enqueue in (
        lambda: app.enqueue_sync("report", **option),
        lambda: app.run_sync(app.enqueue("report", **option)),
        lambda: report.using(**option).enqueue_sync(),
    ):
        with pytest.raises(error, match=next(iter(option))):
            enqueue()
    app.close_sync()


def test_a_handle_is_made_of_an_id_alone() -> None:
    app = Rowlock("postgresql://h/d")
    handle = app.handle("0198a5a0-0000-7000-8000-000000000000")
    assert str(handle.id) == "0198a5a0-0000-7000-8000-000000000000"
    assert handle.task == ""
    with pytest.raises(JobNotFound):
        app.handle("nonsense")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "interval, kept, after, following",
    [
        (timedelta(minutes=90), "@every 1h30m", "2030-01-01 00:00", "2030-01-01 01:30"),
        (timedelta(minutes=90), "@every 1h30m", "2030-01-01 01:29:59.999999", "2030-01-01 01:30"),
        (timedelta(seconds=1), "@every 1s", "2030-01-01 00:00:00.5", "2030-01-01 00:00:01"),
        ("@every  90m", "@every 1h30m", "2030-01-01 22:30", "2030-01-02 00:00"),
        ("@EVERY 1w", "@every 7d", "1970-01-02 00:00", "1970-01-08 00:00"),
    ],
)
def test_an_interval_ticks_at_its_multiples(interval: str | timedelta, kept: str, after: str, following: str) -> None:
    schedule = Schedule(interval, timezone="Asia/Kathmandu")
    assert schedule.cron == kept
    assert schedule.times.next(at(after)) == at(following)


def test_the_latest_tick_of_a_long_interval_is_found() -> None:
    times = Cron("@every 90m", "UTC")
    assert times.latest(at("2029-12-31 00:00"), at("2030-01-01 01:29")) == at("2030-01-01 00:00")
    assert len(list(times.ticks(at("2030-01-01 00:00"), at("2030-01-02 00:00")))) == 17


@pytest.mark.parametrize(
    "interval",
    [
        timedelta(0),
        timedelta(seconds=-5),
        timedelta(seconds=1.5),
        timedelta(days=40_000),
        "@every 0s",
        "@every 99999999w",
    ],
)
def test_an_interval_that_is_not_usable_is_refused(interval: str | timedelta) -> None:
    with pytest.raises(InvalidOption, match="whole seconds, from 1 second to 100 years"):
        Schedule(interval)
    with pytest.raises(InvalidOption, match="cron must be a cron text; got"):
        Schedule("@every day")


@pytest.mark.parametrize("wrong", ["", 0, 5, [], "queue", {1: 2, "x": 3}])
def test_options_for_all_tasks_are_options_by_name(wrong: Any) -> None:  # noqa: ANN401
    for make in (Tasks, partial(Rowlock, "postgresql://h/d")):
        with pytest.raises(InvalidOption, match=r"^task_defaults must be "):
            make(task_defaults=wrong)


@pytest.mark.parametrize("wrong", ["x", 5, "", []])
def test_a_task_is_a_function(wrong: Any) -> None:  # noqa: ANN401
    app = Rowlock("postgresql://h/d")
    for make in (app.task, app.task(name="x")):
        with pytest.raises(InvalidOption, match=r"^A task must be a function; got"):
            make(wrong)


@pytest.mark.parametrize("wrong", [None, "x", 5, Tasks])
def test_only_a_collection_is_included(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidOption, match=r"^include must be given a Tasks"):
        Rowlock("postgresql://h/d").include(wrong)


@pytest.mark.parametrize("wrong", ["", None, 5, ".shop", "shop.", "\0", "\ud800", b"shop"])
def test_a_package_has_a_name(wrong: Any) -> None:  # noqa: ANN401
    app = Rowlock("postgresql://h/d")
    with pytest.raises(InvalidOption, match=r"^autodiscover must be given the name of a package"):
        app.autodiscover(wrong)
    with pytest.raises(InvalidOption, match=r"^autodiscover must be given the name of a module"):
        app.autodiscover("shop", module=wrong)


@pytest.mark.parametrize("wrong", ["x", 5, {}, "", Settings])
def test_the_settings_of_an_application_are_settings(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidOption, match=r"^settings must be a rowlock\.Settings; got"):
        Rowlock(settings=wrong)
