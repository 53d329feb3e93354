"""`/v1/overview` and `/v1/statistics`: the same for all who ask, and each sees their own queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from rowlock import Rowlock
from rowlock.api import create_app
from rowlock.api.access.access import Access
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.worker.duties.statistics import StatisticsDuty as Duties
from tests.counting import count_alone

Http = TestClient[Request, Application]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def duties(app: Rowlock) -> AsyncIterator[Duties]:
    control = ControlConnection(app.settings, await app.database.dsn(), purpose="upkeep")
    try:
        yield Duties(control, app.database)
    finally:
        await control.close()


@asynccontextmanager
async def limited_to(app: Rowlock, *queues: str) -> AsyncIterator[Http]:
    """Somebody who sees these queues alone."""

    async def authenticate(_request: Request) -> Access:
        return Access(scopes=frozenset({"read"}), queues=frozenset(queues))

    async with TestClient(TestServer(create_app(app, authenticate=authenticate))) as client:
        yield client


async def get(http: Http, path: str) -> Any:  # noqa: ANN401  # JSON
    async with http.get(path) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_the_overview_says_how_it_stands(
    http: Http, app: Rowlock, connection: Connection, duties: Duties
) -> None:
    for how in ("error", "error", "fail"):
        await app.enqueue("explode", {"how": how})
    await app.enqueue("add", {"x": 1})
    await app.worker().drain()
    waiting = await app.enqueue("add", {"x": 1})
    await app.enqueue("echo", delay=60)
    discarded = (await app.dead_letters.list())[0]
    await app.jobs.discard(discarded.id)
    await count_alone(connection, duties)
    found = await get(http, "/v1/overview")
    numbers = {name: found[name] for name in ("waiting", "scheduled", "running", "blocked", "dead_letters", "workers")}
    assert numbers == {"waiting": 1, "scheduled": 1, "running": 0, "blocked": 0, "dead_letters": 2, "workers": 0}
    assert found["unclaimed"] == 1
    assert found["oldest_due_at"] is not None
    queues = {queue["name"]: queue["waiting"] for queue in found["queues"]}
    assert queues == {"default": 0, "sums": 1}
    assert {"succeeded", "failed", "errors", "duration_p50", "duration_p95", "wait_p95"} <= set(found["last_minute"])
    assert (await waiting.get()).state == "queued"


@pytest.mark.parametrize("ago, expected", [(15, 1), (30, 1), (120, 0), (3600, 0)])
async def test_the_last_minute_is_what_was_counted_of_it(
    http: Http, connection: Connection, ago: int, expected: int
) -> None:
    await connection.execute(
        "UPDATE rowlock.statistic_mark SET until = now() - $1::interval", timedelta(seconds=ago - 12)
    )
    await connection.execute(
        "INSERT INTO rowlock.statistic SELECT date_bin('10 s', now() - $1::interval, 'epoch'), 10, 'a', 'b', "
        "1, 0, 0, 0, 0, '{1}', '{1}', '{1}', '{1}'",
        timedelta(seconds=ago),
    )
    minute = (await get(http, "/v1/overview"))["last_minute"]
    assert minute["succeeded"] == expected
    assert (minute["duration_p50"] is None) == (expected == 0)


async def test_statistics_are_those_of_the_window(
    http: Http, app: Rowlock, connection: Connection, duties: Duties
) -> None:
    await app.enqueue("add", {"x": 1})
    await app.enqueue("explode", {"how": "error"})
    await app.worker().drain()
    await count_alone(connection, duties)
    await duties.sample()
    for window in ("1h", "30d"):
        found = await get(http, f"/v1/statistics?window={window}")
        assert (found["total"]["succeeded"], found["total"]["failed"], found["total"]["errors"]) == (1, 1, 1)
        assert found["from"] == found["points"][0]["at"]
        assert {row["queue"] for row in found["queues"]} == {"sums", "default"}
        assert {row["task"] for row in found["tasks"]} == {"add", "explode"}
        assert 0 <= found["total"]["duration_p50"] <= found["total"]["duration_p99"] < 60
    one = await get(http, "/v1/statistics?queue=sums")
    assert (one["total"]["succeeded"], one["total"]["failed"], one["step"]) == (1, 0, 60)


@pytest.mark.parametrize("query", ["window=2h", "queue=a%20b", "task=%2A", "since=1"])
async def test_statistics_of_nonsense_are_refused(http: Http, query: str) -> None:
    async with http.get(f"/v1/statistics?{query}") as response:
        assert response.status == 422
        assert (await response.json(content_type=None))["type"] == "urn:rowlock:problem:invalid-request"


async def test_who_is_limited_to_queues_sees_these_alone(app: Rowlock, connection: Connection, duties: Duties) -> None:
    await app.enqueue("explode", {"how": "error"})
    await app.enqueue("add", {"x": 1})
    await app.worker().drain()
    await app.enqueue("add", {"x": 1})
    await app.enqueue("echo")
    await app.enqueue("echo")
    await count_alone(connection, duties)
    await duties.sample()
    async with limited_to(app, "sums") as http:
        found = await get(http, "/v1/overview")
        assert [queue["name"] for queue in found["queues"]] == ["sums"]
        assert (found["waiting"], found["dead_letters"], found["unclaimed"]) == (1, 0, 1)
        told = await get(http, "/v1/statistics")
        assert (told["total"]["succeeded"], told["total"]["failed"]) == (1, 0)
        assert [row["queue"] for row in told["queues"]] == ["sums"]
        assert [point["waiting"] for point in told["points"] if point["waiting"] is not None] == [1]
        assert (await get(http, "/v1/statistics?queue=default"))["queues"] == []
        assert [queue["name"] for queue in (await get(http, "/v1/queues"))["queues"]] == ["sums"]


async def test_fifty_who_ask_cost_as_much_as_one(http: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    connection: Callable[..., AbstractAsyncContextManager[Any]] = app.database.connection

    def counted(*name: str) -> AbstractAsyncContextManager[Any]:
        reads.append("one")
        return connection(*name)

    monkeypatch.setattr(app.database, "connection", counted)
    await asyncio.gather(*(get(http, "/v1/overview") for _ in range(50)))
    one = len(reads)
    assert one <= 3
    await asyncio.gather(*(get(http, "/v1/queues") for _ in range(50)))
    assert len(reads) <= one + 1


async def test_whoever_acts_sees_it_at_once(http: Http) -> None:
    assert (await get(http, "/v1/overview"))["queues"] == []
    async with http.post("/v1/queues/sums/pause") as response:
        assert response.status == 200
    (queue,) = (await get(http, "/v1/overview"))["queues"]
    assert queue["paused_at"] is not None


async def test_of_very_many_jobs_the_last_sample_will_do(
    http: Http, app: Rowlock, duties: Duties, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.queue.read.overview.MANY", 2)
    monkeypatch.setattr("rowlock.queue.operate.queues.MANY", 2)
    await app.enqueue("add", {"x": 1})
    await duties.sample()
    await app.enqueue("add", {"x": 1})
    assert (await get(http, "/v1/overview"))["waiting"] == 2, "few are counted"
    await duties.sample()
    await app.enqueue("add", {"x": 1})
    (queue,) = (await get(http, "/v1/queues"))["queues"]
    assert queue["waiting"] == 2
    assert (await get(http, "/v1/queues/sums"))["waiting"] == 2
    assert (await app.queues.get("sums")).waiting == 3, "a program may want to know"
    assert [one.waiting for one in await app.queues.list()] == [3]


@pytest.mark.parametrize(
    "act", ["DELETE FROM rowlock.statistic_mark", "UPDATE rowlock.statistic_mark SET name = '_' || name"]
)
async def test_what_is_shown_does_not_need_the_marks_of_the_statistics(
    http: Http, connection: Connection, act: str
) -> None:
    await connection.execute(act)
    assert (await get(http, "/v1/overview"))["last_minute"]["succeeded"] == 0
    assert (await get(http, "/v1/statistics"))["total"]["succeeded"] == 0
    async with http.get("/metrics") as response:
        assert response.status == 200
        assert 'rowlock_scrape_errors_total{part="overview"} 0.0' in await response.text()
