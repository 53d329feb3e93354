"""`/metrics` of the API, what is logged of each request, and that neither says more than it should."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, unused_port
from aiohttp.web import Application, Request
from prometheus_client.parser import text_string_to_metric_families

from rowlock import Rowlock, Settings
from rowlock.api import create_app, nobody_is_asked
from rowlock.api.http.readings import READINGS
from rowlock.api.resources import metrics
from rowlock.metrics.api import MOST_QUEUES
from rowlock.metrics.described import DESCRIBED, OF_BOTH, OF_THE_API
from rowlock.queue.connect.database import Database
from rowlock.queue.read.gauges import Table, read_tables
from tests.logged import capture_logs

Http = TestClient[Request, Application]
Samples = dict[tuple[str, tuple[str, ...]], float]


async def scrape(http: Http) -> Samples:
    """All samples, by name and the values of their labels."""
    async with http.get("/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        text = await response.text()
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


async def test_the_backlog_is_told_by_queue_and_state(app: Rowlock, http: Http, connection: asyncpg.Connection) -> None:
    await app.enqueue("add", {"x": 1})
    await app.enqueue("add", {"x": 1}, delay=3600)
    await connection.execute("UPDATE rowlock.job SET run_at = run_at - interval '100 s' WHERE run_at < now()")
    await app.queues.pause("other")
    samples = await scrape(http)
    assert samples["rowlock_database_up", ()] == 1
    assert samples["rowlock_queue_jobs", ("sums", "waiting")] == 1
    assert samples["rowlock_queue_jobs", ("sums", "scheduled")] == 1
    assert 100 <= samples["rowlock_queue_oldest_waiting_seconds", ("sums",)] < 110
    assert samples["rowlock_queue_paused", ("other",)] == 1
    assert samples["rowlock_workers", ()] == 0
    assert samples["rowlock_jobs_unclaimed", ()] == 1


async def test_dead_letters_and_the_minute_are_told(app: Rowlock, http: Http) -> None:
    await app.enqueue("explode", {"how": "error"})
    await app.worker().drain()
    samples = await scrape(http)
    assert samples["rowlock_dead_letters", ()] == 1
    assert ("rowlock_last_minute_jobs", ("failed",)) in samples


async def test_dead_rows_and_an_old_transaction_are_seen(http: Http, database_url: str) -> None:
    other = await asyncpg.connect(database_url)
    try:
        await other.execute("BEGIN; SELECT pg_current_xact_id(); SELECT pg_sleep(0.2)")
        samples = await scrape(http)
    finally:
        await other.close()
    assert samples["rowlock_horizon_age_seconds", ()] >= 0.2
    assert samples["rowlock_table_bytes", ("job",)] > 0
    assert ("rowlock_table_dead_rows", ("finished_job",)) in samples, "with all its partitions"
    assert not any(labels and labels[0].startswith("finished_job_") for _, labels in samples)


async def test_requests_are_counted_by_route_and_not_by_what_they_ask_for(app: Rowlock, http: Http) -> None:
    job = await app.enqueue("echo")
    for path in (f"/v1/jobs/{job.id}", "/v1/jobs/0192f3a0-0000-7000-8000-000000000000", "/nothing/here?secret=1"):
        async with http.get(path):
            pass
    samples = await scrape(http)
    assert samples["rowlock_http_requests_total", ("GET", "/v1/jobs/{id}", "2xx")] == 1
    assert samples["rowlock_http_requests_total", ("GET", "/v1/jobs/{id}", "4xx")] == 1
    assert samples["rowlock_http_requests_total", ("GET", "unmatched", "4xx")] == 1
    assert samples["rowlock_http_request_duration_seconds_count", ("GET", "/v1/jobs/{id}")] == 2
    assert samples["rowlock_pool_limit", ("client",)] == 10


async def test_everything_that_is_exported_is_described(app: Rowlock, http: Http) -> None:
    await app.enqueue("echo")
    await scrape(http)  # which is the first request to be counted
    names = {name for name, _ in await scrape(http) if name.startswith("rowlock_")}
    for suffix in ("_total", "_bucket", "_sum", "_count"):
        names = {name.removesuffix(suffix) if name not in DESCRIBED else name for name in names}
    assert names == {one.name for one in (*OF_THE_API, *OF_BOTH)}


@pytest.fixture
async def without_database() -> AsyncIterator[Http]:
    """The API of an application whose database is not there."""
    settings = Settings(database_url=f"postgresql://ada:secret@127.0.0.1:{unused_port()}/nowhere")
    async with (
        Rowlock(settings=settings) as app,
        TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as database,
    ):
        yield database


async def test_without_a_database_the_process_is_told_all_the_same(without_database: Http) -> None:
    samples = await scrape(without_database)
    assert samples["rowlock_database_up", ()] == 0
    assert samples["rowlock_scrape_errors_total", ("overview",)] == 1
    assert samples["process_cpu_seconds_total", ()] > 0
    assert not any(name.startswith("rowlock_queue") for name, _ in samples)
    assert (await scrape(without_database))["rowlock_http_requests_total", ("GET", "/metrics", "2xx")] == 1


async def test_a_key_that_was_let_in_before_is_told_while_the_database_is_away(
    app: Rowlock, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await app.keys.create("prometheus", scopes=["read"])
    other = await app.keys.create("other", scopes=["read"])
    async with TestClient(TestServer(create_app(app))) as http:

        async def ask(text: str) -> tuple[int, str]:
            async with http.get("/metrics", headers={"Authorization": f"Bearer {text}"}) as response:
                return response.status, await response.text()

        assert (await ask(reader.text))[0] == 200

        def away(*_: object, **__: object) -> None:
            raise ConnectionRefusedError

        with monkeypatch.context() as patched:
            patched.setattr(app.database, "connection", away)
            http.app[READINGS].forget()
            status, text = await ask(reader.text)
            assert (status, "rowlock_database_up 0.0" in text) == (200, True)
            assert "process_cpu_seconds_total" in text
            assert (await ask(other.text))[0] == 503
            assert (await ask("rowlock_" + "x" * 43))[0] == 503
            async with http.get("/v1/jobs", headers={"Authorization": f"Bearer {reader.text}"}) as response:
                assert response.status == 503
            patched.setattr("rowlock.api.access.let_in.REMEMBERED_SECONDS", -1)
        await app.keys.revoke("prometheus")
        assert (await ask(reader.text))[0] == 401


@pytest.mark.parametrize("path", ["/metrics", "/v1/jobs"])
async def test_a_key_that_was_refused_since_is_not_let_in_while_the_database_is_away(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    reader = await app.keys.create("prometheus", scopes=["read"])
    async with TestClient(TestServer(create_app(app))) as http:

        async def ask(path: str) -> int:
            async with http.get(path, headers={"Authorization": f"Bearer {reader.text}"}) as response:
                return response.status

        def away(*_: object, **__: object) -> None:
            raise ConnectionRefusedError

        assert await ask("/metrics") == 200
        await app.keys.revoke("prometheus")
        assert await ask(path) == 401
        monkeypatch.setattr(app.database, "connection", away)
        assert await ask("/metrics") == 503


async def test_a_part_that_fails_loses_no_other(http: Http, connection: asyncpg.Connection) -> None:
    await connection.execute("DROP TABLE rowlock.statistic_mark")
    samples = await scrape(http)
    assert samples["rowlock_database_up", ()] == 1
    assert samples["rowlock_scrape_errors_total", ("overview",)] == 1
    assert samples["rowlock_scrape_errors_total", ("tables",)] == 0
    assert ("rowlock_queue_jobs", ("sums", "waiting")) not in samples
    assert samples["rowlock_table_bytes", ("job",)] > 0


async def test_a_defect_in_a_part_loses_no_other(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise TypeError

    monkeypatch.setattr(metrics, "overview_of", broken)
    samples = await scrape(http)
    assert samples["rowlock_database_up", ()] == 1
    assert samples["rowlock_scrape_errors_total", ("overview",)] == 1
    assert samples["rowlock_table_bytes", ("job",)] > 0


async def test_a_part_that_takes_too_long_is_left_out(
    http: Http, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "WITHIN", 0.3)
    async with connection.transaction():
        await connection.execute("LOCK TABLE rowlock.worker")
        samples = await scrape(http)
    assert samples["rowlock_scrape_errors_total", ("overview",)] == 1
    assert samples["rowlock_database_up", ()] == 1
    assert ("rowlock_horizon_age_seconds", ()) in samples


async def test_many_scrapes_at_once_read_the_database_once(
    http: Http, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    async def count(database: Database) -> Sequence[Table]:
        read.append("tables")
        return await read_tables(database)

    monkeypatch.setattr(metrics, "read_tables", count)
    await asyncio.gather(*(scrape(http) for _ in range(10)))
    assert read == ["tables"]


async def test_queues_beyond_the_limit_are_added_up(app: Rowlock, http: Http) -> None:
    await app.enqueue_many([app.tasks["echo"].using(queue=f"tenant-{n}").job(1) for n in range(MOST_QUEUES + 20)])
    samples = await scrape(http)
    told = {labels[0]: value for (name, labels), value in samples.items() if labels[1:] == ("waiting",)}
    assert len(told) == MOST_QUEUES + 1
    assert told["other"] >= 20
    assert sum(told.values()) == MOST_QUEUES + 20


async def test_without_the_package_the_remedy_is_said(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rowlock.metrics.api", None)  # as Python does where an import fails
    async with http.get("/metrics") as response:
        assert response.status == 501
        assert 'pip install "rowlock[metrics]"' in (await response.json())["detail"]


async def test_each_request_is_logged_without_what_it_asked_for(http: Http) -> None:
    with capture_logs() as logged:
        async with http.get(
            "/v1/jobs?args=%7B%22password%22%3A%22hunter2%22%7D",
            headers={"X-Request-ID": "abc", "Authorization": "Bearer rowlock_secret"},
        ):
            pass
    (line,) = [entry for entry in logged if entry["event"] == "request_answered"]
    assert (line["method"], line["route"], line["request_id"]) == ("GET", "/v1/jobs", "abc")
    assert line["status"] in {200, 422}
    assert 0 <= line["seconds"] < 10
    assert not any(word in str(logged) for word in ("hunter2", "rowlock_secret"))


async def test_probes_are_not_worth_a_line_unless_they_fail(http: Http, connection: asyncpg.Connection) -> None:
    with capture_logs() as logged:
        async with http.get("/readyz"):
            pass
        await connection.execute("DELETE FROM rowlock.rowlock_version")
        async with http.get("/readyz"):
            pass
    told = [(entry["log_level"], entry["status"]) for entry in logged if entry["event"] == "request_answered"]
    assert told == [("debug", 200), ("info", 503)]


async def test_a_client_that_does_not_wait_is_logged_and_counted(app: Rowlock) -> None:
    site = create_app(app, authenticate=nobody_is_asked)
    began, gone = asyncio.Event(), asyncio.Event()

    async def wait(_request: web.Request) -> web.Response:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return web.Response()

    site.router.add_get("/wait", wait)
    with capture_logs() as logged:
        async with TestServer(site, handler_cancellation=True) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            del reader
            writer.write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            await began.wait()
            writer.close()
            await gone.wait()
    assert [entry["status"] for entry in logged if entry["event"] == "request_answered"] == [499]


def test_rowlock_and_its_api_import_neither_prometheus_nor_opentelemetry() -> None:
    code = (
        "import sys, rowlock, rowlock.api, rowlock.worker.worker;"
        "print([name for name in sys.modules if name.startswith(('prometheus', 'opentelemetry'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
