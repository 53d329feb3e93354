"""Requests that wait for somebody's open transaction: all others go on, and who waits is told what for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from rowlock import LockTimeout, Rowlock, Unique
from rowlock.queue.connect import database
from tests.waiting import eventually

Http = TestClient[Request, Application]
TEN = 10


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 3.0)


@asynccontextmanager
async def held(connection: asyncpg.Connection, statement: str) -> AsyncIterator[None]:
    """An open transaction that has run this statement; it is rolled back at the end."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(statement)
    try:
        yield
    finally:
        await transaction.rollback()


async def post(http: Http, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
    return await send(http, "POST", path, body, **headers)


async def send(http: Http, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
    async with http.request(method, path, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def waiting(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def unrelated_work_goes_on(http: Http) -> None:
    async with asyncio.timeout(4):  # well before those that wait are told
        for path in ("/readyz", "/v1/jobs"):
            async with http.get(path) as response:
                assert response.status == 200, path
        assert (await post(http, "/v1/jobs", {"task": "echo"}))[0] == 201
        assert (await post(http, "/v1/jobs", {"task": "echo", "unique": "another"}))[0] in {200, 201}
        assert (await post(http, "/v1/queues/other/pause"))[0] == 200


KEY = "SELECT rowlock.enqueue('echo', unique_key => 'held')"
REQUEST = {"task": "echo", "unique": "held"}


@pytest.mark.parametrize(
    "path, body, headers",
    [
        ("/v1/jobs", REQUEST, {}),
        ("/v1/jobs", REQUEST, {"Idempotency-Key": "the same"}),
        ("/v1/jobs/many", {"jobs": [{"task": "echo"}, REQUEST]}, {}),
    ],
)
async def test_others_go_on_while_a_key_is_waited_for_and_who_waits_is_told(
    http: Http, connection: asyncpg.Connection, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    async with held(connection, KEY):
        asking = [asyncio.create_task(post(http, path, body, **headers)) for _ in range(TEN)]
        await eventually(lambda: waiting(connection))
        await unrelated_work_goes_on(http)
        answers = await asyncio.gather(*asking)
    assert {status for status, _ in answers} == {409}
    assert {problem["type"] for _, problem in answers} == {"urn:rowlock:problem:locked"}
    assert all("key" in problem["detail"] for _, problem in answers)


async def test_who_waits_for_a_key_has_it_once_the_transaction_has_ended(
    http: Http, connection: asyncpg.Connection
) -> None:
    async with held(connection, KEY):
        asking = [asyncio.create_task(post(http, "/v1/jobs", REQUEST)) for _ in range(TEN)]
        await eventually(lambda: waiting(connection))
    answers = await asyncio.gather(*asking)
    assert sorted(status for status, _ in answers) == [200] * (TEN - 1) + [201]
    assert len({job["id"] for _, job in answers}) == 1


@pytest.mark.parametrize("act", ["cancel", "reschedule", "retry", "discard", "delete"])
async def test_others_go_on_while_acts_wait_for_a_row_and_who_waits_is_told(
    http: Http, app: Rowlock, connection: asyncpg.Connection, act: str
) -> None:
    handle = await app.enqueue("explode", {"how": "error"})
    is_live, body = act in {"cancel", "reschedule"}, {"delay": 60} if act == "reschedule" else None
    if not is_live:
        await app.worker().drain()
    table = "job" if is_live else "finished_job"
    async with held(connection, f"SELECT FROM rowlock.{table} WHERE id = '{handle.id}' FOR UPDATE"):
        path, method = f"/v1/jobs/{handle.id}", "DELETE" if act == "delete" else "POST"
        path = path if act == "delete" else f"{path}/{act}"
        asking = [asyncio.create_task(send(http, method, path, body)) for _ in range(TEN)]
        await eventually(lambda: waiting(connection))
        await unrelated_work_goes_on(http)
        answers = await asyncio.gather(*asking)
    assert {(status, problem["type"]) for status, problem in answers} == {(409, "urn:rowlock:problem:locked")}


@pytest.mark.parametrize(
    "setup, statement, path",
    [
        (
            "/v1/queues/email/pause",
            "SELECT FROM rowlock.queue WHERE name = 'email' FOR UPDATE",
            "/v1/queues/email/resume",
        ),
        (None, "SELECT FROM rowlock.schedule WHERE name = 'nightly' FOR UPDATE", "/v1/schedules/nightly/pause"),
    ],
)
async def test_others_go_on_while_acts_wait_for_a_queue_or_a_schedule(
    http: Http, connection: asyncpg.Connection, setup: str | None, statement: str, path: str
) -> None:
    if setup is not None:
        await post(http, setup)
    await post(http, "/v1/schedules", {"name": "nightly", "task": "echo", "cron": "0 3 * * *"})
    async with held(connection, statement):
        asking = [asyncio.create_task(post(http, path)) for _ in range(TEN)]
        await eventually(lambda: waiting(connection))
        await unrelated_work_goes_on(http)
        answers = await asyncio.gather(*asking)
    assert {(status, problem["type"]) for status, problem in answers} == {(409, "urn:rowlock:problem:locked")}


async def test_the_same_holds_in_python_and_the_lock_wait_of_a_callers_connection_stays(
    app: Rowlock, connection: asyncpg.Connection
) -> None:
    task = app.tasks["echo"]
    async with held(connection, KEY):
        asking = [asyncio.create_task(task.using(unique=Unique(key="held")).enqueue()) for _ in range(TEN)]
        many = asyncio.create_task(app.enqueue_many([task.using(unique=Unique(key="held")).job()]))
        await eventually(lambda: waiting(connection))
        async with asyncio.timeout(4):
            await task.enqueue()
            await app.jobs.list()
        for outcome in await asyncio.gather(*asking, many, return_exceptions=True):
            assert isinstance(outcome, LockTimeout), outcome
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '7s'")
        await task.using(unique=Unique(key="held"), connection=connection).enqueue()
        assert await connection.fetchval("SHOW lock_timeout") == "7s"
