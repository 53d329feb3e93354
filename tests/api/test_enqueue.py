"""`POST /v1/jobs`."""

from __future__ import annotations

import asyncio
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from rowlock import Rowlock
from rowlock.api.http import exchange
from rowlock.queue.read.pages import list_jobs

Http = TestClient[Request, Application]


async def post(http: Http, body: object, **headers: str) -> tuple[int, dict[str, Any]]:
    """Send a body (bytes as they are, anything else as JSON) and return the status and the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(
        "/v1/jobs", data=io.BytesIO(data), headers={"Content-Type": "application/json"} | headers
    ) as response:
        return response.status, await response.json(content_type=None)


async def test_enqueued_job_is_in_the_database_and_in_the_answer(http: Http, app: Rowlock) -> None:
    async with http.post("/v1/jobs", json={"task": "add", "args": {"x": 2}}) as response:
        job = await response.json()
    assert response.status == 201
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["task"], job["queue"], job["state"], job["priority"]) == ("add", "sums", "queued", 6)
    assert job["is_duplicate"] is False
    assert (await app.get(job["id"])).args == {"x": 2}


async def test_every_option_is_stored(http: Http, app: Rowlock) -> None:
    status, answer = await post(
        http,
        {
            "task": "add",
            "args": {"x": 1, "y": 2},
            "queue": "other",
            "priority": 9,
            "delay": 3600,
            "max_attempts": 2,
            "timeout": 1.5,
            "unique": "one",
            "tags": ["urgent"],
            "metadata": {"customer": "42"},
        },
    )
    assert status == 201
    assert (answer["state"], answer["timeout"], answer["unique"]) == ("scheduled", 1.5, "one")
    job = await app.get(answer["id"])
    assert (job.queue, job.priority, job.max_attempts, job.timeout) == ("other", 9, 2, timedelta(seconds=1.5))
    assert job.unique_key == "add:one"
    assert (answer["tags"], answer["metadata"]) == (job.tags, job.metadata) == (["urgent"], {"customer": "42"})
    assert timedelta(minutes=59) < job.run_at - job.created_at <= timedelta(minutes=61)


async def test_run_at_is_an_instant_whatever_its_zone_and_comes_back_in_utc(http: Http) -> None:
    status, job = await post(http, {"task": "add", "args": {"x": 1}, "run_at": "2100-01-01T01:30:00+01:30"})
    assert status == 201
    assert job["run_at"] == "2100-01-01T00:00:00Z"


async def test_null_options_are_as_if_left_out(http: Http) -> None:
    status, job = await post(
        http,
        {"task": "add", "args": {"x": 1}, "queue": None, "delay": None, "run_at": None, "tags": None, "metadata": None},
    )
    assert (status, job["queue"], job["state"]) == (201, "sums", "queued")


async def test_second_job_with_a_unique_key_is_answered_with_the_first(http: Http, app: Rowlock) -> None:
    first_status, first = await post(http, {"task": "add", "args": {"x": 1}, "unique": "k", "queue": "one"})
    second_status, second = await post(http, {"task": "add", "args": {"x": 2}, "unique": "k", "queue": "two"})
    assert (first_status, second_status) == (201, 200)
    assert second["id"] == first["id"]
    assert (second["is_duplicate"], second["queue"]) == (True, "one")
    assert [str(job.id) for job in await list_jobs(app.database)] == [first["id"]]


async def test_simultaneous_enqueues_of_one_key_store_one_job(http: Http) -> None:
    answers = await asyncio.gather(*(post(http, {"task": "add", "args": {"x": n}, "unique": "k"}) for n in range(8)))
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    assert len({job["id"] for _, job in answers}) == 1


async def test_task_that_only_a_worker_has_registered_can_be_enqueued(
    http: Http, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts) VALUES ('elsewhere', 'far', 2, 3)"
    )
    status, job = await post(http, {"task": "elsewhere", "args": {"anything": [1, None, "ü"]}})
    assert (status, job["queue"], job["priority"], job["max_attempts"]) == (201, "far", 2, 3)
    assert await post(http, {"task": "elsewhere", "args": {"x": "\0"}}) == (422, _ANY_PROBLEM)


class _AnyProblem(dict[str, Any]):
    """Equal to every problem document."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and {"type", "title", "status", "detail", "instance"} <= other.keys()

    __hash__ = None


_ANY_PROBLEM = _AnyProblem()

REFUSED: dict[str, tuple[object, int, str, str | None]] = {
    "unknown task": ({"task": "nobody"}, 422, "unknown-task", "task"),
    "a name that is none": ({"task": "no spaces"}, 422, "invalid-request", "task"),
    "no task": ({"args": {}}, 422, "invalid-request", "task"),
    "unknown member": ({"task": "add", "args": {"x": 1}, "prio": 1}, 422, "invalid-request", "prio"),
    "args of a wrong type": ({"task": "add", "args": {"x": "1"}}, 422, "invalid-arguments", "args"),
    "args missing": ({"task": "add"}, 422, "invalid-arguments", "args"),
    "args too many": ({"task": "add", "args": {"x": 1, "z": 1}}, 422, "invalid-arguments", "args"),
    "args no object": ({"task": "add", "args": [1]}, 422, "invalid-request", "args"),
    "body no object": ([1], 422, "invalid-request", None),
    "priority out of range": ({"task": "echo", "priority": 10}, 422, "invalid-request", "priority"),
    "priority no number": ({"task": "echo", "priority": "9"}, 422, "invalid-request", "priority"),
    "priority a truth value": ({"task": "echo", "priority": True}, 422, "invalid-request", "priority"),
    "negative delay": ({"task": "echo", "delay": -1}, 422, "invalid-request", "delay"),
    "endless delay": ({"task": "echo", "delay": 1e300}, 422, "invalid-request", "delay"),
    "delay and run_at": (
        {"task": "echo", "delay": 1, "run_at": "2100-01-01T00:00:00Z"},
        422,
        "invalid-request",
        None,
    ),
    "run_at without zone": ({"task": "echo", "run_at": "2100-01-01T00:00:00"}, 422, "invalid-request", "run_at"),
    "run_at before year 1": (
        {"task": "echo", "run_at": "0001-01-01T00:00:00+14:00"},
        422,
        "invalid-request",
        "run_at",
    ),
    "run_at after year 9999": (
        {"task": "echo", "run_at": "9999-12-31T23:59:59-14:00"},
        422,
        "invalid-request",
        "run_at",
    ),
    "run_at no time": ({"task": "echo", "run_at": "tomorrow"}, 422, "invalid-request", "run_at"),
    "no attempts": ({"task": "echo", "max_attempts": 0}, 422, "invalid-request", "max_attempts"),
    "timeout of zero": ({"task": "echo", "timeout": 0}, 422, "invalid-request", "timeout"),
    "empty key": ({"task": "echo", "unique": ""}, 422, "invalid-request", "unique"),
    "NUL in the key": ({"task": "echo", "unique": "\0"}, 422, "invalid-request", "unique"),
    "metadata of a number": ({"task": "echo", "metadata": {"a": 1}}, 422, "invalid-request", "metadata"),
    "metadata of an odd key": ({"task": "echo", "metadata": {"a b": "c"}}, 422, "invalid-request", "metadata"),
    "metadata of a long text": ({"task": "echo", "metadata": {"a": "x" * 257}}, 422, "invalid-request", "metadata"),
    "metadata of controls": ({"task": "echo", "metadata": {"a": "\n"}}, 422, "invalid-request", "metadata"),
    "metadata no object": ({"task": "echo", "metadata": ["a:b"]}, 422, "invalid-request", "metadata"),
    "queue that is no name": ({"task": "echo", "queue": "a b"}, 422, "invalid-request", "queue"),
    "queue that is no part of a path": ({"task": "echo", "queue": ".."}, 422, "invalid-request", "queue"),
    "NUL in args": ({"task": "echo", "args": {"value": "a\0b"}}, 422, "invalid-arguments", "args"),
    "NUL in a key of args": ({"task": "echo", "args": {"value": {"\0": 1}}}, 422, "invalid-arguments", "args"),
    "lone surrogate in args": (rb'{"task":"echo","args":{"value":"\ud800"}}', 422, "invalid-request", None),
    "lone surrogate in the task": (rb'{"task":"\udfff"}', 422, "invalid-request", None),
    "nested 65 deep": (
        {"task": "echo", "args": {"value": eval("[" * 64 + "]" * 64)}},
        422,
        "invalid-arguments",
        "args",
    ),
    "nested far too deep": (
        b'{"task":"echo","args":{"value":' + b"[" * 400_000 + b"]" * 400_000 + b"}}",
        422,
        "invalid-request",
        None,
    ),
    "number out of range": (b'{"task":"echo","args":{"value":1e400}}', 422, "invalid-request", "args"),
    "integer of 5000 digits": (
        b'{"task":"echo","args":{"value":' + b"1" * 5000 + b"}}",
        422,
        "invalid-request",
        "args",
    ),
    "args of 300 KB": ({"task": "echo", "args": {"value": "x" * 300_000}}, 422, "invalid-arguments", "args"),
    "NaN": (b'{"task":"echo","args":{"value":NaN}}', 400, "not-json", None),
    "nothing": (b"", 400, "not-json", None),
    "half of an object": (b'{"task":"echo"', 400, "not-json", None),
    "two objects": (b'{"task":"echo"} {}', 400, "not-json", None),
    "no UTF-8": (b'{"task":"\xff"}', 400, "not-json", None),
    "a form": (b"task=echo", 400, "not-json", None),
    "a megabyte and more": (b" " * (exchange.BODY_LIMIT + 1), 413, "body-too-large", None),
}


async def test_what_makes_no_sense_is_refused_and_nothing_stored(
    http: Http, app: Rowlock, subtests: pytest.Subtests
) -> None:
    for name, (body, status, kind, field) in REFUSED.items():
        with subtests.test(name):
            got, problem = await post(http, body)
            assert (got, problem["status"]) == (status, status)
            assert problem["type"] == f"urn:rowlock:problem:{kind}"
            assert problem.get("field") == field
            assert field is None or field in problem["detail"] or field == "args"
            assert problem["instance"] == "/v1/jobs"
            assert len(problem["detail"]) <= 2100
            assert not re.search("Traceback|SELECT|File ", problem["detail"])
    assert await list_jobs(app.database) == []


async def test_option_out_of_range_is_named_with_its_value(http: Http) -> None:
    _, problem = await post(http, {"task": "echo", "priority": 10})
    assert problem["detail"] == "priority must be a whole number from 0 (last) to 9 (first); got 10."


async def test_body_of_exactly_the_limit_is_read(http: Http) -> None:
    body = json.dumps({"task": "echo"}).encode()
    assert (await post(http, body + b" " * (exchange.BODY_LIMIT - len(body))))[0] == 201


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON; charset=latin-1", "application/ld+json"],
)
async def test_json_by_any_of_its_names_is_taken(http: Http, content_type: str) -> None:
    assert (await post(http, {"task": "echo"}, **{"Content-Type": content_type}))[0] == 201


async def test_json_without_a_content_type_is_taken(http: Http) -> None:
    async with http.post("/v1/jobs", data=b'{"task": "echo"}', skip_auto_headers=["Content-Type"]) as response:
        assert response.status == 201


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_other_content_types_are_refused(http: Http, content_type: str) -> None:
    status, problem = await post(http, {"task": "echo"}, **{"Content-Type": content_type})
    assert (status, problem["type"]) == (415, "urn:rowlock:problem:unsupported-type")


async def test_browsers_requests_from_other_sites_are_refused(http: Http, app: Rowlock) -> None:
    status, problem = await post(http, {"task": "echo"}, **{"Sec-Fetch-Site": "cross-site"})
    assert (status, problem["type"]) == (403, "urn:rowlock:problem:cross-site")
    assert await list_jobs(app.database) == []
    assert (await post(http, {"task": "echo"}, **{"Sec-Fetch-Site": "same-origin"}))[0] == 201


async def test_times_are_iso_8601_in_utc(http: Http) -> None:
    _, job = await post(http, {"task": "echo"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", job["created_at"])
    assert abs(datetime.fromisoformat(job["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
