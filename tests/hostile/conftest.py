"""A queue with one of everything in it, and all the ways in and out of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from rowlock import Rowlock, Settings
from rowlock.api import create_app, nobody_is_asked
from tests.hostile.world import World, fill, tasks_of


@pytest.fixture
async def world(settings: Settings, connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[World]:
    async with Rowlock(settings=settings) as app:
        tasks = tasks_of(app)
        # As a worker would, so that programs without the code may enqueue it.
        await connection.execute("INSERT INTO rowlock.task VALUES ('echo', 'default', 5, 10)")
        async with TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as http:
            yield World(app=app, http=http, connection=connection, url=settings.database_url or "", **tasks)


@pytest.fixture
async def full(world: World) -> World:
    await fill(world)
    return world
