"""`/v1/events`: what changes is told once, to those who may see it, and nobody is asked while nobody listens."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from rowlock import Rowlock
from rowlock.api import create_app, nobody_is_asked
from rowlock.api.access.access import EVERYTHING, Access
from rowlock.api.http.streams import STREAMS, Stream
from rowlock.queue.read.operations import Operation
from tests.waiting import eventually

Http = TestClient[Request, Application]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything be looked at often."""
    monkeypatch.setattr("rowlock.api.http.streams.EVERY", 0.05)
    monkeypatch.setattr("rowlock.api.http.readings.FRESH_SECONDS", 0)
    monkeypatch.setattr("rowlock.api.http.readings.SHARE", 0)
    monkeypatch.setattr("rowlock.api.http.readings.SLOW_SECONDS", 60)
    monkeypatch.setattr("rowlock.api.resources.events.CHECK_SECONDS", 0.05)


@dataclass
class Client:
    """One who listens."""

    response: ClientResponse

    async def next(self, wanted: str) -> Any:  # noqa: ANN401  # JSON
        """The next event of this kind."""
        async with asyncio.timeout(10):
            event = ""
            while line := (await self.response.content.readline()).decode():
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event == wanted:
                    return json.loads(value)
        raise EOFError

    async def waiting(self, jobs: int) -> Any:  # noqa: ANN401  # JSON
        """The next overview with so many waiting jobs."""
        while (overview := await self.next("overview"))["waiting"] != jobs:
            pass
        return overview

    async def ends(self) -> None:
        """Wait for the end."""
        async with asyncio.timeout(10):
            while await self.response.content.readline():
                pass


@asynccontextmanager
async def listening(http: Http, query: str = "") -> AsyncIterator[Client]:
    async with http.get(f"/v1/events{query}") as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield Client(response)


async def test_the_overview_comes_at_once_and_whenever_it_changed(http: Http, app: Rowlock) -> None:
    async with listening(http) as client:
        assert (await client.next("overview"))["waiting"] == 0
        await app.enqueue("echo")
        await client.waiting(1)
        await app.enqueue("echo")
        await client.waiting(2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.next("overview")


async def test_what_operators_do_once_the_overview_has_come_is_told_once(
    http: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = http.app[STREAMS]._operations

    async def late(number: int) -> list[Operation]:
        await asyncio.sleep(0.1)
        return await look(number)

    monkeypatch.setattr(http.app[STREAMS], "_operations", late)
    await app.queues.pause("before")
    async with listening(http) as client, listening(http) as another:
        await client.next("overview")
        await another.next("overview")
        await app.queues.pause("sums", by="ada")
        await app.queues.resume("sums", by="ada")
        for each in (client, another):
            told = [await each.next("operation") for _ in range(2)]
            assert [(one["verb"], one["target"], one["by"]) for one in told] == [
                ("pause", "sums", "ada"),
                ("resume", "sums", "ada"),
            ]


async def test_a_job_is_watched_until_its_end(http: Http, app: Rowlock) -> None:
    job = await app.enqueue("add", {"x": 1})
    async with listening(http, f"?job={job.id}") as client:
        assert (await client.next("job"))["state"] == "queued"
        await app.worker().drain()
        told = await client.next("job")
        while told["state"] != "succeeded":
            told = await client.next("job")
        assert told["result"] == {"sum": 2}


async def test_a_job_that_is_not_there_is_refused(http: Http) -> None:
    async with http.get("/v1/events?job=0192f3a0-0000-7000-8000-000000000000") as response:
        assert response.status == 404
    async with http.get("/v1/events?job=nonsense") as response:
        assert response.status == 422


async def test_nobody_is_asked_while_nobody_listens(http: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = 0
    connection = app.database.connection

    def counted(*name: str) -> Any:  # noqa: ANN401  # what it gives
        nonlocal connections
        connections += 1
        return connection(*name)

    monkeypatch.setattr(app.database, "connection", counted)
    async with listening(http) as client:
        await client.next("overview")
    await eventually(lambda: are_open(http, 0))

    async def is_quiet() -> bool:  # once what was under way has ended
        before = connections
        await asyncio.sleep(0.3)
        return connections == before

    await eventually(is_quiet, timeout=3)
    assert connections > 0


async def test_no_more_streams_are_open_than_there_is_room(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.api.http.streams.MOST_STREAMS", 2)
    async with listening(http) as client, listening(http) as another:
        await client.next("overview")
        await another.next("overview")
        async with http.get("/v1/events") as response:
            assert response.status == 503
            assert (await response.json(content_type=None))["type"] == "urn:rowlock:problem:too-many-streams"
    await eventually(lambda: has_room(http))


async def test_one_key_has_a_share_of_the_streams(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.api.http.streams.MOST_OF_ONE", 1)
    greedy, other = [await app.keys.create(name, scopes=["read"]) for name in ("greedy", "other")]
    headers = [{"Authorization": f"Bearer {key.text}"} for key in (greedy, other)]
    async with TestClient(TestServer(create_app(app))) as http, http.get("/v1/events", headers=headers[0]) as first:
        assert first.status == 200
        async with http.get("/v1/events", headers=headers[0]) as response:
            assert response.status == 503
        async with http.get("/v1/events", headers=headers[1]) as response:
            assert response.status == 200


async def test_the_place_of_a_client_that_has_gone_is_free(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.api.http.streams.MOST_STREAMS", 1)
    monkeypatch.setattr("rowlock.api.http.streams.EVERY", 3600)  # nothing is sent by which the server would notice
    monkeypatch.setattr("rowlock.api.resources.events.CHECK_SECONDS", 3600)
    for _ in range(3):
        async with listening(http) as client:
            await client.next("overview")
        await eventually(lambda: has_room(http))


async def has_room(http: Http) -> bool:
    async with http.get("/v1/events") as response:
        return response.status == 200


async def test_streams_end_at_once_when_the_server_stops(app: Rowlock) -> None:
    async with TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as http, listening(http) as client:
        await client.next("overview")
        async with asyncio.timeout(5):
            await asyncio.gather(client.ends(), http.server.close())


async def test_whose_key_is_revoked_hears_no_more(app: Rowlock) -> None:
    access: Access | None = EVERYTHING

    async def authenticate(_request: Request) -> Access | None:
        return access

    async with TestClient(TestServer(create_app(app, authenticate=authenticate))) as http:
        for changed in (
            None,
            Access(scopes=frozenset({"enqueue"})),
            Access(scopes=EVERYTHING.scopes, queues=frozenset()),
        ):
            access = EVERYTHING
            async with listening(http) as client:
                await client.next("overview")
                access = changed
                await client.ends()


async def test_who_is_limited_to_queues_hears_of_these_alone(app: Rowlock) -> None:
    async def authenticate(_request: Request) -> Access:
        return Access(scopes=frozenset({"read"}), queues=frozenset({"sums"}))

    other = await app.enqueue("echo")
    async with TestClient(TestServer(create_app(app, authenticate=authenticate))) as http:
        async with listening(http) as client:
            assert (await client.next("overview"))["waiting"] == 0
            await app.queues.pause("default")
            await app.jobs.cancel(other.id)
            await app.enqueue("add", {"x": 1})
            heard = await client.waiting(1)
            assert [queue["name"] for queue in heard["queues"]] == ["sums"]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.next("operation")
        async with http.get(f"/v1/events?job={other.id}") as response:
            assert response.status == 404


async def test_a_stream_ends_when_its_job_is_moved_to_a_queue_that_it_does_not_see(app: Rowlock) -> None:
    async def authenticate(_request: Request) -> Access:
        return Access(scopes=frozenset({"read"}), queues=frozenset({"sums"}))

    job = await app.enqueue("add", {"x": 1})
    async with TestClient(TestServer(create_app(app, authenticate=authenticate))) as http:
        async with listening(http, f"?job={job.id}") as client:
            assert (await client.next("job"))["queue"] == "sums"
            await app.jobs.reschedule(job.id, queue="theirs")
            with suppress(EOFError):
                while (told := await client.next("job"))["queue"] == "sums":
                    pass
                pytest.fail(f"told of a job in {told['queue']}")
        async with http.get(f"/v1/events?job={job.id}") as response:
            assert response.status == 404


async def test_one_who_does_not_read_is_cut_off_and_the_others_are_not(
    http: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.api.resources.events.WRITE_SECONDS", 0.2)
    large = await app.enqueue("echo", {"value": "x" * 200_000})
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(one, (http.host, http.port))
    await loop.sock_sendall(one, f"GET /v1/events?job={large.id} HTTP/1.1\r\nHost: {http.host}\r\n\r\n".encode())
    await eventually(lambda: are_open(http, 1))
    changes = 0

    async def is_cut_off() -> bool:
        nonlocal changes
        changes += 1
        async with app.database.connection() as connection:
            await connection.execute("UPDATE rowlock.job SET max_attempts = $1 WHERE id = $2", 100 + changes, large.id)
        return await are_open(http, 1)

    async with listening(http) as client:
        await client.next("overview")
        await eventually(is_cut_off)
        await app.enqueue("add", {"x": 1})
        await client.waiting(2)
    one.close()


async def are_open(http: Http, streams: int) -> bool:
    return len(http.app[STREAMS]._streams) == streams


async def test_a_stream_goes_on_when_the_database_is_back(
    http: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(http) as client:
        await client.next("overview")
        with monkeypatch.context() as broken:
            failed = asyncio.Event()

            def connection(*_: str) -> Any:  # noqa: ANN401  # none
                failed.set()
                raise OSError("no database")

            broken.setattr(app.database, "connection", connection)
            await failed.wait()
        await app.enqueue("echo")
        await client.waiting(1)


async def test_comments_keep_a_quiet_stream_open(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.api.resources.events.COMMENT_SECONDS", 0.1)
    async with listening(http) as client, asyncio.timeout(10):
        while not (await client.response.content.readline()).startswith(b": "):
            pass


async def test_head_is_answered_and_ends(http: Http) -> None:
    async with asyncio.timeout(10), http.head("/v1/events") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")


async def test_too_many_unsent_events_end_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.api.http.streams.MOST_UNSENT", 2)
    stream = Stream(None, None)
    for number in range(4):
        stream.tell("operation", b"%d" % number)
    assert stream.is_behind
    assert await stream.next(10) == b""


async def test_a_stream_ends_like_any_other_when_who_asks_cannot_be_told(app: Rowlock) -> None:
    is_broken = False

    async def authenticate(_request: Request) -> Access:
        if is_broken:
            raise ValueError("a host's own error")
        return EVERYTHING

    async with TestClient(TestServer(create_app(app, authenticate=authenticate))) as http:
        async with http.get("/v1/events") as response:
            is_broken = True
            async with asyncio.timeout(10):
                told = await response.content.read()
        assert b"HTTP/1.1" not in told, "no second response inside of this one"
        assert b"problem" not in told
        async with http.get("/v1/events") as response:
            assert response.status == 500


async def test_streams_go_on_after_an_error_that_should_not_have_happened(
    http: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(http) as client:
        await client.next("overview")
        with monkeypatch.context() as broken:
            failed = asyncio.Event()

            async def read(*_given: object) -> Any:  # noqa: ANN401  # none
                failed.set()
                raise KeyError("a defect")

            broken.setattr("rowlock.api.resources.overview.read_overview", read)
            await failed.wait()
        await app.enqueue("echo")
        await client.waiting(1)
