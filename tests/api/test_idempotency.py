"""`Idempotency-Key`: a request that is sent again is answered again, and does nothing again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from rowlock import Rowlock
from rowlock.queue.read.pages import list_jobs

Http = TestClient[Request, Application]


async def post(http: Http, body: object, key: str | None, path: str = "/v1/jobs") -> tuple[int, str, dict[str, str]]:
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(path, data=data, headers=headers) as response:
        return response.status, await response.text(), dict(response.headers)


async def jobs(app: Rowlock) -> int:
    return len(await list_jobs(app.database))


async def test_a_repeated_request_has_the_first_answer_whatever_became_of_the_job(http: Http, app: Rowlock) -> None:
    first = await post(http, {"task": "add", "args": {"x": 1}}, "k-1")
    assert first[0] == 201
    assert json.loads(first[1])["state"] == "queued"
    assert "Idempotency-Replayed" not in first[2]
    await app.worker().drain()
    second = await post(http, {"task": "add", "args": {"x": 1}}, "k-1")
    assert second[:2] == first[:2]
    assert second[2]["Location"] == first[2]["Location"] == f"/v1/jobs/{json.loads(first[1])['id']}"
    assert second[2]["Idempotency-Replayed"] == "true"
    assert second[2]["Content-Type"] == first[2]["Content-Type"]
    assert await jobs(app) == 1
    assert (await post(http, {"task": "add", "args": {"x": 1}}, "k-2"))[0] == 201
    assert (await post(http, {"task": "add", "args": {"x": 1}}, None))[0] == 201
    assert await jobs(app) == 3


async def test_the_same_key_with_another_body_is_a_conflict(http: Http, app: Rowlock) -> None:
    assert (await post(http, {"task": "add", "args": {"x": 1}}, "k"))[0] == 201
    status, text, _ = await post(http, {"task": "add", "args": {"x": 2}}, "k")
    problem = json.loads(text)
    assert (status, problem["type"]) == (409, "urn:rowlock:problem:idempotency-key-reused")
    assert "Idempotency-Key" in problem["detail"]
    assert await jobs(app) == 1


async def test_a_refused_request_does_not_use_its_key_up(
    http: Http, app: Rowlock, connection: asyncpg.Connection
) -> None:
    for body, refusal in (
        (b"{", 400),
        ({"task": "nobody"}, 422),
        ({"task": "add", "args": {"x": "no number"}}, 422),
        ({"task": "echo", "priority": 10}, 422),
    ):
        assert (await post(http, body, "k"))[0] == refusal
    assert await connection.fetchval("SELECT count(*) FROM rowlock.idempotency_key") == 0
    assert (await post(http, {"task": "add", "args": {"x": 1}}, "k"))[0] == 201
    assert await jobs(app) == 1


async def test_simultaneous_requests_with_one_key_are_one_job_and_one_answer(http: Http, app: Rowlock) -> None:
    answers = await asyncio.gather(*(post(http, {"task": "echo", "args": {"value": 1}}, "k") for _ in range(25)))
    assert {answer[:2] for answer in answers} == {answers[0][:2]}
    assert answers[0][0] == 201
    assert sum("Idempotency-Replayed" not in headers for _, _, headers in answers) == 1
    assert await jobs(app) == 1


async def test_many_requests_with_different_keys_need_one_connection_each(
    http: Http, app: Rowlock, connection: asyncpg.Connection
) -> None:
    """More of them than the pool has connections, for a task that has to be looked up."""
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts) VALUES ('elsewhere', 'far', 2, 3)"
    )
    answers = await asyncio.wait_for(
        asyncio.gather(*(post(http, {"task": "elsewhere", "args": {"n": n}}, f"k{n}") for n in range(25))), 8
    )
    assert {status for status, _, _ in answers} == {201}
    assert await jobs(app) == 25


async def test_an_answer_is_kept_for_a_day(http: Http, app: Rowlock, connection: asyncpg.Connection) -> None:
    first = await post(http, {"task": "echo"}, "k")
    left = await connection.fetchval("SELECT expires_at - clock_timestamp() FROM rowlock.idempotency_key")
    assert 23 * 3600 < left.total_seconds() <= 24 * 3600
    await connection.execute("UPDATE rowlock.idempotency_key SET expires_at = clock_timestamp()")
    second = await post(http, {"task": "echo", "args": {"value": 2}}, "k")
    assert (second[0], second[1] == first[1]) == (201, False)
    assert (await post(http, {"task": "echo", "args": {"value": 2}}, "k"))[1] == second[1]
    assert await jobs(app) == 2


async def test_the_answer_to_a_duplicate_of_a_unique_key_is_kept_too(http: Http, app: Rowlock) -> None:
    held = json.loads((await post(http, {"task": "echo", "unique": "u"}, None))[1])
    first = await post(http, {"task": "echo", "unique": "u", "args": {"value": 1}}, "k")
    assert (first[0], json.loads(first[1])["id"]) == (200, held["id"])
    await app.worker().drain()
    assert (await post(http, {"task": "echo", "unique": "u", "args": {"value": 1}}, "k"))[:2] == first[:2]
    assert await jobs(app) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb"], ids=["empty", "too long", "no ASCII", "a tab"])
async def test_a_key_that_is_not_usable_is_refused(key: str, http: Http, app: Rowlock) -> None:
    status, text, _ = await post(http, {"task": "echo"}, key)
    assert (status, json.loads(text)["type"]) == (400, "urn:rowlock:problem:invalid-idempotency-key")
    assert await jobs(app) == 0


async def test_a_key_of_255_characters_is_usable_and_two_headers_are_not(http: Http, app: Rowlock) -> None:
    assert (await post(http, {"task": "echo"}, '"' + "x y" * 84 + '!"'))[0] == 201
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    async with http.post("/v1/jobs", json={"task": "echo"}, headers=headers) as response:
        assert response.status == 400
    assert await jobs(app) == 1


# The rules of uniqueness over HTTP.


async def test_the_rules_of_uniqueness_are_members_of_an_object(http: Http, app: Rowlock) -> None:
    async def send(unique: object, x: int = 1) -> tuple[int, dict[str, Any]]:
        status, text, _ = await post(http, {"task": "add", "args": {"x": x}, "unique": unique, "delay": 60}, None)
        return status, json.loads(text)

    status, first = await send({"by": ["x"], "until": "start"})
    assert status == 201
    assert (await send({"by": ["x"]}))[1]["id"] == first["id"]
    assert (await send({"by": ["x"]}, x=2))[0] == 201

    _, wide = await send({"key": "w", "across_tasks": True, "period": 60})
    assert wide["unique"] == "w"
    assert (await send({"key": "w", "across_tasks": True, "on_duplicate": "replace"}, x=7))[0] == 200
    assert (await app.get(wide["id"])).args == {"x": 7}

    status, problem = await send({"key": "w", "across_tasks": True, "on_duplicate": "raise"})
    assert (status, problem["type"]) == (409, "urn:rowlock:problem:duplicate-job")
    assert (problem["job_id"], problem["field"]) == (wide["id"], "unique")


@pytest.mark.parametrize(
    "unique, words",
    [
        ({}, "either key or by (argument names); got neither"),
        ({"key": "a", "by": ["x"]}, "either key or by (argument names); got both"),
        ({"by": ["z"]}, 'no argument "z"'),
        ({"by": "x"}, "by='arguments'; got \"x\""),
        ({"key": "a", "until": "end"}, 'until must be one of "finish", "start"; got "end"'),
        ({"key": "a", "period": -1}, "period must be greater than zero; got -1.0"),
        ({"key": "a", "on_duplicate": "x"}, '; got "x"'),
        ({"key": "a", "scope": 1}, "unknown field"),
        (7, "unique: expected"),
    ],
)
async def test_rules_that_make_no_sense_are_refused(unique: object, words: str, http: Http, app: Rowlock) -> None:
    status, text, _ = await post(http, {"task": "add", "args": {"x": 1}, "unique": unique}, None)
    assert (status, json.loads(text)["type"]) == (422, "urn:rowlock:problem:invalid-request")
    assert words in json.loads(text)["detail"]
    assert await jobs(app) == 0


async def test_what_runs_again_with_a_key_runs_once(http: Http, app: Rowlock) -> None:
    old = await app.enqueue("add", {"x": 1})
    await app.worker().drain()
    await app.schedules.create("nightly", "echo", "0 3 * * *")
    for path in (f"/v1/jobs/{old.id}/run-again", "/v1/schedules/nightly/run"):
        answers = []
        for key in ("one", "one", "another"):
            async with http.post(path, headers={"Idempotency-Key": key}) as response:
                assert response.status == 201, await response.text()
                repeated = response.headers.get("Idempotency-Replayed")
                answers.append((await response.text(), response.headers["Location"], repeated))
        first, again, another = answers
        assert again == (*first[:2], "true")
        assert another[:2] != first[:2]
        assert first[2] is another[2] is None
    headers = {"Idempotency-Key": "one"}
    async with http.post(f"/v1/jobs/{old.id}/run-again", json={"args": {"x": 2}}, headers=headers) as response:
        assert response.status == 409
    assert len(await app.jobs.list()) == 5
