"""Bodies that are refused: by the head alone where they are compressed, and without waiting for the rest of any."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from aiohttp import web
from yarl import URL

from rowlock import Rowlock
from rowlock.api import create_app, nobody_is_asked
from rowlock.api.probes import create_probes
from rowlock.api.serving import serving

HEAD = (
    "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
    "Content-Length: 1000000\r\n\r\n"
)
Served = Callable[[Rowlock], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def api(app: Rowlock) -> AsyncIterator[str]:
    async with serving(create_app(app), "127.0.0.1", 0) as url:
        yield url


@asynccontextmanager
async def metrics_of_a_worker(app: Rowlock) -> AsyncIterator[str]:
    async with serving(create_probes(app.worker(), app.database), "127.0.0.1", 0) as url:
        yield url


@asynccontextmanager
async def api_below_another_application(app: Rowlock) -> AsyncIterator[str]:
    site = web.Application()
    site.add_subapp("/queue", create_app(app, authenticate=nobody_is_asked))
    runner = web.AppRunner(site)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/queue"
    finally:
        await runner.cleanup()


async def exchange(
    url: str, path: str, method: str, headers: str, body: bytes = b""
) -> tuple[int, str, dict[str, str]]:
    """Send the head and a part of the body, and read until the server closes the connection."""
    where = URL(url)
    reader, writer = await asyncio.open_connection(where.host, where.port)
    try:
        head = HEAD.format(method=method, path=where.path.rstrip("/") + path, headers=headers)
        writer.write(head.encode() + body)
        async with asyncio.timeout(5):
            received = await reader.read()
    finally:
        writer.close()
    first, _, rest = received.decode().partition("\r\n")
    lines, _, document = rest.partition("\r\n\r\n")
    told = dict(line.lower().split(": ", 1) for line in lines.split("\r\n"))
    return int(first.split()[1]), document, told


@pytest.mark.parametrize("served", [api, metrics_of_a_worker, api_below_another_application])
@pytest.mark.parametrize(
    "path, method, encoding",
    [("/v1/jobs", "POST", "gzip"), ("/nowhere", "POST", "x-unknown"), ("/healthz", "GET", "deflate")],
)
async def test_a_compressed_body_is_refused_by_its_head_and_the_connection_closed(
    app: Rowlock, served: Served, path: str, method: str, encoding: str
) -> None:
    async with served(app) as url:
        status, document, headers = await exchange(url, path, method, f"Content-Encoding: {encoding}\r\n")
    assert status == 415
    assert json.loads(document)["type"] == "urn:rowlock:problem:unsupported-type"
    assert (headers["connection"], headers["accept-encoding"]) == ("close", "identity")


@pytest.mark.parametrize("served", [api, metrics_of_a_worker, api_below_another_application])
async def test_what_a_compressed_body_unpacks_to_is_not_unpacked(app: Rowlock, served: Served) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    async with served(app) as url:
        status, _, _ = await exchange(url, "/nowhere", "POST", "Content-Encoding: gzip\r\n", bomb[:40_000])
    assert status == 415


@pytest.mark.parametrize("served, status", [(api, 404), (metrics_of_a_worker, 404)])
async def test_the_rest_of_a_refused_body_is_not_waited_for(app: Rowlock, served: Served, status: int) -> None:
    async with served(app) as url:
        answered, _, headers = await exchange(url, "/nowhere", "POST", "", b"[")
    assert (answered, headers["connection"]) == (status, "close")


async def test_a_connection_stays_open_after_a_body_that_was_read_to_its_end(app: Rowlock) -> None:
    async with serving(create_app(app, authenticate=nobody_is_asked), "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
        request = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
        async with asyncio.timeout(10):
            for _ in range(2):
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                assert b" 422 " in head
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split()[1]))
        writer.close()
