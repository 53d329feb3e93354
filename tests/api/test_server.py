"""Health, problem documents, headers, and the API below another application."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, unused_port
from aiohttp.web import Application, Request
from structlog.contextvars import get_contextvars
from yarl import URL

from rowlock import ConfigurationError, Rowlock, Settings
from rowlock.api import create_app, nobody_is_asked
from rowlock.api.resources import health
from rowlock.api.serving import serving
from rowlock.queue.connect import sessions
from tests.logged import capture_logs

Http = TestClient[Request, Application]
PROBLEM = "application/problem+json"


async def get(http: Http, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    async with http.get(path, headers=headers) as response:
        return response.status, await response.json(content_type=None)


@pytest.fixture
async def without_database() -> AsyncIterator[Http]:
    """The API of an application whose database is not there."""
    settings = Settings(database_url=f"postgresql://ada:secret@127.0.0.1:{unused_port()}/nowhere")
    async with (
        Rowlock(settings=settings) as app,
        TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as client,
    ):
        app.task(name="echo")(lambda: None)
        yield client


async def test_healthz_asks_no_database(without_database: Http) -> None:
    assert await get(without_database, "/healthz") == (200, {"status": "ok"})


async def test_readyz_is_ok_when_the_database_answers_and_the_schema_fits(http: Http) -> None:
    assert await get(http, "/readyz") == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/readyz", "/v1/jobs", "/v1/jobs/0192f3a0-0000-7000-8000-000000000000/result?wait=5"])
async def test_missing_database_is_said_without_its_address(without_database: Http, path: str) -> None:
    async with without_database.get(path) as response:
        assert response.status == 503
        assert response.content_type == PROBLEM
        assert response.headers["Retry-After"] == "5"
        text = await response.text()
    assert "urn:rowlock:problem:database-unavailable" in text
    assert not any(word in text for word in ("127.0.0.1", "ada", "secret", "nowhere"))


async def test_enqueue_without_a_database_is_answered_503(without_database: Http) -> None:
    async with without_database.post("/v1/jobs", json={"task": "echo"}) as response:
        assert response.status == 503


@pytest.mark.parametrize("path", ["/readyz", "/v1/jobs"])
async def test_missing_schema_is_told_from_a_missing_database(empty_database_url: str, path: str) -> None:
    app = Rowlock(empty_database_url)
    async with app, TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as http:
        status, problem = await get(http, path)
    assert (status, problem["type"]) == (503, "urn:rowlock:problem:schema-not-migrated")
    assert "rowlock migrate" in problem["detail"]


@pytest.mark.needs_session("the pooler has no such role")
async def test_a_role_without_rights_is_told_from_a_database_that_does_not_answer(
    settings: Settings, database: str, connection: asyncpg.Connection
) -> None:
    role = f"visitor_{database}"
    await connection.execute(f"CREATE ROLE {role} LOGIN")
    try:
        as_visitor = replace(settings, database_url=(settings.database_url or "").replace("postgres@", f"{role}@", 1))
        async with (
            Rowlock(settings=as_visitor) as app,
            TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as client,
        ):
            for path in ("/readyz", "/v1/jobs"):
                status, problem = await get(client, path)
                assert (status, problem["type"]) == (503, "urn:rowlock:problem:missing-right")
                assert "owner of Rowlock's schema" in problem["detail"]
                assert role not in str(problem)
    finally:
        await connection.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("revision, kind", [("0000", "schema-too-old"), ("9999", "schema-too-new")])
async def test_readyz_says_whether_the_schema_is_older_or_newer(
    http: Http, connection: asyncpg.Connection, revision: str, kind: str
) -> None:
    await connection.execute("UPDATE rowlock.rowlock_version SET version_num = $1", revision)
    assert (await get(http, "/readyz"))[1]["type"] == f"urn:rowlock:problem:{kind}"


async def test_readyz_waits_for_the_database_no_longer_than_its_limit(
    http: Http, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as short:
        short.setattr(health, "READY_WITHIN", 0.2)
        async with connection.transaction():
            await connection.execute("LOCK TABLE rowlock.rowlock_version")
            status, problem = await get(http, "/readyz")
    assert (status, problem["type"]) == (503, "urn:rowlock:problem:database-unavailable")
    assert "0.2 s" in problem["detail"]
    assert (await get(http, "/readyz"))[0] == 200


async def test_connection_that_is_lost_in_the_middle_is_answered_503(
    http: Http, connection: asyncpg.Connection
) -> None:
    async with connection.transaction():
        await connection.execute("LOCK TABLE rowlock.rowlock_version")
        asking = asyncio.create_task(get(http, "/readyz"))
        async with asyncio.timeout(20):
            while not await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE NOT granted"
            ):
                pass
        status, problem = await asking
    assert (status, problem["type"]) == (503, "urn:rowlock:problem:database-unavailable")
    assert (await get(http, "/readyz"))[0] == 200


async def on_insert(connection: asyncpg.Connection, statement: str) -> None:
    await connection.execute(
        f"CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement} END $$;"
        "CREATE TRIGGER on_insert AFTER INSERT ON rowlock.job EXECUTE FUNCTION public.on_insert();"
    )


async def refused_enqueue(http: Http) -> dict[str, Any]:
    async with http.post("/v1/jobs", json={"task": "echo"}) as response:
        assert response.status == 503
        assert response.content_type == PROBLEM
        assert response.headers["Retry-After"] == "5"
        problem: dict[str, Any] = await response.json()
    assert problem["type"] == "urn:rowlock:problem:database-unavailable"
    return problem


async def test_an_enqueue_at_a_server_that_takes_no_writes_can_be_sent_again(
    http: Http, connection: asyncpg.Connection
) -> None:
    await on_insert(connection, "RAISE 'no' USING ERRCODE = '25006';")
    assert "job_id" not in await refused_enqueue(http)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


async def test_an_enqueue_that_was_not_answered_names_the_job_to_look_for(
    http: Http, connection: asyncpg.Connection
) -> None:
    await on_insert(connection, "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL;")
    problem = await refused_enqueue(http)
    assert (await get(http, f"/v1/jobs/{problem['job_id']}"))[0] == 404
    assert "may be stored, or not" in problem["detail"]


async def test_an_enqueue_that_is_stored_but_cannot_be_shown_says_so(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        async def lost(*_: object) -> None:
            raise ConnectionResetError

        patched.setattr("rowlock.api.resources.jobs.get_job", lost)
        problem = await refused_enqueue(http)
    assert "is stored" in problem["detail"]
    assert (await get(http, f"/v1/jobs/{problem['job_id']}"))[0] == 200


async def test_unknown_paths_are_problems(http: Http) -> None:
    for path in ("/v1", "/assets/nothing", "/v1/jobs/", "/v1/nothing", "/v2/jobs", "/%00", "/%ff"):
        async with http.get(path) as response:
            problem = await response.json(content_type=PROBLEM)
        assert response.status == 404, path
        assert (problem["type"], problem["title"], problem["status"]) == ("about:blank", "Not Found", 404)


async def test_wrong_method_is_a_problem_that_names_the_right_ones(http: Http) -> None:
    async with http.delete("/v1/jobs") as response:
        problem = await response.json(content_type=PROBLEM)
    assert response.status == 405
    assert response.headers["Allow"] == "GET,HEAD,POST"
    assert problem["detail"] == "The method must be one of GET, HEAD, POST; got DELETE."


async def test_unexpected_error_is_logged_and_shows_nothing_but_its_id(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("SELECT secret FROM rowlock.job")

    monkeypatch.setattr("rowlock.queue.read.pages.list_jobs", fail)
    with capture_logs() as logs:
        async with http.get("/v1/jobs") as response:
            text, problem = await response.text(), await response.json(content_type=PROBLEM)
    assert response.status == 500
    assert not any(word in text for word in ("secret", "Traceback", "RuntimeError"))
    [entry] = [entry for entry in logs if entry["event"] == "request_failed"]
    assert entry["error_id"] == problem["error_id"]
    assert problem["error_id"] in problem["detail"]


async def test_driver_error_about_a_parameter_is_no_lost_connection(
    http: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        await app.database.run("get_job", "not a uuid")

    monkeypatch.setattr("rowlock.queue.read.pages.list_jobs", fail)
    with capture_logs():
        assert (await get(http, "/v1/jobs"))[0] == 500


async def test_a_statement_that_takes_too_long_is_no_lost_connection(
    http: Http, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "QUERY_TIMEOUT", 0.1)
    with capture_logs():
        async with connection.transaction():
            await connection.execute("LOCK TABLE rowlock.job IN ACCESS EXCLUSIVE MODE")
            status, problem = await get(http, f"/v1/jobs/{UUID(int=1)}")
    assert (status, problem["type"]) == (503, "urn:rowlock:problem:statement-timeout")
    assert problem["detail"].startswith("PostgreSQL did not finish the statement get_job within")


async def test_redirects_are_left_alone(app: Rowlock) -> None:
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound("/healthz")

    api = create_app(app, authenticate=nobody_is_asked)
    api.router.add_get("/away", away)
    async with TestClient(TestServer(api)) as http, http.get("/away", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/healthz")


@pytest.mark.parametrize("path", ["/healthz", "/v1/jobs", "/nothing"])
async def test_every_response_has_the_headers(http: Http, path: str) -> None:
    async with http.get(path) as response:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert len(response.headers["X-Request-ID"]) == 36


async def test_usable_request_id_is_kept(http: Http) -> None:
    async with http.get("/nothing", headers={"X-Request-ID": "trace-1.a_B"}) as response:
        assert response.headers["X-Request-ID"] == "trace-1.a_B"


async def test_unusable_request_id_is_replaced(http: Http) -> None:
    for given in ("", "a b", "x" * 129, "é", '{"a":1}', "<script>"):
        async with http.get("/healthz", headers={"X-Request-ID": given}) as response:
            assert response.status == 200
            assert len(response.headers["X-Request-ID"]) == 36


async def test_request_id_is_bound_to_what_is_logged_meanwhile_and_no_longer(
    http: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    check = app.database.check_schema

    async def look() -> None:
        seen.append(get_contextvars().get("request_id"))
        await check()

    monkeypatch.setattr(app.database, "check_schema", look)
    await get(http, "/readyz", **{"X-Request-ID": "one"})
    await get(http, "/readyz", **{"X-Request-ID": "two"})
    assert seen == ["one", "two"]
    assert "request_id" not in structlog.contextvars.get_contextvars()


async def test_api_works_below_another_application(app: Rowlock) -> None:
    site = web.Application(client_max_size=16 * 1024 * 1024)
    site.add_subapp("/queue", create_app(app, authenticate=nobody_is_asked))
    async with TestClient(TestServer(site)) as http:
        async with http.post("/queue/v1/jobs", json={"task": "echo"}) as response:
            assert response.status == 201
            location = response.headers["Location"]
        assert location.startswith("/queue/v1/jobs/")
        assert (await get(http, location))[0] == 200
        assert (await get(http, "/queue/v1/jobs?limit=1"))[1]["next"].startswith("/queue/v1/jobs?limit=1&before=")
        assert (await get(http, "/queue/nothing"))[1]["instance"] == "/queue/nothing"
        async with http.post("/queue/v1/jobs", data=io.BytesIO(b" " * (1024 * 1024 + 1))) as response:
            assert response.status == 415
        headers = {"Content-Type": "application/json"}
        async with http.post("/queue/v1/jobs", data=io.BytesIO(b" " * (1024 * 1024 + 1)), headers=headers) as response:
            assert response.status == 413


async def test_configuration_error_of_another_kind_is_unexpected(
    http: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise ConfigurationError(f"nothing works with {replace(app.settings, schema='other')}")

    monkeypatch.setattr(app.database, "check_schema", fail)
    with capture_logs():
        status, problem = await get(http, "/readyz")
    assert (status, problem["type"]) == (500, "urn:rowlock:problem:internal-error")


@pytest.mark.parametrize(
    "sent",
    [
        b"Authorization: Bearer rowlock_secret\x01",
        b"Authorization: Bearer rowlock_secret" + b"x" * 9000,
        b"Transfer-Encoding: chunked\r\n\r\nrowlock_secret",
    ],
)
async def test_what_is_no_http_is_logged_in_a_line_and_not_quoted(
    sent: bytes, app: Rowlock, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs:
        async with serving(create_app(app), "127.0.0.1", 0) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
            writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n" + sent + b"\r\n\r\n")
            async with asyncio.timeout(10):
                assert (await reader.readline()).split()[1] == b"400"
            writer.close()
    assert [entry["status"] for entry in logs if entry["event"] == "request_unreadable"] == [400]
    assert "rowlock_secret" not in f"{logs}{caplog.text}"
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("line", [b"BREW /v1/jobs HTTP/1.1", b"get /healthz HTTP/1.1", b"\x16\x03\x01TLS"])
async def test_what_is_no_method_of_http_is_a_problem_that_quotes_nothing(line: bytes, app: Rowlock) -> None:
    async with serving(create_app(app), "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
        writer.write(line + b"\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            head, _, document = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert b"Content-Type: application/problem+json" in head
    assert b"nosniff" in head
    problem = json.loads(document)
    assert (problem["status"], problem["type"]) == (400, "about:blank")
    assert line.split()[0].decode() not in problem["detail"]


@pytest.mark.parametrize(
    "body, detail",
    [
        ({"task": "echo", "priority": True}, "priority: expected `integer | null`, got `boolean`."),
        ({"task": "echo", "tags": [1]}, "tags[0]: expected `string`, got `integer`."),
        ({"task": "echo", "run_at": "2030-01-01T00:00:00"}, "run_at: expected `time` with a timezone component."),
        ({"task": "echo", "int": 1}, "The body is invalid: Object contains unknown field `int`."),
    ],
)
async def test_types_have_the_names_of_json(http: Http, body: dict[str, Any], detail: str) -> None:
    async with http.post("/v1/jobs", json=body) as response:
        assert (await response.json(content_type=None))["detail"] == detail


@pytest.mark.parametrize("path", ["/v1/jobs", "/healthz", "/nothing", "/"])
async def test_an_expectation_that_is_not_known_is_refused_by_a_problem_document(http: Http, path: str) -> None:
    for _ in range(2):  # the connection is not out of step
        async with http.get(path, headers={"Expect": "zzz"}) as response:
            assert (response.status, response.content_type) == (417, PROBLEM)
            problem = await response.json(content_type=PROBLEM)
        assert (problem["type"], problem["status"], problem["instance"]) == ("about:blank", 417, path)
        assert "zzz" not in str(problem)
