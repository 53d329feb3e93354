"""Every way out for what a sensitive task is given: over HTTP, from a process without its code, and by logs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientTimeout
from aiohttp.test_utils import TestClient, TestServer

from rowlock import Job, Rowlock, Settings
from rowlock.api import create_app, nobody_is_asked
from tests.api.conftest import Http
from tests.logged import capture_logs

SECRET = "s3cr3t-W0rd"
GIVEN = {"word": SECRET}


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:

        @app.task(sensitive=True, max_attempts=1, capture_logs=True)
        async def hide(job: Job, word: str, how: str = "return") -> str:
            job.progress(0.5, f"looking at {word}")
            if how == "raise":
                raise ValueError(f"no good: {word}")
            return f"done with {word}"

        yield app


@pytest.fixture
async def jobs(app: Rowlock) -> dict[str, str]:
    """A job that has succeeded, one that has failed, and one that waits, of a sensitive task."""
    made = {how: await app.enqueue("hide", GIVEN | {"how": how}) for how in ("return", "raise")}
    await app.worker().drain()
    made["wait"] = await app.enqueue("hide", GIVEN, delay=3600, unique=f"of {SECRET}")
    return {how: str(handle.id) for how, handle in made.items()}


@pytest.fixture
async def without_code(app: Rowlock, settings: Settings) -> AsyncIterator[Http]:
    """The API of a process that has none of the tasks: it knows of them what the workers have registered."""
    async with (
        Rowlock(settings=settings) as other,
        TestClient(TestServer(create_app(other, authenticate=nobody_is_asked))) as client,
    ):
        yield client


async def read(http: Http, path: str, status: int = 200) -> str:
    async with http.get(path) as response:
        assert response.status == status, await response.text()
        return await response.text()


async def post(http: Http, path: str, body: object, **headers: str) -> tuple[int, str]:
    async with http.post(path, json=body, headers=headers) as response:
        return response.status, await response.text()


async def test_nothing_that_is_read_shows_it(without_code: Http, jobs: dict[str, str]) -> None:
    paths = ["/v1/jobs", "/v1/dead-letters", "/v1/dead-letters/groups", "/v1/operations", "/v1/tasks", "/v1/unclaimed"]
    for job in jobs.values():
        paths += [f"/v1/jobs/{job}", f"/v1/jobs/{job}/logs"]
    paths += [f"/v1/jobs/{jobs[how]}/result" for how in ("return", "raise")]
    for path in paths:
        assert SECRET not in await read(without_code, path), path


async def test_no_filter_finds_out_what_is_hidden(
    without_code: Http, jobs: dict[str, str], connection: asyncpg.Connection
) -> None:
    given = json.dumps(GIVEN)
    for path in ("/v1/jobs", "/v1/dead-letters"):
        assert json.loads(await read(without_code, path))["jobs"]
        for query in ({"error": "no good"}, {"error": SECRET[:3]}, {"args": given}, {"text": SECRET[:3]}):
            async with without_code.get(path, params=query) as response:
                assert (await response.json())["jobs"] == [], (path, query)
    for query in ({"error": "no good"}, {"args": given}, {"text": SECRET[:3]}):
        async with without_code.get("/v1/dead-letters/groups", params=query) as response:
            assert (await response.json())["groups"] == [], query
    for act in ("cancel", "retry", "discard"):
        for which in ({"error": "no good"}, {"args": GIVEN}, {"text": SECRET[:3]}):
            for dry_run in (True, False):
                body = {"filter": which, "dry_run": dry_run}
                status, text = await post(without_code, f"/v1/jobs/bulk/{act}", body)
                assert (status, json.loads(text)["count"]) == (200, 0), (act, which)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.jobs WHERE args @> $1::jsonb", given) == 3


async def test_no_act_answers_with_it_or_records_it(
    without_code: Http, app: Rowlock, jobs: dict[str, str], connection: asyncpg.Connection
) -> None:
    texts = []
    for how, act, body in (
        ("raise", "retry", {}),
        ("raise", "cancel", {"reason": "enough"}),
        ("raise", "retry", {"args": GIVEN | {"how": "raise"}}),
        ("return", "run-again", {}),
        ("return", "run-again", {"args": GIVEN}),
    ):
        status, text = await post(without_code, f"/v1/jobs/{jobs[how]}/{act}", body)
        assert status in {200, 201}, text
        texts.append(text)
    await app.worker().drain()
    texts.append((await post(without_code, f"/v1/jobs/{jobs['raise']}/discard", {}))[1])
    texts.append((await post(without_code, f"/v1/jobs/{jobs['return']}/retry", {}))[1])
    assert SECRET not in "".join(texts)
    told = await connection.fetch("SELECT * FROM rowlock.operation")
    assert len(told) >= 6
    assert SECRET not in str(told)


async def test_enqueuing_does_not_answer_with_it_nor_keep_it_for_the_repeated_request(
    without_code: Http, jobs: dict[str, str], connection: asyncpg.Connection
) -> None:
    body = {"task": "hide", "args": GIVEN, "unique": f"new {SECRET}"}
    for _ in range(2):
        status, text = await post(without_code, "/v1/jobs", body, **{"Idempotency-Key": "k"})
        assert status == 201
        assert SECRET not in text
    assert SECRET not in (await post(without_code, "/v1/jobs", body))[1]
    assert SECRET not in str(await connection.fetch("SELECT * FROM rowlock.idempotency_key"))


async def test_refusals_do_not_repeat_it(http: Http, without_code: Http, jobs: dict[str, str]) -> None:
    for api in (http, without_code):
        for args in ({"word": {SECRET: 1}}, {"word": 1, "how": [SECRET]}, {"word": f"{SECRET}\x00"}):
            status, text = await post(api, "/v1/jobs", {"task": "hide", "args": args})
            assert (status < 400 and api is without_code) or SECRET not in text, text
            _, text = await post(api, f"/v1/jobs/{jobs['raise']}/retry", {"args": args})
            assert SECRET not in text


async def test_events_do_not_tell_it(without_code: Http, jobs: dict[str, str]) -> None:
    seen = b""
    path = f"/v1/events?job={jobs['raise']}"
    async with without_code.get(path, timeout=ClientTimeout(total=10)) as response:
        while b"event: job" not in seen or not seen.endswith(b"\n\n"):
            seen += await response.content.readany()
    assert b'"is_sensitive":true' in seen
    assert SECRET.encode() not in seen


async def test_schedules_do_not_show_it(without_code: Http, app: Rowlock, jobs: dict[str, str]) -> None:
    await app.schedules.create("nightly", "hide", "0 3 * * *", args=GIVEN)
    for path in ("/v1/schedules", "/v1/schedules/nightly"):
        assert SECRET not in await read(without_code, path)
    assert json.loads(await read(without_code, "/v1/schedules/nightly"))["args"] is None
    for verb in ("pause", "resume", "run"):
        status, text = await post(without_code, f"/v1/schedules/nightly/{verb}", {})
        assert status < 300
        assert SECRET not in text
    async with without_code.patch("/v1/schedules/nightly", json={"args": {"word": f"new {SECRET}"}}) as response:
        assert response.status == 200
        assert SECRET not in await response.text()
    async with without_code.patch("/v1/schedules/nightly", json={"task": "echo"}) as response:
        assert response.status == 422, "a task that shows its arguments would show these"
    created = {"name": "daily", "task": "hide", "cron": "0 3 * * *", "args": GIVEN}
    status, text = await post(without_code, "/v1/schedules", created)
    assert (status, SECRET in text) == (201, False)
    assert SECRET not in await read(without_code, "/v1/operations")


async def test_worker_does_not_log_it(app: Rowlock) -> None:
    @app.on_failure
    async def fail_too(_job: Job, error: BaseException) -> None:
        raise RuntimeError(f"cannot tell of {error}")

    with capture_logs() as logs:
        await app.enqueue("hide", GIVEN | {"how": "raise"})
        await app.worker().drain()
    assert [entry for entry in logs if entry["event"] == "failure_handler_failed"]
    assert not [entry for entry in logs if _holds(entry)]


def _holds(entry: Any) -> bool:  # noqa: ANN401  # what is logged
    error = entry.get("exc_info")
    return SECRET in str({name: value for name, value in entry.items() if name != "exc_info"}) or (
        isinstance(error, BaseException) and SECRET in f"{error} {error.__cause__} {error.__context__}"
    )
