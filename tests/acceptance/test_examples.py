"""The examples of the web frameworks: real servers, asked over HTTP as their READMEs say."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import asyncpg
import pytest

from rowlock import Rowlock
from tests.acceptance.processes import ROOT, ROWLOCK
from tests.waiting import eventually

EXAMPLES = ROOT / "examples"
BIN = Path(sys.executable).parent

FASTAPI = ("fastapi_shop", [[str(BIN / "uvicorn"), "shop:app", "--port", "{port}"]])
AIOHTTP = ("aiohttp_shop", [[sys.executable, "shop.py"]])
FLASK = (
    "flask_shop",
    [[str(BIN / "flask"), "--app", "shop", "run", "--port", "{port}"], [ROWLOCK, "worker", "shop:queue"]],
)
DJANGO = (
    "django_shop",
    [
        [sys.executable, "manage.py", "runserver", "{port}", "--noreload"],
        [sys.executable, "manage.py", "rowlock_worker"],
    ],
)


@asynccontextmanager
async def serving(example: tuple[str, list[list[str]]], environment: dict[str, str]) -> AsyncIterator[str]:
    """The processes of an example, and the URL of its server, which answers; each ends by SIGTERM, well-behaved."""
    folder, commands = example
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, **environment, "PORT": port, "PYTHONPATH": str(ROOT)}
    async with AsyncExitStack() as stack:
        started = [
            await stack.enter_async_context(
                _process([word.format(port=port) for word in command], EXAMPLES / folder, environment)
            )
            for command in commands
        ]

        async def answers() -> bool:
            assert all(process.returncode is None for process in started), "a process has ended"
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", int(port))
                writer.close()
                return True
            return False

        await eventually(answers, timeout=30)
        yield f"http://127.0.0.1:{port}"
        for process in started:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            codes = [await process.wait() for process in started]
        assert all(code in {0, -signal.SIGTERM} for code in codes), codes


@asynccontextmanager
async def _process(
    command: list[str], folder: Path, environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def drive(url: str, orders: str, connection: asyncpg.Connection[asyncpg.Record], done: str = "succeeded") -> None:
    """Place an order whose job runs, then one that fails and leaves nothing, and ask for what there is."""
    async with aiohttp.ClientSession(url) as client:
        async with client.post("/orders?customer=ada&item=lamp") as answer:
            assert answer.status == 201, await answer.text()
            job = (await answer.json())["job"]

        async def status() -> dict[str, Any] | None:
            async with client.get(f"/jobs/{job}") as answer:
                assert answer.status == 200, await answer.text()
                found: dict[str, Any] = await answer.json()
                return found if found["state"] == done else None

        assert (await eventually(status, timeout=20))["result"] == "To ada: thank you for buying a lamp."
        async with client.post("/orders?customer=bob&item=unicorn") as answer:
            assert answer.status == 409, await answer.text()
        async with client.get("/jobs/00000000-0000-7000-8000-000000000000") as answer:
            assert answer.status == 404
    assert [row["customer"] for row in await connection.fetch(f"SELECT customer FROM {orders}")] == ["ada"]
    assert await connection.fetchval("SELECT count(*) FROM rowlock.jobs") == 1


async def test_dashboard_and_api_are_inside_the_example_with_fastapi(database_url: str) -> None:
    async with serving(FASTAPI, {"DATABASE_URL": database_url}) as url, aiohttp.ClientSession(url) as client:
        async with client.get("/queue/") as page:
            assert "assets/main.js" in await page.text()
        async with client.get("/queue/assets/main.js") as script:
            assert script.content_type == "text/javascript"
        async with client.get("/queue/v1/jobs") as answer:
            assert answer.status == 401
        async with Rowlock(database_url) as queue:
            key = await queue.keys.create("ada", scopes=["admin"])
        async with client.post("/queue/v1/session", json={"key": key.text}) as answer:
            assert (answer.status, answer.cookies["rowlock_session"]["path"]) == (200, "/queue")
        async with client.get("/queue/v1/queues") as answer:
            assert answer.status == 401, "no cookie is sent to an address without a name"
        headers = {"Authorization": f"Bearer {key.text}"}
        async with client.post("/queue/v1/jobs", json={"task": "nobody-has-it"}, headers=headers) as answer:
            assert answer.status == 422


async def prepare(folder: str, command: list[str], environment: dict[str, str]) -> None:
    """Run what is to be run once, before the processes of an example."""
    environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    async with _process(command, EXAMPLES / folder, environment) as preparing:
        assert await preparing.wait() == 0


@pytest.mark.parametrize("example", [FASTAPI, AIOHTTP, FLASK], ids=lambda example: example[0])
async def test_order_and_its_job_are_one_in_the_example(
    example: tuple[str, list[list[str]]], database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    if example is FLASK:
        await prepare(
            "flask_shop", [str(BIN / "flask"), "--app", "shop", "create-tables"], {"DATABASE_URL": database_url}
        )
    async with serving(example, {"DATABASE_URL": database_url}) as url:
        await drive(url, "orders", connection)


async def test_order_and_its_job_are_one_in_the_example_of_django(empty_database_url: str) -> None:
    url = urlsplit(empty_database_url)
    query = parse_qs(url.query)
    environment = {
        "PGDATABASE": url.path[1:],
        "PGUSER": url.username or "",
        "PGHOST": query["host"][0],
        "PGPORT": query["port"][0],
    }
    await prepare("django_shop", [sys.executable, "manage.py", "migrate"], environment)
    connection = await asyncpg.connect(empty_database_url)
    try:
        async with serving(DJANGO, environment) as started:
            await drive(started, "shop_order", connection, done="SUCCESSFUL")
        assert await connection.fetchval("SELECT is_receipt_sent FROM shop_order")
    finally:
        await connection.close()
