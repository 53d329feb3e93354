"""The real application over a real database, and a client that talks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from rowlock import Cancel, Fail, Rowlock, Settings
from rowlock.api import create_app, nobody_is_asked

Http = TestClient[Request, Application]


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:

        @app.task(queue="sums", priority=6, max_attempts=4)
        async def add(x: int, y: int = 1) -> dict[str, int]:
            return {"sum": x + y}

        @app.task(max_attempts=1)
        async def explode(how: str) -> None:
            raise {"error": ValueError("no good"), "fail": Fail("hopeless"), "cancel": Cancel("not needed")}[how]

        @app.task
        async def echo(value: object = None) -> object:
            return value

        @app.task
        async def wait_for_release() -> str:
            await release.wait()
            return "released"

        release = asyncio.Event()
        wait_for_release.function.__dict__["release"] = release
        yield app


@pytest.fixture
async def http(app: Rowlock) -> AsyncIterator[Http]:
    async with TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as client:
        yield client
