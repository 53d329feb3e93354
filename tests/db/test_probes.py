"""What a worker's process answers over HTTP: its metrics, and whether it takes jobs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer, unused_port
from aiohttp.web import Application, Request
from prometheus_client.parser import text_string_to_metric_families

from rowlock import Rowlock, Settings
from rowlock.api.probes import create_probes
from rowlock.metrics.described import DESCRIBED, OF_BOTH, OF_WORKERS
from rowlock.worker.worker import Worker
from tests.db.commands import line_with, started, stopped, with_tasks
from tests.waiting import eventually

Http = TestClient[Request, Application]


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:

        @app.task(queue="sums", max_attempts=1)
        async def add(x: int) -> int:
            if x < 0:
                raise ValueError
            return x + 1

        yield app


@pytest.fixture
async def worker(app: Rowlock) -> Worker:
    return app.worker(concurrency=7)


@pytest.fixture
async def http(app: Rowlock, worker: Worker) -> AsyncIterator[Http]:
    async with TestClient(TestServer(create_probes(worker, app.database))) as client:
        yield client


async def ready(http: Http) -> tuple[int, Any]:
    async with http.get("/readyz") as response:
        problem = await response.json(content_type=None)
        return response.status, problem.get("type", "").rpartition(":")[2]


def samples_of(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


async def test_a_worker_tells_what_it_has_done(app: Rowlock, worker: Worker, http: Http) -> None:
    await app.enqueue_many([app.tasks["add"].job(x) for x in (1, 2, -1)])
    await worker.drain()
    async with http.get("/metrics") as response:
        samples = samples_of(await response.text())
    labels = ("sums", "add")
    assert samples["rowlock_jobs_succeeded_total", labels] == 2
    assert samples["rowlock_jobs_failed_total", labels] == 1
    assert samples["rowlock_attempts_failed_total", labels] == 1
    assert samples["rowlock_job_duration_seconds_count", labels] == 3
    assert samples["rowlock_job_duration_seconds_bucket", ("+Inf", *labels)] == 3
    assert samples["rowlock_job_wait_seconds_count", labels] == 3
    assert samples["rowlock_jobs_claimed_total", ()] == 3
    assert samples["rowlock_claims_total", ()] > samples["rowlock_claims_empty_total", ()] > 0
    assert samples["rowlock_jobs_left_behind_total", ()] == 0
    assert samples["rowlock_worker_slots", ()] == 7
    assert samples["rowlock_worker_memory_bytes", ()] > 10_000_000
    assert samples["rowlock_reconnects_total", ("claim",)] == 0


async def test_everything_that_a_worker_exports_is_described(app: Rowlock, worker: Worker, http: Http) -> None:
    await app.enqueue("add", {"x": 1})
    await worker.drain()
    async with http.get("/metrics") as response:
        names = {name for name, _ in samples_of(await response.text()) if name.startswith("rowlock_")}
    for suffix in ("_total", "_bucket", "_sum", "_count"):
        names = {name.removesuffix(suffix) if name not in DESCRIBED else name for name in names}
    assert names == {one.name for one in (*OF_WORKERS, *OF_BOTH)}


async def test_a_worker_is_ready_from_its_lease_to_its_stop(worker: Worker, http: Http) -> None:
    assert await ready(http) == (503, "worker-not-ready")
    async with worker:
        assert await ready(http) == (200, "")
        worker.stop()
        assert await ready(http) == (503, "worker-not-ready")
    assert await ready(http) == (503, "worker-not-ready")
    async with http.get("/healthz") as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "statement, kind",
    [
        ("DELETE FROM rowlock.rowlock_version", "schema-not-migrated"),
        ("UPDATE rowlock.rowlock_version SET version_num = '0000'", "schema-too-old"),
        ("UPDATE rowlock.rowlock_version SET version_num = '9999'", "schema-too-new"),
    ],
)
async def test_a_worker_whose_schema_is_wrong_says_how(
    worker: Worker, http: Http, connection: asyncpg.Connection, statement: str, kind: str
) -> None:
    async with worker:
        await connection.execute(statement)
        assert await ready(http) == (503, kind)


async def test_a_worker_without_a_database_says_so() -> None:
    settings = Settings(database_url=f"postgresql://ada:secret@127.0.0.1:{unused_port()}/nowhere")
    app = Rowlock(settings=settings)
    async with app, TestClient(TestServer(create_probes(app.worker(), app.database))) as http:
        async with http.get("/readyz") as response:
            text = await response.text()
        assert "database-unavailable" in text
        assert "secret" not in text


async def test_each_process_serves_its_metrics_on_a_port_of_its_own(database_url: str, tmp_path: Path) -> None:
    with_tasks(tmp_path)
    port = unused_port()
    options = ("worker", "tasks:app", "--processes=2", f"--metrics-port={port}")
    async with started(*options, url=database_url, cwd=tmp_path) as supervisor:
        urls = {json.loads(await line_with(supervisor.stderr, "metrics_served"))["url"] for _ in range(2)}
        assert urls == {f"http://127.0.0.1:{port}/metrics", f"http://127.0.0.1:{port + 1}/metrics"}
        async with aiohttp.ClientSession() as session:
            texts = await asyncio.gather(*(_text(session, url) for url in urls))
        assert all("process_cpu_seconds_total" in text for text in texts)
        assert await stopped(supervisor) == 0


async def test_a_port_that_is_taken_is_said_before_the_worker_starts(database_url: str, tmp_path: Path) -> None:
    with_tasks(tmp_path)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with started("worker", "tasks:app", f"--metrics-port={port}", url=database_url, cwd=tmp_path) as worker:
            said = await line_with(worker.stderr, "cannot listen")
            assert await worker.wait() == 2
    assert "--metrics-port" in said
    assert str(port) in said


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        assert response.status == 200
        return await response.text()


def test_the_page_of_the_metrics_has_each_of_them_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(rowlock_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", page.replace("| |", "|  |"), re.MULTILINE)
    described = [
        (one.shown_name, one.kind, ", ".join(f"`{label}`" for label in one.labels), one.text)
        for one in DESCRIBED.values()
    ]
    assert rows == described


async def test_a_quiet_worker_is_alive_and_not_ready(app: Rowlock, worker: Worker, http: Http) -> None:
    async with worker:
        assert (await ready(http))[0] == 200
        await app.workers.quiet(worker.id)
        await eventually(lambda: worker.is_quiet)
        assert await ready(http) == (503, "worker-not-ready")
        async with http.get("/healthz") as response:
            assert response.status == 200
        await app.workers.resume(worker.id)
        await eventually(lambda: not worker.is_quiet)
        assert (await ready(http))[0] == 200
