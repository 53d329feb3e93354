"""`GET /v1/jobs/{id}/result`: the long poll."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest
from aiohttp import ClientTimeout, web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import Handler
from aiohttp.web import Application, Request

from rowlock import DatabaseUnavailable, Job, Rowlock
from rowlock.api import create_app, nobody_is_asked
from rowlock.api.access.access import Access
from rowlock.queue.connect.database import Database
from rowlock.queue.operate.keys import Holder
from rowlock.queue.read.reader import get_job

Http = TestClient[Request, Application]


async def get(http: Http, job_id: UUID, query: str = "") -> tuple[int, dict[str, Any]]:
    async with http.get(f"/v1/jobs/{job_id}/result{query}") as response:
        return response.status, await response.json(content_type=None)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[UUID | str]:
    """Each reading of a job that somebody waits for."""
    seen: list[UUID | str] = []

    async def counting(database: Database, job_id: UUID | str) -> Job:
        job = await get_job(database, job_id)
        seen.append(job_id)
        return job

    monkeypatch.setattr("rowlock.queue.read.handle.get_job", counting)
    return seen


async def test_result_is_waited_for(http: Http, app: Rowlock) -> None:
    handle = await app.enqueue("add", {"x": 1})
    waiting = asyncio.create_task(get(http, handle.id, "?wait=30"))
    async with app.worker():
        expected = {"id": str(handle.id), "state": "succeeded", "result": {"sum": 2}, "is_sensitive": False}
        assert await waiting == (200, expected)
    assert (await get(http, handle.id))[0] == 200


async def test_result_is_what_the_handler_returned(http: Http, app: Rowlock) -> None:
    values: list[object] = [None, [], "ü", 0.1, 2**70, {"a": {"b": [None, True]}}]
    async with app.worker():
        for value in values:
            handle = await app.enqueue("echo", {"value": value})
            assert (await get(http, handle.id, "?wait=30"))[1]["result"] == value


@pytest.mark.parametrize(
    "how, state, error",
    [("error", "failed", "no good"), ("fail", "failed", "hopeless"), ("cancel", "cancelled", "not")],
)
async def test_job_that_ended_otherwise_is_answered_with_its_state(
    http: Http, app: Rowlock, how: str, state: str, error: str
) -> None:
    handle = await app.enqueue("explode", {"how": how})
    async with app.worker():
        status, answer = await get(http, handle.id, "?wait=30")
    assert (status, answer["state"], answer["id"]) == (200, state, str(handle.id))
    assert error in answer["error"]
    assert "result" not in answer


@pytest.mark.parametrize("query", ["", "?wait=0", "?wait=0.05"])
async def test_unfinished_job_is_accepted_and_to_be_asked_for_again(http: Http, app: Rowlock, query: str) -> None:
    handle = await app.enqueue("echo")
    async with http.get(f"/v1/jobs/{handle.id}/result{query}") as response:
        assert response.status == 202
        assert response.headers["Retry-After"] == "1"
        assert await response.json() == {"id": str(handle.id), "state": "queued"}


async def test_more_clients_wait_than_there_are_connections(http: Http, app: Rowlock, reads: list[UUID | str]) -> None:
    handles = [await app.enqueue("add", {"x": n}) for n in range(30)]
    waiting = [asyncio.create_task(get(http, handle.id, "?wait=60")) for handle in handles]
    await until(lambda: len(set(reads)) == len(handles))
    async with http.get("/readyz") as response:
        assert response.status == 200
    async with app.worker():
        answers = await asyncio.gather(*waiting)
    assert [answer["result"]["sum"] for _, answer in answers] == [n + 1 for n in range(30)]


async def test_wait_out_of_range_is_refused(http: Http, app: Rowlock) -> None:
    handle = await app.enqueue("echo")
    for wait in ("61", "-1", "soon", "", "nan", "inf", "1e3", "60.1"):
        status, problem = await get(http, handle.id, f"?wait={wait}")
        assert (status, problem["field"]) == (422, "wait"), wait


async def test_unknown_parameter_is_refused(http: Http, app: Rowlock) -> None:
    handle = await app.enqueue("echo")
    assert (await get(http, handle.id, "?timeout=5"))[1]["field"] == "timeout"


@pytest.fixture
async def ended() -> asyncio.Event:
    """Set when a request's handler has ended."""
    return asyncio.Event()


@pytest.fixture
async def site(app: Rowlock, ended: asyncio.Event) -> AsyncIterator[Http]:
    """The API below another application, which notices when a request ends."""

    @web.middleware
    async def notice(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            ended.set()

    site = web.Application(middlewares=[notice])
    site.add_subapp("/queue", create_app(app, authenticate=nobody_is_asked))
    async with TestClient(TestServer(site)) as client:
        yield client


async def test_waiting_ends_when_the_client_goes_away(
    site: Http, app: Rowlock, reads: list[UUID | str], ended: asyncio.Event
) -> None:
    handle = await app.enqueue("echo")
    waiting = asyncio.create_task(
        site.session.get(site.make_url(f"/queue/v1/jobs/{handle.id}/result?wait=60"), timeout=ClientTimeout(total=None))
    )
    await until(lambda: len(reads) >= 2)
    assert not ended.is_set()
    waiting.cancel()
    await asyncio.wait_for(ended.wait(), 10)


async def test_waiting_ends_when_the_server_stops(app: Rowlock, reads: list[UUID | str]) -> None:
    handle = await app.enqueue("echo")
    async with TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as http:
        waiting = asyncio.create_task(get(http, handle.id, "?wait=60"))
        await until(lambda: len(reads) >= 2)
        stopping = asyncio.create_task(http.server.close())
        assert await asyncio.wait_for(waiting, 10) == (202, {"id": str(handle.id), "state": "queued"})
        await asyncio.wait_for(stopping, 10)


async def test_closing_the_api_leaves_the_application_open(app: Rowlock) -> None:
    async with (
        TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as http,
        http.get("/readyz") as response,
    ):
        assert response.status == 200
    pool = (await app.database._of_this_loop()).pool
    assert pool is not None
    assert pool._pool is not None
    assert not pool._pool.is_closing()


async def test_whose_key_is_revoked_meanwhile_is_not_told(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.api.resources.results.CHECK_SECONDS", 0.0)
    keys = {name: await app.keys.create(name, scopes=["read"]) for name in ("good", "revoked")}
    handle = await app.enqueue("add", {"x": 1})
    asked: list[str] = []

    async def ask(http: Http, name: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {keys[name].text}"}
        async with http.get(f"/v1/jobs/{handle.id}/result?wait=30", headers=headers) as response:
            return response.status, await response.text()

    find = app.keys.holder

    async def noted(text: str) -> Holder | None:
        holder = await find(text)
        asked.append("?" if holder is None else holder.name)
        return holder

    monkeypatch.setattr(type(app.keys), "holder", lambda _self, text: noted(text))
    async with TestClient(TestServer(create_app(app))) as http:
        waiting = [asyncio.create_task(ask(http, name)) for name in keys]
        await until(lambda: sorted(asked) == ["good", "revoked"])
        await app.keys.revoke("revoked")
        await app.worker().drain()
        good, revoked = await asyncio.gather(*waiting)
    assert good[0] == 200
    assert revoked[0] == 401
    assert "result" not in revoked[1].replace("/result", "")


@pytest.mark.parametrize("ends", [True, False])
async def test_a_job_that_is_moved_meanwhile_to_a_queue_that_is_not_seen_is_not_there(
    app: Rowlock, reads: list[UUID | str], *, ends: bool
) -> None:
    async def authenticate(_request: Request) -> Access:
        return Access(scopes=frozenset({"read"}), queues=frozenset({"sums"}))

    handle = await app.enqueue("add", {"x": 1})
    async with TestClient(TestServer(create_app(app, authenticate=authenticate))) as http:
        waiting = asyncio.create_task(get(http, handle.id, f"?wait={30 if ends else 2}"))
        await until(lambda: len(reads) > 1)  # the first is to see whether it may wait
        await app.jobs.reschedule(handle.id, queue="theirs")
        if ends:
            await app.worker(queues=["theirs"]).drain()
        status, problem = await waiting
    assert (status, problem["type"]) == (404, "urn:rowlock:problem:job-not-found")


async def test_who_cannot_be_authenticated_after_the_wait_is_told_that_the_database_is_away(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.api.resources.results.CHECK_SECONDS", 0.0)
    text = (await app.keys.create("reader", scopes=["read"])).text
    handle = await app.enqueue("add", {"x": 1})
    asked: list[str] = []
    holder = app.keys.holder

    async def away(shown: str) -> Holder | None:
        asked.append(shown)
        if len(asked) > 1:
            raise DatabaseUnavailable("No PostgreSQL answers.")
        return await holder(shown)

    monkeypatch.setattr(app.keys, "holder", away)
    async with TestClient(TestServer(create_app(app))) as http:
        answer = await http.get(f"/v1/jobs/{handle.id}/result?wait=0.1", headers={"Authorization": f"Bearer {text}"})
        assert answer.status == 503, await answer.text()
    assert len(asked) == 2
