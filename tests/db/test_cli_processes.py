"""`rowlock worker --processes`: several workers under one command, replaced when they die, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import Process
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock
from rowlock.queue.read.pages import list_jobs
from tests.db.commands import SECONDS, line_with, rowlock, started, stopped
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TASKS = """
import asyncio
from pathlib import Path

from rowlock import Job, Rowlock

app = Rowlock()


@app.task
async def hold(job: Job, gate: str) -> int:
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    return job.attempt
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


async def running(app: Rowlock) -> bool:
    return [job.state for job in await list_jobs(app.database)] == ["running"]


async def pids(supervisor: Process, count: int) -> list[int]:
    """The process ids of the workers that are started next, once each of them works."""
    found: list[int] = []
    works = 0
    assert supervisor.stderr is not None
    async with asyncio.timeout(SECONDS):
        while works < count:
            event = json.loads(await supervisor.stderr.readline())
            if event["event"] == "worker_process_started":
                found.append(event["pid"])
            works += event["event"] == "worker_started"
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def test_a_process_that_is_killed_is_replaced(database_url: str, connection: Connection, folder: Path) -> None:
    async with started("worker", "tasks:app", "--processes=2", url=database_url, cwd=folder) as supervisor:
        first, second = await pids(supervisor, 2)
        os.kill(first, signal.SIGKILL)
        ended = json.loads(await line_with(supervisor.stderr, "worker_process_ended"))
        assert (ended["number"], ended["how"]) == (1, "by SIGKILL")
        (third,) = await pids(supervisor, 1)
        rows = await connection.fetch("SELECT pid, concurrency FROM rowlock.worker")
        assert {row["pid"] for row in rows} == {first, second, third}, "each is an ordinary worker"
        assert await stopped(supervisor) == 0
    assert not is_alive(second)
    assert not is_alive(third)


async def test_a_stop_lets_jobs_finish_also_when_each_process_is_told_to_stop_besides(
    database_url: str, folder: Path, tmp_path: Path
) -> None:
    async with (
        started("worker", "tasks:app", "--processes=1", url=database_url, cwd=folder) as supervisor,
        Rowlock(database_url) as app,
    ):
        (worker,) = await pids(supervisor, 1)
        job = await app.enqueue("hold", {"gate": str(tmp_path / "gate")})
        await eventually(lambda: running(app), SECONDS)
        os.kill(worker, signal.SIGTERM)  # as a service manager does that signals all processes of a service
        supervisor.send_signal(signal.SIGTERM)
        await line_with(supervisor.stderr, "worker_processes_stopping")
        os.kill(worker, signal.SIGTERM)
        (tmp_path / "gate").touch()
        assert await job.result(timeout=SECONDS) == 1, "it was not given back"
        await asyncio.wait_for(supervisor.communicate(), SECONDS)
        assert supervisor.returncode == 0


async def test_a_second_signal_gives_jobs_back_at_once(database_url: str, folder: Path, tmp_path: Path) -> None:
    async with (
        started("worker", "tasks:app", "--processes=1", url=database_url, cwd=folder) as supervisor,
        Rowlock(database_url) as app,
    ):
        await pids(supervisor, 1)
        job = await app.enqueue("hold", {"gate": str(tmp_path / "gate")})
        await eventually(lambda: running(app), SECONDS)
        supervisor.send_signal(signal.SIGINT)
        await line_with(supervisor.stderr, "worker_processes_stopping")
        assert await stopped(supervisor, signal.SIGINT) == 0
        assert (await app.get(job.id)).state == "queued"


async def test_no_process_outlives_a_supervisor_that_is_killed(database_url: str, folder: Path, tmp_path: Path) -> None:
    async with (
        started(
            "worker", "tasks:app", "--processes=2", url=database_url, cwd=folder, ROWLOCK_GRACE_PERIOD="0.1"
        ) as supervisor,
        Rowlock(database_url) as app,
    ):
        workers = await pids(supervisor, 2)
        job = await app.enqueue("hold", {"gate": str(tmp_path / "gate")})
        await eventually(lambda: running(app), SECONDS)
        supervisor.kill()
        await eventually(lambda: not any(map(is_alive, workers)), SECONDS)
        assert (await app.get(job.id)).state == "queued", "they have stopped cleanly"


async def test_an_application_that_cannot_be_loaded_ends_the_command_with_one_message(
    database_url: str, folder: Path
) -> None:
    (folder / "broken.py").write_text("1 / 0")
    done = await rowlock("worker", "broken:app", "--processes=4", url=database_url, cwd=folder)
    said = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert (done.code, len(said)) == (2, 1)
    assert "ZeroDivisionError" in said[0]


async def test_processes_that_have_no_database_end_with_one_message(folder: Path) -> None:
    done = await rowlock("worker", "tasks:app", "--processes=2", url=None, cwd=folder)
    assert done.code == 2
    assert done.err.count("ROWLOCK_DATABASE_URL (or DATABASE_URL) must be set") == 1


async def test_a_worker_that_an_operator_has_stopped_is_not_replaced(
    database_url: str, connection: Connection, folder: Path
) -> None:
    async with (
        started("worker", "tasks:app", "--processes=2", url=database_url, cwd=folder) as supervisor,
        Rowlock(database_url) as app,
    ):
        await pids(supervisor, 2)
        first, second = await app.workers.list()
        await app.workers.stop(first.id)
        told = json.loads(await line_with(supervisor.stderr, "worker_process_stopped"))
        assert told["why"] == "an operator stopped its worker"
        assert [one.id for one in await app.workers.list()] == [second.id]
        os.kill(second.pid, signal.SIGKILL)  # the other place is kept
        (third,) = await pids(supervisor, 1)
        live = [one for one in await app.workers.list() if one.pid == third]
        await app.workers.stop(live[0].id)
        assert await asyncio.wait_for(supervisor.wait(), SECONDS) == 0
