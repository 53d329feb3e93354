"""The commands that run until they are stopped: the worker, the API, and everything at once."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import aiohttp
import asyncpg
import pytest

from rowlock import Rowlock
from rowlock.embedded import EmbeddedServer, make_private_directory
from tests.db.commands import ROWLOCK, SECONDS, assert_refused, line_with, rowlock, started, stopped, with_tasks

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an application, to start commands in."""
    return with_tasks(tmp_path)


async def test_worker_runs_jobs_and_stops_cleanly(database_url: str, folder: Path) -> None:
    async with (
        started("worker", "tasks:app", "--queues=greetings,default:1", url=database_url, cwd=folder) as worker,
        Rowlock(database_url) as app,
    ):
        assert json.loads(await line_with(worker.stderr, "worker_started"))["queues"] == ["greetings", "default"]
        enqueued = await rowlock("enqueue", "hello", '{"name": "Ada"}', url=database_url)
        handle = app.handle(await app.get(enqueued.out.strip()))
        assert await handle.result(timeout=SECONDS) == "Hello, Ada"
        failed = await rowlock("enqueue", "fail", '{"text": "[b]\\u001b[31m"}', url=database_url)
        await line_with(worker.stderr, "job_failed")
        assert await stopped(worker) == 0
    shown = await rowlock("jobs", "show", failed.out.strip(), url=database_url)
    assert shown.out.partition("attempts:\n")[2].splitlines()[1].split()[:2] == ["1", "error"]
    assert "Traceback" in shown.out
    assert r"ValueError: [b]\x1b[31m" in shown.out, "data cannot paint the terminal"
    document = json.loads((await rowlock("jobs", "show", failed.out.strip(), "--json", url=database_url)).out)
    assert document["attempts"][0]["message"] == "[b]\x1b[31m"
    assert document["args"] == {"text": "[b]\x1b[31m"}


async def test_worker_ends_although_a_function_is_stuck_in_a_thread(
    database_url: str, connection: Connection, folder: Path
) -> None:
    async with started("worker", "tasks:app", url=database_url, cwd=folder, ROWLOCK_GRACE_PERIOD="600") as worker:
        await line_with(worker.stderr, "worker_started")
        await rowlock("enqueue", "stick", url=database_url)
        await line_with(worker.stderr, "stuck")
        worker.send_signal(signal.SIGINT)
        assert await stopped(worker) == 0, "the second signal ends the grace period"
    assert await connection.fetchval("SELECT state FROM rowlock.job") == "queued", "another worker runs it"


@pytest.mark.parametrize(
    "command",
    [(ROWLOCK, "worker", "tasks:app"), (ROWLOCK, "dev", "tasks:app", "--port=0"), (sys.executable, "tasks.py")],
)
async def test_a_job_that_ends_a_process_that_it_has_forked_does_not_stop_the_worker(
    database_url: str, folder: Path, command: tuple[str, ...]
) -> None:
    async with (
        started(*command[1:], program=command[0], url=database_url, cwd=folder) as worker,
        Rowlock(database_url) as app,
    ):
        await line_with(worker.stderr, "worker_started")
        for _ in range(3):  # two signals would be urgent
            ended = await app.enqueue("end_child")
            assert await ended.result(timeout=SECONDS) == -signal.SIGTERM
        forked = await app.enqueue("fork")
        assert await forked.result(timeout=SECONDS) == 0, "the fork ends where it leaves the function"
        hello = await app.enqueue("hello", {"name": "Ada"})
        assert await hello.result(timeout=SECONDS) == "Hello, Ada"
        assert await stopped(worker) == 0


async def test_stop_that_comes_while_the_worker_starts_is_obeyed(database_url: str, folder: Path) -> None:
    module = "import os, signal\nfrom rowlock import Rowlock\nclass Early(Rowlock):\n    def worker(self, **options):\n"
    module += "        os.kill(os.getpid(), signal.SIGTERM)\n        return super().worker(**options)\napp = Early()\n"
    (folder / "early.py").write_text(module)
    assert (await rowlock("worker", "early:app", url=database_url, cwd=folder)).code == 0


async def test_api_serves_until_it_is_stopped(database_url: str) -> None:
    async with started("api", "--port", "0", url=database_url, cwd=Path("/")) as api:
        url = (await line_with(api.stdout, "http://")).split()[-1]
        async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        second = await rowlock("api", "--port", url.rpartition(":")[2], url=database_url)
        assert_refused(second, "choose another --port")
        assert await stopped(api) == 0


async def test_api_asks_nobody_on_this_machine_until_a_key_is_made(database_url: str) -> None:
    async with (
        started("api", "--port", "0", url=database_url, cwd=Path("/")) as api,
        aiohttp.ClientSession() as session,
        Rowlock(database_url) as app,
    ):
        url = (await line_with(api.stdout, "http://")).split()[-1]
        assert await line_with(api.stderr, "rowlock keys create")
        async with session.get(f"{url}/v1/session") as answer:
            assert (await answer.json())["is_open"]
        key = await app.keys.create("ada", scopes=["read"])
        async with session.get(f"{url}/v1/session") as answer:
            assert answer.status == 401
        async with session.get(f"{url}/v1/session", headers={"Authorization": f"Bearer {key.text}"}) as answer:
            assert answer.status == 200
        assert await stopped(api) == 0


async def test_api_listens_for_others_only_with_a_key_that_holds(database_url: str) -> None:
    for option in ("--host=0.0.0.0", "--behind-proxy"):
        refused = await rowlock("api", option, "--port=0", url=database_url)
        assert_refused(refused, "rowlock keys create NAME --scope admin")
    async with Rowlock(database_url) as app:
        await app.keys.create("ada", scopes=["read"])
        async with (
            started("api", "--host=0.0.0.0", "--port=0", url=database_url, cwd=Path("/")) as api,
            aiohttp.ClientSession() as session,
        ):
            port = (await line_with(api.stdout, "http://")).split()[-1].rpartition(":")[2]
            async with session.get(f"http://127.0.0.1:{port}/v1/jobs") as answer:
                assert answer.status == 401
            assert await stopped(api) == 0
        await app.keys.revoke("ada")
    assert_refused(await rowlock("api", "--host=0.0.0.0", "--port=0", url=database_url), "needs a valid key")


async def test_dev_runs_everything_on_the_given_database(empty_database_url: str, folder: Path) -> None:
    async with started("dev", "tasks:app", "--port", "0", url=empty_database_url, cwd=folder) as dev:
        url = (await line_with(dev.stdout, "API ")).split()[-1]
        dashboard = (await line_with(dev.stdout, "dashboard ")).split()[-1]
        await line_with(dev.stderr, "worker_started")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/readyz") as answer:
                assert answer.status == 200
            async with session.get(dashboard) as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
        enqueued = await rowlock(
            "enqueue", "hello", '{"name": "Ada"}', "--app=tasks:app", url=empty_database_url, cwd=folder
        )
        async with Rowlock(empty_database_url) as app:
            handle = app.handle(await app.get(enqueued.out.strip()))
            assert await handle.result(timeout=SECONDS) == "Hello, Ada"
        assert await stopped(dev, signal.SIGINT) == 0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    made = make_private_directory("rowlock-dev-")
    yield made / "data"
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.slow
async def test_dev_keeps_the_embedded_servers_data_between_runs(folder: Path, data_dir: Path) -> None:
    command = ("dev", "tasks:app", "--port=0", f"--data-dir={data_dir}")
    async with started(*command, url=None, cwd=folder) as dev:
        assert "psql" in await line_with(dev.stdout, "psql ")
        await line_with(dev.stderr, "worker_started")
        enqueued = await rowlock("enqueue", "hello", '{"name": "Ada"}', url=None, ROWLOCK_DATA_DIR=str(data_dir))
        assert enqueued.code == 0
        assert await stopped(dev) == 0
    assert not EmbeddedServer(data_dir).location.joinpath("data/postmaster.pid").exists(), "the server has stopped"
    async with started(*command, url=None, cwd=folder) as dev:
        await line_with(dev.stdout, "nothing to do")
        await line_with(dev.stderr, "worker_started")
        listed = await rowlock("jobs", "list", "--json", url=None, ROWLOCK_DATA_DIR=str(data_dir))
        assert [job["id"] for job in json.loads(listed.out)] == [enqueued.out.strip()]
        assert await stopped(dev) == 0
