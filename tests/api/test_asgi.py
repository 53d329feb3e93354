"""The API and the dashboard inside an ASGI application, over HTTP: everything is passed on, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
import uvicorn
from aiohttp import ClientSession, ClientTimeout
from aiohttp.web import Request
from starlette.applications import Starlette
from yarl import URL

from rowlock import InvalidOption, Rowlock
from rowlock.api import Access, nobody_is_asked
from rowlock.integrations.asgi import asgi
from rowlock.integrations.starlette import lifespan
from tests.logged import capture_logs
from tests.waiting import eventually

seen: list[tuple[str, str | None]] = []


async def note(request: Request) -> Access | None:
    seen.append((request.scheme, request.remote))
    return await nobody_is_asked(request)


@pytest.fixture
async def url(app: Rowlock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Where a Starlette application has it at /queue."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    site = Starlette(lifespan=lifespan(app, worker=False))
    site.mount("/queue", asgi(app, authenticate=note))
    server = uvicorn.Server(uvicorn.Config(site, port=0, log_config=None, lifespan="on"))
    serving = asyncio.create_task(server._serve())
    await eventually(lambda: server.started, timeout=10)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    async with asyncio.timeout(10):
        await serving
    assert _is_empty(tmp_path), "the socket's folder is gone"


def _is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


async def test_requests_and_answers_are_passed_on(url: str, app: Rowlock) -> None:
    seen.clear()
    async with ClientSession(url) as http:
        async with http.post("/queue/v1/jobs", json={"task": "echo", "args": {"value": "ä" * 100_000}}) as response:
            assert response.status == 201
            location = response.headers["Location"]
            assert len(response.headers.getall("Date")) == 1
        assert location.startswith("/queue/v1/jobs/")
        async with http.get(location) as response:
            assert (await response.json())["args"] == {"value": "ä" * 100_000}
        async with http.get("/queue/v1/jobs", params={"limit": 1, "error": "a&b %2F"}) as response:
            assert response.status == 200
        async with http.head("/queue/openapi.json") as response:
            assert (response.status, await response.read()) == (200, b"")
        async with http.get("/queue/") as response:
            assert "assets/main.js" in await response.text()
        async with http.get("/queue/v1/queues/%2e%2e%2fnothing") as response:
            assert response.status == 422
        async with http.post("/queue/v1/jobs", data=BytesIO(b" " * (1024 * 1024 + 1))) as response:
            assert response.status in {413, 415}
    assert set(seen) == {("http", "127.0.0.1")}


async def test_what_the_client_says_of_itself_is_not_believed(url: str) -> None:
    seen.clear()
    headers = {"X-Rowlock-Remote": "10.0.0.1", "X-Rowlock-Scheme": "https"}
    async with ClientSession(url) as http, http.get("/queue/v1/jobs", headers=headers) as response:
        assert response.status == 200
    assert seen == [("http", "127.0.0.1")]


async def test_events_are_passed_on_as_they_come_and_end_when_the_client_goes(url: str) -> None:
    async with ClientSession(url) as http, http.get("/queue/v1/events") as response:
        assert response.content_type == "text/event-stream"
        assert b"retry" in await response.content.readuntil(b"\n\n")
        assert b"event: overview" in await response.content.readuntil(b"\n\n")


def test_what_is_no_queue_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"must be given a Rowlock\(\)"):
        asgi(object())  # type: ignore[arg-type]  # on purpose


async def test_a_wait_ends_when_its_client_goes(url: str, app: Rowlock) -> None:
    job = await app.enqueue("echo")
    with capture_logs() as logs:
        async with ClientSession() as client:
            with pytest.raises(TimeoutError):
                await client.get(f"{url}/queue/v1/jobs/{job.id}/result?wait=60", timeout=ClientTimeout(total=0.5))

        async def is_over() -> bool:
            return any(entry.get("route", "").endswith("/result") for entry in logs)

        await eventually(is_over, timeout=10)


async def test_names_in_headers_are_passed_on_as_they_came(url: str, app: Rowlock) -> None:
    async with ClientSession(headers={"X-Rowlock-Actor": "Zoë"}) as client:
        async with client.post(f"{url}/queue/v1/queues/default/pause") as response:
            assert response.status == 200
        async with client.get(f"{url}/queue/v1/operations") as response:
            assert [operation["by"] for operation in (await response.json())["operations"]] == ["Zoë"]


async def test_a_length_beside_chunks_is_left_out(url: str) -> None:
    """It may be anything; what it leaves over must not be read as another request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
    writer.write(
        b"POST /queue/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'f\r\n{"task":"echo"}\r\n0\r\n\r\n'
    )
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == b"201"
    writer.close()


async def test_a_compressed_body_is_refused_by_its_head(url: str) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    body = BytesIO(b"x" * 1_000_000)
    async with ClientSession(url) as http, http.post("/queue/nowhere", data=body, headers=headers) as response:
        assert response.status == 415
        assert (await response.json(content_type=None))["type"] == "urn:rowlock:problem:unsupported-type"
