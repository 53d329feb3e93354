"""Every endpoint with every kind of key and session, on real jobs, compared with `permissions.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiohttp import DummyCookieJar
from aiohttp.test_utils import TestClient, TestServer

from rowlock import Rowlock, Settings
from rowlock.api import create_app
from rowlock.api.access import failures
from rowlock.api.application import ENDPOINTS
from rowlock.queue.jobs.identifiers import uuid7
from tests.api.conftest import Http
from tests.api.permissions import COLUMNS, expected

MARKER: Final = "unseen-by-others"
READS: Final = sorted(name for name in expected() if name.startswith("GET "))


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:

        @app.task(queue="mine", max_attempts=1)
        async def work(fails: bool = False, secret: str = "") -> None:
            if fails:
                raise ValueError(secret)

        yield app


@pytest.fixture
async def closed(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Http]:
    """The API, which asks everybody for a key, and lets wrong ones be tried as often as it takes."""
    monkeypatch.setattr(failures, "MOST_OF_ONE", 100_000)
    async with TestClient(TestServer(create_app(app)), cookie_jar=DummyCookieJar()) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Things:
    """What the requests are about: all of it is in the queue `mine`."""

    app: Rowlock
    failed: list[str]
    worker: str

    async def waiting(self) -> str:
        return str((await self.app.enqueue("work", delay=3600)).id)

    async def another_worker(self) -> UUID:
        worker = uuid7()
        await self.app.database.run(
            "register_worker", worker, "elsewhere", 1, "1", [], [], 1, "running", timedelta(minutes=1), []
        )
        return worker

    async def request(self, endpoint: str, key: str) -> tuple[str, dict[str, Any] | None]:
        """The path and the body of a request that makes sense, whoever sends it."""
        name = uuid4().hex
        body = _BODIES.get(endpoint)
        if endpoint == "POST /v1/session":
            body = {"key": key}
        if endpoint == "POST /v1/schedules":
            body = {"name": name, "task": "work", "cron": "@daily"}
        path = endpoint.partition(" ")[2].replace("{queue}", "mine").replace("{worker}", self.worker)
        if path.endswith("/stop"):
            path = f"/v1/workers/{await self.another_worker()}/stop"
        if "{schedule}" in path:
            await self.app.schedules.create(name, "work", "@daily")
            path = path.replace("{schedule}", name)
        if "{id}" in path and (path.endswith(("/retry", "/discard", "/run-again")) or endpoint.startswith("DELETE")):
            return path.replace("{id}", self.failed.pop()), body
        return (path.replace("{id}", await self.waiting()) if "{id}" in path else path), body


_BULK: Final = {"filter": {"queue": "mine"}, "dry_run": True}
_BODIES: Final[dict[str, dict[str, Any]]] = {
    "POST /v1/jobs": {"task": "work"},
    "POST /v1/jobs/many": {"jobs": [{"task": "work"}, {"task": "work", "queue": "mine"}]},
    "POST /v1/jobs/bulk/cancel": _BULK,
    "POST /v1/jobs/{id}/reschedule": {"delay": 60},
    "POST /v1/jobs/bulk/reschedule": _BULK | {"delay": 60},
    "POST /v1/jobs/bulk/retry": _BULK,
    "POST /v1/jobs/bulk/discard": _BULK,
    "POST /v1/queues/{queue}/scale": {"concurrency": 5},
    "POST /v1/workers/{worker}/scale": {"concurrency": 5},
    "PUT /v1/retention/{queue}": {"succeeded": 7200},
    "PATCH /v1/schedules/{schedule}": {"cron": "@hourly"},
}


@pytest.fixture
async def things(app: Rowlock) -> AsyncIterator[Things]:
    jobs = [await app.enqueue("work", {"fails": True}) for _ in range(80)]
    await app.worker().drain()
    async with app.worker(queues=["idle"]) as worker:
        yield Things(app, [str(job.id) for job in jobs], str(worker.id))


async def keys_by_column(app: Rowlock, connection: asyncpg.Connection) -> dict[str, list[str | None]]:
    """The keys of each column; None for none."""
    kept = {
        scope: [(await app.keys.create(scope, scopes=[scope])).text]
        for scope in ("read", "enqueue", "operate", "admin")
    }
    kept["mine"] = [(await app.keys.create("mine", scopes=["admin"], queues=["mine"])).text]
    kept["other"] = [(await app.keys.create("other", scopes=["admin"], queues=["other"])).text]
    revoked = await app.keys.create("revoked", scopes=["admin"])
    await app.keys.revoke("revoked")
    expired = await app.keys.create("expired", scopes=["admin"], expires=60)
    await connection.execute("UPDATE rowlock.api_key SET expires_at = now() - interval '1 s' WHERE name = 'expired'")
    wrong = f"rowlock_{'x' * 43}"
    return {"nobody": [None, wrong, revoked.text, expired.text]} | {name: list(given) for name, given in kept.items()}


async def status_of(http: Http, endpoint: str, request: tuple[str, dict[str, Any] | None], **headers: str) -> int:
    path, body = request
    async with http.request(endpoint.partition(" ")[0], path, json=body, headers=headers) as response:
        return response.status


def test_every_endpoint_is_in_the_table() -> None:
    assert sorted(expected()) == sorted(f"{one.method} {one.path}" for one in ENDPOINTS)


async def test_every_key_may_do_what_the_table_says(
    closed: Http, things: Things, connection: asyncpg.Connection
) -> None:
    keys = await keys_by_column(things.app, connection)
    (known,) = keys["read"]
    for endpoint, row in expected().items():
        found = {}
        for column in COLUMNS:
            statuses = set()
            for key in keys[column]:
                headers = {} if key is None else {"Authorization": f"Bearer {key}"}
                statuses.add(await status_of(closed, endpoint, await things.request(endpoint, str(known)), **headers))
            found[column] = statuses
        assert found == {column: {status} for column, status in row.items()}, endpoint


async def test_every_session_may_do_what_its_key_may_and_nothing_for_other_sites(
    closed: Http, things: Things, connection: asyncpg.Connection
) -> None:
    keys = await keys_by_column(things.app, connection)
    for endpoint, row in expected().items():
        for column in ("read", "operate", "mine"):
            (key,) = keys[column]
            begun = await things.app.keys.log_in(str(key))
            assert begun is not None
            cookie = {"Cookie": f"rowlock_session={begun[0]}"}
            request = await things.request(endpoint, str(key))
            foreign = await status_of(closed, endpoint, request, **cookie, **{"Sec-Fetch-Site": "cross-site"})
            assert foreign == (row[column] if endpoint.startswith("GET ") else 403), (endpoint, column)
            own = await status_of(closed, endpoint, request, **cookie, **{"Sec-Fetch-Site": "same-origin"})
            assert own == row[column], (endpoint, column)


async def test_head_is_answered_as_get_is(closed: Http, things: Things, connection: asyncpg.Connection) -> None:
    keys = await keys_by_column(things.app, connection)
    for endpoint in READS:
        for column in ("nobody", "read", "enqueue", "mine", "other"):
            headers = {} if keys[column][0] is None else {"Authorization": f"Bearer {keys[column][0]}"}
            path, _ = await things.request(endpoint, "")
            async with closed.head(path, headers=headers) as response:
                assert response.status == expected()[endpoint][column], (endpoint, column)
                assert await response.read() == b""


async def test_methods_that_are_not_in_the_table_do_nothing(closed: Http, things: Things, app: Rowlock) -> None:
    key = (await app.keys.create("admin", scopes=["admin"])).text
    table = expected()
    for path in sorted({endpoint.partition(" ")[2] for endpoint in table}):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            endpoint = f"{method} {path}"
            if endpoint not in table:
                request = await things.request(endpoint, key)
                assert await status_of(closed, endpoint, request, Authorization=f"Bearer {key}") == 405, endpoint


async def test_limited_key_finds_nothing_of_another_queue_in_any_answer(
    closed: Http, app: Rowlock, things: Things
) -> None:
    @app.task(name=f"task-{MARKER}", queue=f"queue-{MARKER}", max_attempts=1)
    async def unseen(secret: str) -> None:
        raise ValueError(secret)

    await app.enqueue(f"task-{MARKER}", {"secret": MARKER})
    await app.worker().drain()
    later = await app.enqueue(f"task-{MARKER}", {"secret": MARKER}, delay=3600)
    key = (await app.keys.create("mine", scopes=["admin"], queues=["mine"])).text
    boss = (await app.keys.create("boss", scopes=["admin"])).text
    seen = set()
    for endpoint in READS:
        ids = {"{id}": str(later.id), "{queue}": "mine", "{worker}": things.worker, "{schedule}": "none"}
        path = endpoint.partition(" ")[2]
        for name, value in ids.items():
            path = path.replace(name, value)
        for of in (key, boss):
            async with closed.get(path, headers={"Authorization": f"Bearer {of}"}) as response:
                is_endless = endpoint == "GET /v1/events"
                text = await (_events(response.content.readuntil) if is_endless else response.text())
            if of == boss and MARKER in text:
                seen.add(endpoint)
            assert of == boss or MARKER not in text, endpoint
    assert {"GET /v1/jobs", "GET /v1/jobs/{id}", "GET /v1/queues", "GET /v1/overview", "GET /v1/tasks"} <= seen


async def test_limited_key_acts_on_no_job_of_another_queue_in_bulk(closed: Http, app: Rowlock, things: Things) -> None:
    key = (await app.keys.create("other", scopes=["admin"], queues=["other"])).text
    theirs = await things.waiting()
    own = (await app.task(name="own", queue="other")(lambda: None).using(delay=3600).enqueue()).id
    for act in ("cancel", "retry", "discard"):
        request = (f"/v1/jobs/bulk/{act}", {"everything": True})
        assert await status_of(closed, "POST ", request, Authorization=f"Bearer {key}") == 200
    assert (await app.get(theirs)).state == "scheduled"
    assert (await app.get(own)).state == "cancelled"
    assert {(await app.get(one)).state for one in things.failed} == {"failed"}


async def _events(read: Callable[[bytes], Awaitable[bytes]]) -> str:
    """The first event of the stream, after the line that says how to come back."""
    return (await read(b"\n\n") + await read(b"\n\n")).decode()
