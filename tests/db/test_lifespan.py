"""What a worker opens before its first job and closes after its last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from rowlock import InvalidOption, JobFailed, OutsideHandler, Rowlock, Settings
from rowlock.cli.run.running import StopSignals, work
from rowlock.testing import drain, fire_schedules, move_time, perform, use_database
from rowlock.worker.worker import STOP_SIGNALS
from tests import process_tasks
from tests.logged import capture_logs


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def test_handlers_read_what_is_open_from_before_the_first_job_to_after_the_last(app: Rowlock) -> None:
    told: list[str] = []

    @app.lifespan
    async def first() -> AsyncIterator[str]:
        told.append("first opens")
        yield "one"
        told.append("first closes")

    @app.lifespan
    def second() -> Iterator[str]:
        told.append(f"second opens after {first.value}")
        yield "two"
        told.append("second closes")

    @app.task
    async def work() -> None:
        told.append(f"{first.value} {second.value}")

    @app.task
    def plain() -> None:
        told.append(second.value)

    await work.enqueue()
    assert await app.worker().drain() == 1
    await plain.enqueue()
    assert await app.worker().drain() == 1
    opens, closes = ["first opens", "second opens after one"], ["second closes", "first closes"]
    assert told == [*opens, "one two", *closes, *opens, "two", *closes]
    with pytest.raises(OutsideHandler, match="while a worker is open"):
        first.value  # noqa: B018  # it raises


async def test_handlers_under_test_have_it_for_each_call_or_for_as_long_as_the_test_holds_it_open(
    app: Rowlock,
) -> None:
    told: list[str] = []

    @app.lifespan
    async def opened() -> AsyncIterator[int]:
        told.append("opens")
        yield 1
        told.append("closes")

    @app.task
    async def work() -> int:
        return opened.value

    with use_database(app, app.settings.database_url or ""):
        assert await perform(app, work) == 1
        await work.enqueue()
        await work.enqueue()
        assert (await drain(app)).outcomes == {"succeeded": 2}
        assert told == ["opens", "closes"] * 2
        await move_time(app, 60)
        assert await fire_schedules(app) == 0
        assert len(told) == 4, "where no handler runs, nothing is opened"
        async with opened.opened():
            assert await perform(app, work) == await perform(app, work) == 1
        assert told == ["opens", "closes"] * 3


async def test_a_lifespan_that_raises_fails_the_test_of_a_handler(app: Rowlock) -> None:
    @app.lifespan
    async def broken() -> AsyncIterator[int]:
        if app.lifespans:
            raise LookupError("no model")
        yield 1

    @app.task
    async def work() -> int:
        return broken.value

    with use_database(app, app.settings.database_url or ""), pytest.raises(LookupError, match="no model"):
        await perform(app, work)


async def test_workers_of_one_process_share_it(app: Rowlock) -> None:
    told: list[str] = []

    @app.lifespan
    async def opened() -> AsyncIterator[int]:
        told.append("opens")
        yield 1
        told.append("closes")

    async with app.worker():
        async with app.worker():
            assert opened.value == 1
        assert opened.value == 1
        assert told == ["opens"]
    assert told == ["opens", "closes"]


async def test_a_worker_whose_lifespan_raises_does_not_start_and_closes_what_was_open(app: Rowlock) -> None:
    told: list[str] = []

    @app.lifespan
    async def first() -> AsyncIterator[None]:
        yield
        told.append("first closes")

    @app.lifespan
    async def second() -> AsyncIterator[None]:
        if not told:
            raise LookupError("no model")
        yield

    with pytest.raises(LookupError, match="no model"):
        await app.worker().run(handle_signals=False)
    assert told == ["first closes"]
    assert await app.workers.list() == []


async def test_a_stop_closes_it_after_the_handlers(app: Rowlock) -> None:
    told: list[str] = []
    begun = asyncio.Event()

    @app.lifespan
    async def opened() -> AsyncIterator[None]:
        yield
        told.append("closes")

    @app.task
    async def work() -> None:
        begun.set()
        await asyncio.sleep(0)
        told.append("done")

    await work.enqueue()
    async with app.worker():
        await begun.wait()
    assert told == ["done", "closes"]


async def test_a_closing_part_that_hangs_is_cancelled_when_the_grace_period_is_over_and_named(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.worker.LAST_SECONDS", 0.0)
    monkeypatch.setattr("rowlock.worker.timeouts.CANCEL_EVERY", 0.0)
    told: list[str] = []

    @app.lifespan
    async def hanging() -> AsyncIterator[None]:
        yield
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cancelled")
            await asyncio.Event().wait()

    worker = app.worker()
    with capture_logs() as logs:
        await worker.run(handle_signals=False, on_started=lambda: worker.stop(0))
    assert told == ["cancelled"]
    (warning,) = [log for log in logs if log["event"] == "lifespan_cancelled"]
    assert warning["lifespan"] == f"{__name__}.hanging"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await app.workers.list() == []


async def test_a_second_signal_ends_what_a_closing_part_may_take_and_the_others_close(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.worker.LAST_SECONDS", 0.0)
    told: list[str] = []
    closing = asyncio.Event()

    @app.lifespan
    async def sound() -> AsyncIterator[None]:
        yield
        told.append("sound closes")

    @app.lifespan
    async def hanging() -> AsyncIterator[None]:
        yield
        closing.set()
        await asyncio.Event().wait()

    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False, on_started=worker.stop))
    await closing.wait()
    worker.stop(0)
    await running
    assert told == ["sound closes"]


async def test_a_closing_part_has_a_few_seconds_when_handlers_have_used_up_the_grace_period(app: Rowlock) -> None:
    told: list[str] = []

    @app.lifespan
    async def opened() -> AsyncIterator[None]:
        yield
        for _ in range(10):
            await asyncio.sleep(0)
        told.append("closes")

    worker = app.worker()
    await worker.run(handle_signals=False, on_started=lambda: worker.stop(0))
    assert told == ["closes"]


async def test_a_cancel_of_the_worker_reaches_a_closing_part_that_hangs(app: Rowlock) -> None:
    closing = asyncio.Event()

    @app.lifespan
    async def hanging() -> AsyncIterator[None]:
        yield
        closing.set()
        await asyncio.Event().wait()

    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False, on_started=worker.stop))
    await closing.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_signal_ends_a_worker_whose_lifespan_hangs_while_it_opens(app: Rowlock) -> None:
    opening = asyncio.Event()
    told: list[str] = []

    @app.lifespan
    async def hanging() -> AsyncIterator[None]:
        opening.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cancelled")
        yield

    signals = StopSignals()
    try:
        working = asyncio.create_task(work(app.worker(), signals))
        await opening.wait()
        signals.asked.set()
        await working
    finally:
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
    assert told == ["cancelled"]
    assert await app.workers.list() == []


async def test_each_process_of_tasks_opens_its_own(app: Rowlock) -> None:
    app.lifespans.append(process_tasks.model)
    app.lifespans.append(process_tasks.client)
    task = app.task(executor="process")(process_tasks.predicted)
    awaited = app.task(executor="process")(process_tasks.asked)
    one, two = await task.enqueue(2), await awaited.enqueue(3)
    await app.worker(task_processes=1).drain()
    assert await one.result(timeout=5) == 20
    assert await two.result(timeout=5), "on the loop on which it was opened"


async def test_jobs_of_a_process_whose_lifespan_raises_fail_with_its_error(app: Rowlock) -> None:
    app.lifespans.append(process_tasks.broken)
    task = app.task(executor="process", max_attempts=1)(process_tasks.predicted)
    job = await task.enqueue(2)
    await app.worker(task_processes=1).drain()
    with pytest.raises(JobFailed, match="no weights"):
        await job.result(timeout=5)


async def test_a_lifespan_that_a_process_could_not_import_is_refused_where_there_are_tasks_for_processes(
    app: Rowlock,
) -> None:
    @app.lifespan
    def local() -> Iterator[int]:
        yield 1

    await app.worker().drain()
    app.task(executor="process")(process_tasks.predicted)
    with pytest.raises(InvalidOption, match=r"import it by its name, but .*local.* is missing or another object"):
        await app.worker().drain()


async def test_what_is_registered_while_a_worker_is_open_is_refused(app: Rowlock) -> None:
    async def late() -> AsyncIterator[int]:
        yield 1

    async with app.worker():
        with pytest.raises(InvalidOption, match=r"test_lifespan\.late must be registered before a worker is opened"):
            app.lifespan(late)
    registered = app.lifespan(late)
    async with app.worker():
        assert registered.value == 1


async def test_one_that_yields_twice_or_not_at_all_is_named(app: Rowlock) -> None:
    told: list[str] = []

    async def twice() -> AsyncIterator[int]:
        yield 1
        try:
            yield 2
        finally:
            told.append("ended")

    def twice_plain() -> Iterator[int]:
        yield from (1, 2)

    async def never() -> AsyncIterator[int]:
        for number in told[5:]:
            yield int(number)

    for function, why in ((twice, "yielded twice"), (twice_plain, "yielded twice"), (never, "ended without a yield")):
        app.lifespans.clear()
        app.lifespan(function)
        for _ in range(2):
            with pytest.raises(InvalidOption, match=rf"test_lifespan\.{function.__name__} must yield once; it {why}"):
                await app.worker().drain()
    assert told == ["ended", "ended"]


def test_one_with_parameters_is_refused(app: Rowlock) -> None:
    def needs(url: str) -> Iterator[int]:
        yield len(url)

    with pytest.raises(InvalidOption, match=r"lifespan must be a function without parameters; got .*needs.*'url'"):
        app.lifespan(needs)  # type: ignore[arg-type]  # that is the point
    assert app.lifespans == []


def test_what_yields_nothing_is_refused(app: Rowlock) -> None:
    with pytest.raises(InvalidOption, match="lifespan must be a function that yields once"):
        app.lifespan(lambda: 1)  # type: ignore[arg-type, return-value]
