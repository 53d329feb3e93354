"""Batch handlers: many jobs in one call, and each job keeps what a job has."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, assert_type

import asyncpg
import pytest

from rowlock import CallNext, Cancel, Fail, InvalidArguments, Job, Retry, Rowlock, Settings, Snooze, Task
from tests.waiting import eventually

if TYPE_CHECKING:
    from rowlock import JobHandle

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

Row: TypeAlias = Mapping[str, Any]


@dataclass
class Document:
    key: int
    text: str = ""


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    settings = Settings(database_url=database_url, poll_interval=timedelta(milliseconds=50))
    async with Rowlock(settings=settings) as opened:
        yield opened


async def rows_of(connection: Connection, *handles: JobHandle[Any]) -> list[Row]:
    found = await connection.fetch("SELECT * FROM rowlock.jobs WHERE id = ANY($1)", [handle.id for handle in handles])
    by_id = {row["id"]: dict(row) for row in found}
    return [by_id[handle.id] for handle in handles]


async def attempts(connection: Connection, handle: JobHandle[Any]) -> list[str]:
    rows = await connection.fetch("SELECT outcome FROM rowlock.attempt WHERE job_id = $1 ORDER BY attempt", handle.id)
    return [row["outcome"] for row in rows]


# One call.


async def test_jobs_are_handled_in_one_call_and_each_has_its_own_result(app: Rowlock, connection: Connection) -> None:
    calls: list[list[Document]] = []

    @app.task(batch=10, batch_wait=5)
    async def index(documents: list[Document]) -> list[int] | None:
        calls.append(documents)
        return [document.key * 2 for document in documents]

    assert_type(index, Task[[Document], int, Callable[[list[Document]], Coroutine[Any, Any, list[int] | None]]])
    handles = await app.enqueue_many([index.job(Document(key)) for key in range(10)])
    assert await app.worker().drain() == 10
    assert [[document.key for document in call] for call in calls] == [list(range(10))]
    assert [await handle.result() for handle in handles] == [key * 2 for key in range(10)]
    rows = await rows_of(connection, *handles)
    assert {(row["state"], row["attempt"]) for row in rows} == {("succeeded", 1)}
    assert json.loads(rows[3]["args"]) == {"documents": {"key": 3, "text": ""}}, "one item, by the parameter's name"


async def test_a_thousand_queued_jobs_fill_batches_of_a_hundred(app: Rowlock) -> None:
    sizes: list[int] = []

    @app.task(batch=100, batch_wait=5)
    async def count(numbers: list[int]) -> None:
        sizes.append(len(numbers))

    await app.enqueue_many([count.job(number) for number in range(1000)])
    assert await app.worker(concurrency=100).drain() == 1000
    assert sizes == [100] * 10


async def test_a_batch_is_no_larger_than_what_the_worker_can_run_at_once(app: Rowlock) -> None:
    sizes: list[int] = []

    @app.task(batch=100, batch_wait=60)
    async def count(numbers: list[int]) -> None:
        sizes.append(len(numbers))

    @app.task(batch=100, batch_wait=60, queue="narrow")
    async def count_few(numbers: list[int]) -> None:
        sizes.append(len(numbers))

    await app.enqueue_many([count.job(number) for number in range(12)])
    await app.worker(concurrency=4).drain()
    assert sizes == [4, 4, 4], "nothing more could come: nobody waits for it"
    await app.enqueue_many([count_few.job(number) for number in range(4)])
    await app.worker(concurrency=8, queues=["narrow:2"]).drain()
    assert sizes[3:] == [2, 2]


async def test_a_job_alone_waits_no_longer_than_batch_wait(app: Rowlock) -> None:
    @app.task(batch=100, batch_wait=0.2)
    async def say(words: list[str]) -> list[str]:
        return [word.upper() for word in words]

    handle = await say.enqueue("a")
    began = time.monotonic()
    await app.worker().drain()
    assert time.monotonic() - began >= 0.2, "the first one waits for others"
    assert await handle.result() == "A"


async def test_without_a_wait_those_that_come_at_once_are_one_batch(app: Rowlock) -> None:
    sizes: list[int] = []

    @app.task(batch=100, batch_wait=0)
    def count(numbers: list[int]) -> None:
        sizes.append(len(numbers))

    await app.enqueue_many([count.job(number) for number in range(7)])
    await app.worker().drain()
    assert sizes == [7]


async def test_a_plain_function_handles_its_batch_in_a_thread(app: Rowlock) -> None:
    names: set[str] = set()

    @app.task(batch=3)
    def shout(words: list[str]) -> list[str]:
        names.add(threading.current_thread().name)
        return [word.upper() for word in words]

    assert_type(shout, Task[[str], str, Callable[[list[str]], list[str] | None]])
    handles = await app.enqueue_many([shout.job(word) for word in "abc"])
    await app.worker().drain()
    assert [await handle.result() for handle in handles] == ["A", "B", "C"]
    assert all(name.startswith("rowlock-task") for name in names)


async def test_a_handler_has_the_jobs_in_the_order_of_their_items(app: Rowlock) -> None:
    seen: list[tuple[list[Job], list[int]]] = []

    @app.task(batch=3)
    async def note(jobs: list[Job], numbers: list[int]) -> None:
        seen.append((jobs, numbers))

    assert_type(note, Task[[int], None, Callable[[list[Job], list[int]], Coroutine[Any, Any, None]]])
    await app.enqueue_many([note.job(number) for number in range(3)])
    await app.worker().drain()
    ((jobs, numbers),) = seen
    assert [job.args["numbers"] for job in jobs] == numbers == [0, 1, 2]
    assert {job.attempt for job in jobs} == {1}


async def test_what_is_enqueued_is_checked_as_an_item(app: Rowlock) -> None:
    @app.task(batch=3)
    async def note(numbers: list[int]) -> None: ...

    with pytest.raises(InvalidArguments, match="numbers"):
        await note.enqueue("one")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(InvalidArguments, match="numbers"):
        await note.enqueue([1, 2])  # type: ignore[arg-type]  # that is the point


async def test_a_call_is_one_of_the_function_itself(app: Rowlock) -> None:
    @app.task(batch=3)
    async def double(numbers: list[int]) -> list[int]:
        return [number * 2 for number in numbers]

    assert await double([1, 2]) == [2, 4]


# Outcomes.


async def test_each_job_has_the_outcome_that_the_handler_gives_it(app: Rowlock, connection: Connection) -> None:
    @app.task(batch=6, batch_wait=5, max_attempts=2, backoff=3600)
    async def judge(words: list[str]) -> list[Any]:
        outcomes = {
            "fine": {"was": "fine"},
            "error": ValueError("not this one"),
            "retry": Retry(3600),
            "snooze": Snooze(3600),
            "cancel": Cancel("nothing to do"),
            "fail": Fail("never"),
        }
        return [outcomes[word] for word in words]

    words = ["fine", "error", "retry", "snooze", "cancel", "fail"]
    handles = await app.enqueue_many([judge.job(word) for word in words])
    await app.worker().drain()
    rows = await rows_of(connection, *handles)
    assert [row["errors"] for row in rows] == [0, 1, 1, 0, 0, 1]
    assert [row["finished_at"] is None for row in rows] == [False, True, True, True, False, False]
    assert [rows[number]["state"] for number in (0, 4, 5)] == ["succeeded", "cancelled", "failed"]
    assert [await attempts(connection, handle) for handle in handles] == [
        [],
        ["error"],
        ["retried"],
        ["snoozed"],
        ["cancelled"],
        ["failed"],
    ]
    assert rows[1]["error"] == "ValueError: not this one"


async def test_what_the_handler_raises_is_the_error_of_every_job(app: Rowlock, connection: Connection) -> None:
    told: list[str] = []

    @app.task(batch=3, batch_wait=5, max_attempts=1)
    async def fail(numbers: list[int]) -> None:
        raise ConnectionError("no answer")

    @fail.on_failure
    def tell(job: Job, error: BaseException) -> None:
        told.append(f"{job.args['numbers']} {error}")

    handles = await app.enqueue_many([fail.job(number) for number in range(3)])
    await app.worker().drain()
    rows = await rows_of(connection, *handles)
    assert {(row["state"], row["error"]) for row in rows} == {("failed", "ConnectionError: no answer")}
    assert sorted(told) == ["0 no answer", "1 no answer", "2 no answer"]
    texts = {row["traceback"] for row in await connection.fetch("SELECT traceback FROM rowlock.attempt")}
    assert len(texts) == 1, "the same for each"
    assert 'raise ConnectionError("no answer")' in texts.pop()


@pytest.mark.parametrize("returned, said", [([1], "got 1 outcomes for 2 jobs"), ("ab", "got `str`"), ({}, "`dict`")])
async def test_outcomes_that_are_not_one_for_each_job_are_an_error_of_all(
    app: Rowlock, connection: Connection, returned: list[int], said: str
) -> None:
    @app.task(batch=2, batch_wait=5, max_attempts=1)
    async def miscount(numbers: list[int]) -> list[int]:
        return returned

    handles = await app.enqueue_many([miscount.job(number) for number in range(2)])
    await app.worker().drain()
    for row in await rows_of(connection, *handles):
        assert row["state"] == "failed"
        assert said in row["error"]


@pytest.mark.parametrize("error", [StopIteration("x"), SystemExit(3), asyncio.CancelledError("x"), KeyboardInterrupt()])
async def test_whatever_a_handler_raises_its_jobs_end(
    app: Rowlock, connection: Connection, error: BaseException
) -> None:
    @app.task(batch=2, batch_wait=5, max_attempts=1)
    async def odd(numbers: list[int]) -> None:
        raise error

    handles = await app.enqueue_many([odd.job(number) for number in range(2)])
    await app.worker().drain()
    assert {row["state"] for row in await rows_of(connection, *handles)} == {"failed"}


async def test_a_job_that_failed_in_a_batch_is_tried_again_in_another(app: Rowlock, connection: Connection) -> None:
    @app.task(batch=4, backoff=0.01)
    async def flaky(jobs: list[Job], numbers: list[int]) -> list[int | Exception]:
        return [
            ValueError("not yet") if job.errors < number else number for job, number in zip(jobs, numbers, strict=True)
        ]

    handles = await app.enqueue_many([flaky.job(number) for number in range(4)])
    async with app.worker():
        assert [await handle.result(timeout=10) for handle in handles] == [0, 1, 2, 3]
    assert [row["attempt"] for row in await rows_of(connection, *handles)] == [1, 2, 3, 4]


async def test_middleware_is_around_each_job_of_a_batch(app: Rowlock) -> None:
    sizes: list[int] = []

    @app.middleware
    async def add_one(job: Job, call_next: CallNext) -> object:
        return await call_next() + job.args["numbers"]

    @app.task(batch=3, batch_wait=5)
    async def count(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        return [100 for _ in numbers]

    handles = await app.enqueue_many([count.job(number) for number in range(3)])
    await app.worker().drain()
    assert [await handle.result() for handle in handles] == [100, 101, 102]
    assert sizes == [3]


async def test_each_job_may_have_a_transaction_of_its_own(app: Rowlock, connection: Connection) -> None:
    await connection.execute("CREATE TABLE effect (number int)")

    @app.task(batch=3, batch_wait=5, max_attempts=1)
    async def write(jobs: list[Job], numbers: list[int]) -> None:
        for job, number in zip(jobs, numbers, strict=True):
            if number == 2:
                raise ValueError("too late for the others to fail")
            async with job.transaction() as own:
                await own.execute("INSERT INTO effect VALUES ($1)", number)
                job.set_result(number)

    handles = await app.enqueue_many([write.job(number) for number in range(3)])
    await app.worker().drain()
    assert [row["state"] for row in await rows_of(connection, *handles)] == ["succeeded", "succeeded", "failed"]
    assert [row["number"] for row in await connection.fetch("SELECT number FROM effect ORDER BY 1")] == [0, 1]


# Leaving.


async def test_a_job_cancelled_while_its_batch_gathers_leaves_it(app: Rowlock, connection: Connection) -> None:
    calls: list[list[int]] = []

    @app.task(batch=3, batch_wait=60)
    async def count(numbers: list[int]) -> None:
        calls.append(numbers)

    async with app.worker():
        first = await count.enqueue(1)

        async def is_running() -> bool:
            return (await first.get()).state == "running"

        await eventually(is_running)
        await app.jobs.cancel(first.id)

        async def is_cancelled() -> bool:
            return (await first.get()).state == "cancelled"

        await eventually(is_cancelled)
        rest = await app.enqueue_many([count.job(number) for number in (2, 3, 4)])
        for handle in rest:
            await handle.result(timeout=10)
    assert [sorted(call) for call in calls] == [[2, 3, 4]]
    assert await attempts(connection, first) == ["cancelled"]


async def test_a_job_cancelled_during_the_call_is_cancelled_and_the_others_succeed(
    app: Rowlock, connection: Connection
) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    asked: list[bool] = []

    @app.task(batch=2, batch_wait=60)
    async def hold(jobs: list[Job], numbers: list[int]) -> list[int]:
        begun.set()
        await may_end.wait()
        asked.extend(job.is_cancelled for job in jobs)
        return numbers

    one, other = await app.enqueue_many([hold.job(1), hold.job(2)])
    async with app.worker() as worker:
        await asyncio.wait_for(begun.wait(), 10)
        await app.jobs.cancel(one.id)
        running = {attempt.claimed["id"]: attempt for attempt in worker._shift.slots.running}

        async def is_told() -> bool:
            return running[one.id].stop == "cancel"

        await eventually(is_told)
        assert (await one.get()).state == "running", "it is over when the call is"
        may_end.set()
        assert await other.result(timeout=10) == 2
    assert sorted(asked) == [False, True]
    assert [row["state"] for row in await rows_of(connection, one, other)] == ["cancelled", "succeeded"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_no_job_runs_again_while_the_call_that_it_timed_out_in_goes_on(
    app: Rowlock, connection: Connection, is_async: bool
) -> None:
    inside: list[int] = []
    overlaps: list[int] = []
    attempt_numbers: list[int] = []

    def enter(jobs: list[Job], numbers: list[int]) -> None:
        overlaps.extend(number for number in numbers if number in inside)
        inside.extend(numbers)
        attempt_numbers.extend(job.attempt for job, number in zip(jobs, numbers, strict=True) if number == 1)

    def leave(numbers: list[int]) -> None:
        for number in numbers:
            inside.remove(number)

    if is_async:

        @app.task(name="hold", batch=2, batch_wait=0.05, backoff=0.01)
        async def hold(jobs: list[Job], numbers: list[int]) -> None:
            enter(jobs, numbers)
            await asyncio.sleep(0.7 if jobs[0].attempt == 1 else 0)
            leave(numbers)
    else:

        @app.task(name="hold", batch=2, batch_wait=0.05, backoff=0.01)
        def hold(jobs: list[Job], numbers: list[int]) -> None:
            enter(jobs, numbers)
            time.sleep(0.7 if jobs[0].attempt == 1 else 0)
            leave(numbers)

    short, long = await app.enqueue_many([hold.using(timeout=0.5).job(1), hold.job(2)])
    async with app.worker():
        await long.result(timeout=10)
        await short.result(timeout=10)
    assert await attempts(connection, short) == ["timeout"]
    assert (await long.get()).attempt == 1, "the call went on for the other"
    assert (overlaps, attempt_numbers) == ([], [1, 2])


async def test_a_call_that_nobody_waits_for_any_more_is_cancelled(app: Rowlock, connection: Connection) -> None:
    ended: list[str] = []

    @app.task(batch=2, batch_wait=60, timeout=0.1, max_attempts=1)
    async def hang(numbers: list[int]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    handles = await app.enqueue_many([hang.job(1), hang.job(2)])
    await app.worker().drain()
    assert ended == ["cancelled"]
    assert [await attempts(connection, handle) for handle in handles] == [["timeout"], ["timeout"]]


@pytest.mark.parametrize("batch", [1, 100])
async def test_a_worker_that_stops_gives_back_the_jobs_that_gather_and_those_of_a_call(
    app: Rowlock, connection: Connection, batch: int
) -> None:
    calls: list[int] = []
    ended: list[int] = []

    @app.task(batch=batch, batch_wait=60)
    async def hang(numbers: list[int]) -> None:
        calls.extend(numbers)
        try:
            await asyncio.Event().wait()
        finally:
            ended.extend(numbers)

    handles = await app.enqueue_many([hang.job(1), hang.job(2)])
    async with app.worker() as worker:

        async def are_running() -> bool:
            return {row["state"] for row in await rows_of(connection, *handles)} == {"running"}

        await eventually(are_running)
        if batch == 1:

            async def are_called() -> bool:
                return len(calls) == 2

            await eventually(are_called)
        worker.stop(grace=0)
    assert {(row["state"], row["errors"]) for row in await rows_of(connection, *handles)} == {("queued", 0)}
    assert sorted(calls) == sorted(ended) == ([1, 2] if batch == 1 else [])


async def test_a_call_whose_lease_was_lost_is_cancelled(app: Rowlock, connection: Connection) -> None:
    ended = asyncio.Event()

    @app.task(batch=2, batch_wait=0)
    async def hang(numbers: list[int]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    handle = await hang.enqueue(1)
    async with app.worker() as worker:

        async def is_running() -> bool:
            return (await handle.get()).state == "running"

        await eventually(is_running)
        await connection.execute("UPDATE rowlock.worker SET expires_at = '-infinity'")
        await asyncio.wait_for(ended.wait(), 10)

        async def is_free() -> bool:
            return not worker._shift.slots.running

        await eventually(is_free)
