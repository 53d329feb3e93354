"""The benchmark of the dashboard: its database can be made, and it asks for all that can be read."""

from __future__ import annotations

import re

import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from benchmarks.dashboard import paths_of
from benchmarks.fill import fill_database
from rowlock import Rowlock
from rowlock.api import create_app, nobody_is_asked
from rowlock.api.application import ENDPOINTS

NOT_ASKED = {"/v1/events", "/v1/session", "/v1/keys", "/v1/schedules/{schedule}", "/metrics", "/docs"}
"""What never ends, is no page's call, or is not in that database."""


@pytest.mark.slow
async def test_the_benchmark_of_the_dashboard_asks_for_all_that_can_be_read(app: Rowlock, direct_url: str) -> None:
    filled = await fill_database(direct_url, 2000, 3000)
    assert (filled.live, filled.attempts > 0, filled.statistics > 0) == (2000, True, True)
    connection = await asyncpg.connect(direct_url)
    paths = await paths_of(connection)
    await connection.close()
    async with TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as http:
        for path in paths:
            async with http.get(path) as response:
                assert response.status == 200, f"{path}: {await response.text()}"
    readable = {endpoint.path for endpoint in ENDPOINTS if endpoint.method == "GET"} - NOT_ASKED
    patterns = {path: re.compile(re.sub(r"\\{\w+\\}", "[^/?]+", re.escape(path)) + r"(\?.*)?") for path in readable}
    assert not [path for path in readable if not any(patterns[path].fullmatch(asked) for asked in paths)]
