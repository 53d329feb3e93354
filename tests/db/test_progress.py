"""What a handler says while it runs: progress, checkpoints and log lines, over all attempts; never of a stale one."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest
import structlog

from rowlock import InvalidOption, InvalidResult, Job, OutsideHandler, Rowlock, Settings, StaleAttempt
from rowlock.queue.jobs.checks import MESSAGE_LIMIT
from rowlock.worker.attempt.capture import MOST_BYTES, MOST_LINES
from tests.db.stale import take_away
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

log = structlog.get_logger("shop")
plain_log = logging.getLogger("shop.plain")


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=timedelta(milliseconds=50))


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


# Progress.


async def test_progress_can_be_read_while_the_handler_runs_and_afterwards(app: Rowlock) -> None:
    goes_on = asyncio.Event()

    @app.task
    async def resize(job: Job) -> None:
        await job.progress(0.4, "resizing")
        await goes_on.wait()

    handle = await resize.enqueue()
    assert (await handle.get()).last_progress is None
    async with app.worker():

        async def reported() -> bool:
            return (await handle.get()).last_progress is not None

        await eventually(reported)
        job = await handle.get()
        goes_on.set()
        await handle.result(timeout=10)
    assert job.state == "running"
    for seen in (job, await handle.get()):
        assert seen.last_progress is not None
        assert (seen.last_progress.fraction, seen.last_progress.message, seen.last_progress.attempt) == (
            0.4,
            "resizing",
            1,
        )


async def test_the_last_report_before_the_end_is_written_whatever_the_end_is(app: Rowlock) -> None:
    @app.task(max_attempts=1)
    async def work(job: Job, how: str) -> None:
        for step in range(10):
            await job.progress(step / 10, f"step {step}")
        if how == "fails":
            raise ValueError(how)

    handles = [await work.enqueue("succeeds"), await work.enqueue("fails")]
    await app.worker().drain()
    told = [(await handle.get()).last_progress for handle in handles]
    assert [(seen.fraction, seen.message) if seen else None for seen in told] == [(0.9, "step 9")] * 2


async def test_a_last_report_that_is_not_written_in_time_is_left_out_and_the_log_says_so(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.attempt.runtime.END_SECONDS", 0.2)

    @app.task
    async def resize(job: Job) -> None:
        await job.progress(1.0, "done")

    handle = await resize.enqueue()
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("LOCK TABLE rowlock.progress IN SHARE ROW EXCLUSIVE MODE")
    with capture_logs() as logs:
        async with app.worker():
            await handle.result(timeout=10)
            await transaction.rollback()
    assert "end_of_attempt_not_written" in [entry["event"] for entry in logs]
    assert (await handle.get()).last_progress is None


async def test_many_reports_of_one_second_are_one_write_and_the_latest_counts(
    app: Rowlock, connection: Connection
) -> None:
    await connection.execute(
        "CREATE TABLE written (at timestamptz DEFAULT clock_timestamp(), fraction float8);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO written (fraction) VALUES (NEW.fraction); RETURN NEW; END';"
        "CREATE TRIGGER note AFTER INSERT OR UPDATE ON rowlock.progress FOR EACH ROW EXECUTE FUNCTION note()"
    )

    @app.task
    async def count(job: Job) -> None:
        end = time.monotonic() + 1.3
        while (left := end - time.monotonic()) > 0:
            await job.progress(1 - left / 2)
        await job.progress(1)

    await count.enqueue()
    await app.worker().drain()
    fractions = [row["fraction"] for row in await connection.fetch("SELECT fraction FROM written ORDER BY at")]
    assert len(fractions) == 3, "the first at once, one after a second, and the last at the end"
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


async def test_a_plain_function_reports_without_awaiting(app: Rowlock) -> None:
    @app.task
    def crunch(job: Job) -> str:
        job.progress(0.5, "half")
        return threading.current_thread().name

    handle = await crunch.enqueue()
    await app.worker().drain()
    job = await handle.get()
    assert job.result.startswith("rowlock-task")
    assert job.last_progress is not None
    assert job.last_progress.message == "half"


async def test_progress_is_kept_over_a_retry(app: Rowlock) -> None:
    @app.task(max_attempts=2, backoff=0)
    async def flaky(job: Job) -> None:
        if job.attempt == 1:
            await job.progress(0.7, "nearly")
            raise ValueError("no")

    handle = await flaky.enqueue()
    await app.worker().drain()
    job = await handle.get()
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert job.last_progress is not None
    assert (job.last_progress.fraction, job.last_progress.attempt) == (0.7, 1)


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan"), float("inf"), True, "0.5", None])
async def test_progress_outside_of_0_to_1_is_refused(app: Rowlock, fraction: Any) -> None:  # noqa: ANN401  # nonsense
    @app.task(max_attempts=1)
    async def wrong(job: Job) -> None:
        with pytest.raises(InvalidOption, match="progress must be a fraction from 0 to 1"):
            job.progress(fraction)
        with pytest.raises(InvalidOption, match="progress message must be text"):
            job.progress(0.5, 7)  # type: ignore[arg-type]  # that is the point

    handle = await wrong.enqueue()
    await app.worker().drain()
    job = await handle.get()
    assert (job.state, job.last_progress) == ("succeeded", None)


async def test_a_message_that_is_too_long_or_not_storable_is_made_so(app: Rowlock) -> None:
    @app.task
    async def shout(job: Job) -> None:
        await job.progress(0, "a\0b\ud800" + "x" * 10_000)

    handle = await shout.enqueue()
    await app.worker().drain()
    told = (await handle.get()).last_progress
    assert told is not None
    assert told.message is not None
    assert told.message.startswith("a\u2400b\ufffdxxx")
    assert len(told.message.encode()) <= MESSAGE_LIMIT


async def test_a_job_that_was_read_or_is_over_takes_no_reports(app: Rowlock) -> None:
    kept: list[Job] = []

    @app.task
    async def keep(job: Job) -> None:
        kept.append(job)

    handle = await keep.enqueue()
    await app.worker().drain()
    for job in (kept[0], await handle.get()):
        with pytest.raises(OutsideHandler, match="only inside the handler"):
            job.progress(0.5)
        for call in (job.load_checkpoint, lambda job=job: job.save_checkpoint({}), job.transaction):
            with pytest.raises(OutsideHandler, match="only inside the handler"):
                call()
        with pytest.raises(OutsideHandler, match="only inside the handler"):
            job.set_result(1)


async def test_a_stale_attempt_writes_neither_progress_nor_a_checkpoint(app: Rowlock, connection: Connection) -> None:
    caught: list[StaleAttempt] = []

    @app.task
    async def slow(job: Job) -> None:
        await job.save_checkpoint({"page": 1})
        await take_away(connection, job.id)
        await job.progress(0.9, "stale")
        with pytest.raises(StaleAttempt, match="has lost its job") as found:
            await job.save_checkpoint({"page": 2})
        caught.append(found.value)

    handle = await slow.enqueue()
    worker = app.worker()
    await worker.drain()
    assert len(caught) == 1
    assert (await handle.get()).last_progress is None
    kept = await connection.fetchrow("SELECT fraction, checkpoint FROM rowlock.progress WHERE job_id = $1", handle.id)
    assert kept is not None
    assert (kept["fraction"], json.loads(kept["checkpoint"])) == (None, {"page": 1})


# Checkpoints.


async def test_the_next_attempt_reads_what_the_last_one_has_saved(app: Rowlock) -> None:
    seen: list[object] = []

    @app.task(max_attempts=3, backoff=0)
    async def import_pages(job: Job) -> None:
        start = await job.load_checkpoint() or {"page": 1}
        seen.append(start)
        await job.save_checkpoint({"page": start["page"] + 1})
        if job.attempt < 3:
            raise ConnectionError("gone")

    await import_pages.enqueue()
    await app.worker().drain()
    assert seen == [{"page": 1}, {"page": 2}, {"page": 3}]


async def test_a_checkpoint_leaves_the_progress_of_an_earlier_attempt_to_that_attempt(app: Rowlock) -> None:
    @app.task(max_attempts=2, backoff=0.01)
    async def work(job: Job) -> None:
        if job.attempt == 1:
            await job.progress(0.5, "half")
            raise ValueError("not yet")
        await job.save_checkpoint({"page": 2})

    handle = await work.enqueue()
    async with app.worker():
        await handle.result(timeout=10)
    told = (await handle.get()).last_progress
    assert told is not None
    assert (told.attempt, told.fraction, told.message) == (1, 0.5, "half")


async def test_a_plain_function_waits_for_its_checkpoint(app: Rowlock, connection: Connection) -> None:
    @app.task
    def crunch(job: Job) -> object:
        job.save_checkpoint([1, "zwei"]).wait()
        return job.load_checkpoint().wait(timeout=5)

    handle = await crunch.enqueue()
    await app.worker().drain()
    assert (await handle.get()).result == [1, "zwei"]
    assert (await handle.get()).last_progress is None, "a checkpoint is no report"


async def test_an_async_handler_that_would_block_the_loop_is_told_so(app: Rowlock) -> None:
    @app.task(max_attempts=1)
    async def wrong(job: Job) -> None:
        saving = job.save_checkpoint(1)
        with pytest.raises(OutsideHandler, match="await the call"):
            saving.wait()
        await saving

    handle = await wrong.enqueue()
    await app.worker().drain()
    assert (await handle.get()).state == "succeeded"


async def test_a_checkpoint_that_json_cannot_hold_or_that_is_too_large_is_refused(settings: Settings) -> None:
    async with Rowlock(settings=replace(settings, max_result_bytes=100)) as app:

        @app.task(max_attempts=1)
        async def wrong(job: Job) -> None:
            with pytest.raises(InvalidResult, match=r"Checkpoint of job .* 100"):
                await job.save_checkpoint("x" * 200)
            with pytest.raises(InvalidResult, match="Checkpoint of job"):
                await job.save_checkpoint({"n": float("nan")})
            assert await job.load_checkpoint() is None

        handle = await wrong.enqueue()
        await app.worker().drain()
        assert (await handle.get()).state == "succeeded"


async def test_progress_of_jobs_that_are_gone_from_the_archive_is_removed(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def work(job: Job) -> None:
        await job.progress(1)

    finished, waiting = await work.enqueue(), await work.using(delay=60).enqueue()
    await app.worker().drain()
    await connection.execute(
        "INSERT INTO rowlock.progress (job_id, attempt) SELECT gen_random_uuid(), 1 FROM generate_series(1, 5);"
        f"INSERT INTO rowlock.progress (job_id, attempt) VALUES ('{waiting.id}', 1);"
        "UPDATE rowlock.progress SET updated_at = now() - interval '3 days';"
        "INSERT INTO rowlock.progress (job_id, attempt) VALUES ('00000000-0000-0000-0000-000000000001', 1);"
        "UPDATE rowlock.duty SET next_run_at = '-infinity' WHERE name = 'progress'"
    )
    async with app.worker():

        async def few() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM rowlock.progress") == 3)

        await eventually(few)
    left = {row["job_id"] for row in await connection.fetch("SELECT job_id FROM rowlock.progress")}
    assert {finished.id, waiting.id} < left, "what lives, or is in the archive, is kept, and so is what is young"


# Log lines.


@pytest.fixture
def all_levels() -> Any:  # noqa: ANN401  # a fixture
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    yield
    root.setLevel(before)


@pytest.mark.usefixtures("all_levels")
async def test_lines_of_both_libraries_are_kept_with_their_attempt(app: Rowlock) -> None:
    @app.task(capture_logs=True, max_attempts=2, backoff=0)
    async def talk(job: Job, name: str) -> None:
        plain_log.info("hello %s", name)
        log.warning("bought", amount=3)
        await asyncio.create_task(say())
        if job.attempt == 1:
            raise ValueError("once")

    async def say() -> None:
        try:
            dict[str, int]()["gone"]
        except KeyError:
            plain_log.exception("it went wrong")

    @app.task
    async def silent() -> None:
        plain_log.error("not kept")

    handle, other = await talk.enqueue("Ada"), await silent.enqueue()
    await app.worker().drain()
    plain_log.error("outside")
    lines = await handle.logs()
    assert await app.jobs.logs(other.id) == []
    assert [line.attempt for line in lines] == [1, 1, 1, 2, 2, 2]
    assert [(line.level, line.text.partition("\n")[0]) for line in lines[:3]] == [
        ("info", "hello Ada"),
        ("warning", "bought amount=3"),
        ("error", "it went wrong"),
    ]
    assert "KeyError: 'gone'" in lines[2].text
    assert lines[0].logger == "shop.plain"
    job = await handle.get()
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.started_at - timedelta(seconds=1) < lines[3].at < job.finished_at + timedelta(seconds=1)
    assert [line.at for line in lines] == sorted(line.at for line in lines)


@pytest.mark.usefixtures("all_levels")
async def test_lines_that_cannot_be_stored_are_made_so(app: Rowlock) -> None:
    @app.task(capture_logs=True, max_attempts=1)
    async def talk() -> str:
        for text in ("a\0b", "a\ud800b", "x" * 5_000_000):
            plain_log.info(text)
        return "done"

    handle = await talk.enqueue()
    await app.worker().drain()
    assert await handle.result(timeout=0) == "done"
    nul, surrogate, long = [line.text for line in await handle.logs()]
    assert (nul, surrogate) == ("a␀b", "a\ufffdb")
    assert "left out" in long
    assert len(long) < 20_000


async def test_lines_below_the_level_that_was_asked_for_are_left_out(app: Rowlock) -> None:
    @app.task(capture_logs="error")
    def talk() -> None:
        plain_log.warning("never mind")
        log.info("never mind")
        plain_log.error("look here")
        log.error("and here")

    handle = await talk.enqueue()
    await app.worker().drain()
    assert [line.text for line in await handle.logs()] == ["look here", "and here"]


async def test_of_too_many_lines_the_first_and_the_last_are_kept(app: Rowlock) -> None:
    @app.task(capture_logs=True)
    async def chatter() -> None:
        for number in range(MOST_LINES + 500):
            plain_log.error("line %d", number)

    @app.task(capture_logs=True)
    async def rant() -> None:
        for number in range(100):
            plain_log.error("%d %s", number, "x" * 10_000)
        plain_log.error("NUL \0 and %s", "\ud800")

    handle, other = await chatter.enqueue(), await rant.enqueue()
    await app.worker().drain()
    lines = [line.text for line in await handle.logs()]
    assert len(lines) == MOST_LINES + 1
    assert (lines[0], lines[-1]) == ("line 0", f"line {MOST_LINES + 499}")
    assert lines[MOST_LINES // 2] == "… 500 lines left out"
    texts = [line.text for line in await other.logs()]
    assert sum(len(text) for text in texts) < MOST_BYTES
    assert texts[-1] == "NUL \u2400 and \ufffd"


@pytest.mark.parametrize("given", ["loud", 7, None])
def test_a_level_that_does_not_exist_is_refused(given: Any) -> None:  # noqa: ANN401  # nonsense
    with pytest.raises(InvalidOption, match=f"capture_logs must be .*; got {given!r}"):
        Rowlock("postgresql://nowhere").task(capture_logs=given)(len)


async def test_logs_of_an_attempt_that_lost_its_job_are_kept_all_the_same(app: Rowlock, connection: Connection) -> None:
    @app.task(capture_logs=True)
    async def slow(job: Job) -> None:
        plain_log.error("before")
        await take_away(connection, job.id)
        plain_log.error("after")

    handle = await slow.enqueue()
    await app.worker().drain()
    assert [line.text for line in await handle.logs()] == ["before", "after"]
