"""Clients that would hold the API up: slow heads, slow bodies, responses that nobody reads, too many connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, web

from rowlock import Rowlock
from rowlock.api import create_app, nobody_is_asked, serving
from rowlock.api.http import exchange
from tests.logged import capture_logs

SHORT = 0.3
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_WITHIN", SHORT)
    monkeypatch.setattr(serving, "READ_WITHIN", SHORT)
    monkeypatch.setattr(serving, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(exchange, "BODY_WITHIN", SHORT)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(20):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: local"])
async def test_a_head_that_does_not_come_to_its_end_is_cut_off(sent: bytes, app: Rowlock) -> None:
    async with (
        serving.serving(create_app(app, authenticate=nobody_is_asked), "127.0.0.1", 0) as url,
        connected(url) as (reader, writer),
    ):
        writer.write(sent)
        assert await is_closed(reader)


async def test_a_head_that_drips_is_cut_off_after_a_request_too(app: Rowlock) -> None:
    async with (
        serving.serving(create_app(app, authenticate=nobody_is_asked), "127.0.0.1", 0) as url,
        connected(url) as (reader, writer),
    ):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"}")
        dripping = asyncio.create_task(_drip(writer))
        assert await is_closed(reader)
        dripping.cancel()


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    while True:
        writer.write(b"X-More: 1\r\n")
        await asyncio.sleep(0.05)


async def test_a_body_that_does_not_come_is_answered_408_and_nothing_is_enqueued(app: Rowlock) -> None:
    async with (
        serving.serving(create_app(app, authenticate=nobody_is_asked), "127.0.0.1", 0) as url,
        connected(url) as (reader, writer),
    ):
        writer.write(POST + b'{"task": "echo"')
        async with asyncio.timeout(20):
            answer = await reader.readuntil(b"}")
    assert b" 408 " in answer
    assert b"urn:rowlock:problem:body-too-slow" in answer
    assert await app.jobs.list() == []


async def test_a_response_that_nobody_reads_is_cut_off_and_others_are_served(app: Rowlock) -> None:
    served = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            served.set()

    api = create_app(app, authenticate=nobody_is_asked)
    api.router.add_get("/endless", endless)
    with capture_logs() as logs:
        async with serving.serving(api, "127.0.0.1", 0) as url, ClientSession() as session:
            place = urlsplit(url)
            with socket.create_connection((place.hostname, place.port)) as deaf:
                deaf.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
                async with asyncio.timeout(20):
                    await served.wait()
            async with session.get(f"{url}/healthz") as response:
                assert response.status == 200
    assert [entry["unread"] for entry in logs if entry["event"] == "connections_cut_off"] == [1]


async def test_connections_beyond_the_limit_are_closed_and_the_first_ones_served(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_WITHIN", 20)
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 1)
    async with (
        serving.serving(create_app(app, authenticate=nobody_is_asked), "127.0.0.1", 0) as url,
        connected(url) as (reader, writer),
    ):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"}")
        async with connected(url) as (later, _):
            assert await is_closed(later)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"}")
