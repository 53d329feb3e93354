"""Results: how long they are kept, and how those who wait hear of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import InvalidOption, Job, JobFailed, JobFilter, Rowlock, Settings
from rowlock.queue.read.pages import list_jobs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=timedelta(milliseconds=50))


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


# Lifetimes.


async def test_a_result_is_shown_for_as_long_as_its_task_keeps_it(app: Rowlock, connection: Connection) -> None:
    @app.task(result_ttl=3600)
    async def short() -> str:
        return "short"

    @app.task
    async def long() -> str:
        return "long"

    handles = [await short.enqueue(), await long.enqueue()]
    await app.worker().drain()
    assert [await handle.result(timeout=0) for handle in handles] == ["short", "long"]
    await connection.execute("UPDATE rowlock.finished_job SET finished_at = finished_at - interval '61 minutes'")
    assert [(await handle.get()).result for handle in handles] == [None, "long"]
    assert [await handle.result(timeout=0) for handle in handles] == [None, "long"]
    assert {job.task: job.result for job in await list_jobs(app.database)} == {"short": None, "long": "long"}
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job WHERE result IS NOT NULL") == 2


async def test_a_result_with_no_lifetime_is_not_stored(app: Rowlock, connection: Connection) -> None:
    @app.task(result_ttl=0)
    async def short() -> object:
        return [1, 2]

    handle = await short.enqueue()
    await app.worker().drain()
    assert await handle.result(timeout=0) is None
    assert await connection.fetchval("SELECT result FROM rowlock.finished_job") is None
    assert (await handle.get()).state == "succeeded"


async def fill(connection: Connection, task: str, ages: list[timedelta]) -> None:
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, run_at, created_at, finished_at, attempt, max_attempts, errors, "
        "crashes, priority, state, queue, task, args, result) "
        "SELECT gen_random_uuid(), now(), now(), now() - age, 1, 1, 0, 0, 5, 'succeeded', 'default', $1, '{}', '1' "
        "FROM unnest($2::interval[]) AS given (age)",
        task,
        ages,
    )


async def test_results_whose_lifetime_is_over_are_removed_and_no_others(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.duties.results.BATCH", 7)  # many parts, of many sizes

    @app.task(result_ttl=timedelta(hours=1))
    async def short() -> None: ...

    @app.task
    async def long() -> None: ...

    old = [timedelta(hours=2), *(timedelta(hours=3, seconds=n) for n in range(40)), timedelta(days=400)]
    young = [timedelta(minutes=59), timedelta(0)]
    await fill(connection, "short", old + young)
    await fill(connection, "long", old)

    async def kept() -> dict[str, int]:
        rows = await connection.fetch("SELECT task, count(result) FROM rowlock.finished_job GROUP BY task")
        return {row["task"]: row["count"] for row in rows}

    async def next_run() -> None:
        await connection.execute("UPDATE rowlock.duty SET next_run_at = '-infinity' WHERE name = 'results'")

    async def is_marked() -> bool:
        sql = "SELECT results_removed_until > now() - interval '66 minutes' FROM rowlock.task WHERE name = 'short'"
        return bool(await connection.fetchval(sql))

    async with app.worker():
        await eventually(is_marked)
        assert await kept() == {"short": len(young), "long": len(old)}
        # The next run looks at what came since the last one, and at nothing older.
        await fill(connection, "short", [timedelta(hours=2)])
        await connection.execute(
            "UPDATE rowlock.task SET results_removed_until = now() - interval '90 minutes' WHERE name = 'short'"
        )
        await next_run()
        await eventually(is_marked)
        assert await kept() == {"short": len(young) + 1, "long": len(old)}


@pytest.mark.parametrize("given", [-1, "1h", True, timedelta(seconds=-1)])
def test_a_lifetime_that_makes_no_sense_is_refused(given: Any) -> None:  # noqa: ANN401  # nonsense
    with pytest.raises(InvalidOption, match="result_ttl"):
        Rowlock("postgresql://nowhere").task(result_ttl=given)(len)


# Waiting.


@pytest.fixture
def unpolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who is notified looks by himself for a long time: what comes has come by notification."""
    monkeypatch.setattr("rowlock.queue.read.handle._NET_FIRST", 60)
    monkeypatch.setattr("rowlock.queue.read.handle._NET_MOST", 60)


async def waiters(connection: Connection) -> list[UUID]:
    return [row["job_id"] for row in await connection.fetch("SELECT job_id FROM rowlock.waiter")]


@pytest.mark.usefixtures("unpolled")
@pytest.mark.parametrize("how", ["succeeds", "fails"])
@pytest.mark.needs_session("it waits for a notification")
async def test_the_end_of_a_job_wakes_who_waits_for_it(app: Rowlock, connection: Connection, how: str) -> None:
    goes_on = asyncio.Event()

    @app.task(max_attempts=1)
    async def work() -> str:
        await goes_on.wait()
        if how == "fails":
            raise ValueError(how)
        return how

    handle = await work.enqueue()
    waiting = asyncio.create_task(handle.result(timeout=30))
    async with app.worker():
        await eventually(lambda: waiters(connection))
        goes_on.set()
        async with asyncio.timeout(10):
            if how == "fails":
                with pytest.raises(JobFailed):
                    await waiting
            else:
                assert await waiting == "succeeds"

        async def nobody_waits() -> bool:
            return not await waiters(connection)

        await eventually(nobody_waits)


@pytest.mark.usefixtures("unpolled")
@pytest.mark.needs_session("it waits for a notification")
async def test_many_waits_share_one_connection_and_all_are_woken(app: Rowlock, connection: Connection) -> None:
    goes_on = asyncio.Event()

    @app.task
    async def work(number: int) -> int:
        await goes_on.wait()
        return number

    handles = await app.enqueue_many([work.job(n) for n in range(40)])
    waiting = [asyncio.create_task(handle.result(timeout=30)) for handle in (*handles, *handles)]

    async def all_wait() -> bool:
        return len(await waiters(connection)) == 40

    async with app.worker():
        await eventually(all_wait)
        listeners = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rowlock results'"
        assert await connection.fetchval(listeners) == 1
        goes_on.set()
        async with asyncio.timeout(10):
            assert await asyncio.gather(*waiting) == [*range(40), *range(40)]


@pytest.mark.needs_session("it waits for a notification")
async def test_waiting_goes_on_by_polling_when_notifications_are_lost(app: Rowlock, connection: Connection) -> None:
    goes_on = asyncio.Event()

    @app.task
    async def work() -> str:
        await goes_on.wait()
        return "done"

    handle = await work.enqueue()
    waiting = asyncio.create_task(handle.result(timeout=30))
    async with app.worker():
        await eventually(lambda: waiters(connection))
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rowlock results';"
            "DELETE FROM rowlock.waiter"
        )
        goes_on.set()
        assert await waiting == "done"


async def test_without_listen_nothing_is_written_for_a_wait(settings: Settings, connection: Connection) -> None:
    async with Rowlock(settings=replace(settings, listen=False)) as app:
        goes_on = asyncio.Event()

        @app.task
        async def work() -> str:
            await goes_on.wait()
            return "done"

        handle = await work.enqueue()
        waiting = asyncio.create_task(handle.result(timeout=30))
        async with app.worker():

            async def runs() -> bool:
                return (await handle.get()).state == "running"

            await eventually(runs)
            assert await waiters(connection) == []
            goes_on.set()
            assert await waiting == "done"


async def test_a_wait_that_is_given_up_leaves_nothing_and_the_connection_is_closed_in_the_end(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.queue.connect.waits.IDLE_SECONDS", 0.05)

    @app.task
    async def work() -> None: ...

    handle = await work.enqueue()
    for _ in range(2):  # and it opens again
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.1)
        assert time.monotonic() - began < 5

        async def is_closed() -> bool:
            listeners = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rowlock results'"
            return await connection.fetchval(listeners) == 0 and not await waiters(connection)

        await eventually(is_closed)


async def test_waits_of_applications_that_are_gone_are_forgotten(app: Rowlock, connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO rowlock.waiter VALUES (gen_random_uuid(), gen_random_uuid(), now() - interval '1 second'),"
        "(gen_random_uuid(), gen_random_uuid(), now() + interval '1 minute')"
    )
    async with app.worker():

        async def one_is_left() -> bool:
            return len(await waiters(connection)) == 1

        await eventually(one_is_left)


@pytest.mark.usefixtures("unpolled")
@pytest.mark.needs_session("it waits for a notification")
async def test_a_quarantined_job_wakes_who_waits_for_it(settings: Settings, connection: Connection) -> None:
    async with Rowlock(settings=replace(settings, max_crashes=1)) as app:

        @app.task
        async def work() -> None: ...

        handle = await work.enqueue()
        await connection.execute(
            "UPDATE rowlock.job SET state = 'running', attempt = 1, worker = gen_random_uuid(), started_at = now()"
        )
        await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity'")
        waiting = asyncio.create_task(handle.result(timeout=30))
        await eventually(lambda: waiters(connection))
        async with app.worker():
            await connection.execute("UPDATE rowlock.duty SET next_run_at = '-infinity' WHERE name = 'orphans'")
            with pytest.raises(JobFailed):
                await waiting


@pytest.mark.usefixtures("unpolled")
@pytest.mark.parametrize("how", ["one", "many"])
@pytest.mark.needs_session("it waits for a notification")
async def test_a_cancelled_job_wakes_who_waits_for_it(app: Rowlock, connection: Connection, how: str) -> None:
    @app.task
    async def work() -> None: ...

    handle = await work.enqueue()
    waiting = asyncio.create_task(handle.result(timeout=30))
    await eventually(lambda: waiters(connection))
    if how == "one":
        await app.jobs.cancel(handle.id)
    else:
        await app.jobs.cancel_many(JobFilter(task="work"))
    async with asyncio.timeout(10):
        with pytest.raises(JobFailed):
            await waiting


@pytest.mark.needs_session("it waits for a notification")
async def test_the_long_poll_ends_by_notification(app: Rowlock, connection: Connection, unpolled: None) -> None:
    from aiohttp.test_utils import TestClient, TestServer

    from rowlock.api import create_app, nobody_is_asked

    goes_on = asyncio.Event()

    @app.task(capture_logs=True)
    async def work(job: Job) -> str:
        await job.progress(0.25, "a quarter")
        await goes_on.wait()
        return "done"

    handle = await work.enqueue()
    async with TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as http, app.worker():

        async def ask(path: str = "") -> Any:  # noqa: ANN401  # JSON
            async with http.get(f"/v1/jobs/{handle.id}{path}") as response:
                return json.loads(await response.text())

        waiting = asyncio.create_task(ask("/result?wait=30"))
        await eventually(lambda: waiters(connection))

        async def progress() -> Any:  # noqa: ANN401  # JSON
            return (await ask())["progress"]

        told = await eventually(progress)
        assert (told["fraction"], told["message"], told["attempt"]) == (0.25, "a quarter", 1)
        assert (await ask("/logs")) == {"id": str(handle.id), "lines": []}
        goes_on.set()
        async with asyncio.timeout(10):
            assert (await waiting)["result"] == "done"
