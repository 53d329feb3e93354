"""`/v1/schedules`."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from rowlock import Rowlock

Http = TestClient[Request, Application]
NEW = {
    "name": "nightly",
    "task": "add",
    "cron": "0 3 * * *",
    "args": {"x": 1},
    "timezone": "Europe/Berlin",
    "jitter": 1.5,
}


async def ask(http: Http, method: str, path: str, body: object = None) -> tuple[int, Any]:
    headers = {"X-Rowlock-Actor": "ada"}
    async with http.request(method, path, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None) if response.status != 204 else None


async def test_schedule_is_created_listed_shown_edited_and_deleted(
    http: Http, app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    status, made = await ask(http, "POST", "/v1/schedules", NEW)
    assert status == 201
    assert made.items() >= NEW.items()
    assert (made["misfire"], made["overlap"], made["is_paused"], made["origin"]) == ("latest", "allow", False, "user")
    assert await ask(http, "GET", "/v1/schedules") == (200, {"schedules": [made]})
    status, shown = await ask(http, "GET", "/v1/schedules/nightly")
    assert (status, shown) == (200, made | {"ticks": [], "next_ticks": shown["next_ticks"]})
    assert shown["next_ticks"][0] == made["next_run_at"]
    assert sorted(set(shown["next_ticks"])) == shown["next_ticks"]
    assert len(shown["next_ticks"]) == 10
    status, edited = await ask(http, "PATCH", "/v1/schedules/nightly", {"priority": 2, "misfire": "all"})
    assert (status, edited["priority"], edited["misfire"], edited["cron"]) == (200, 2, "all", "0 3 * * *")
    _, edited = await ask(http, "PATCH", "/v1/schedules/nightly", {"priority": None})
    assert (edited["priority"], edited["misfire"]) == (None, "all")
    assert await ask(http, "DELETE", "/v1/schedules/nightly") == (204, None)
    assert (await ask(http, "GET", "/v1/schedules/nightly"))[0] == 404
    rows = await connection.fetch("SELECT verb, by, source, target, details FROM rowlock.operation ORDER BY id")
    assert [row["verb"] for row in rows] == ["create", "edit", "edit", "delete"]
    assert {(row["by"], row["source"], row["target"]) for row in rows} == {("ada", "http", "nightly")}
    assert json.loads(rows[1]["details"]) == {"priority": 2, "misfire": "all"}


async def test_location_leads_to_the_new_schedule_and_to_the_job_that_was_run(http: Http) -> None:
    async with http.post("/v1/schedules", json=NEW) as response:
        assert response.headers["Location"] == "/v1/schedules/nightly"
    async with http.post("/v1/schedules/nightly/run") as response:
        assert response.status == 201
        job, location = await response.json(), response.headers["Location"]
    status, shown = await ask(http, "GET", location)
    assert (status, shown["id"], shown["task"], shown["args"]) == (200, job["id"], "add", {"x": 1})


async def test_schedule_is_paused_and_resumed(http: Http) -> None:
    await ask(http, "POST", "/v1/schedules", NEW)
    assert (await ask(http, "POST", "/v1/schedules/nightly/pause"))[1]["is_paused"] is True
    assert (await ask(http, "GET", "/v1/schedules/nightly"))[1]["next_ticks"] == []
    assert (await ask(http, "POST", "/v1/schedules/nightly/resume"))[1]["is_paused"] is False


@pytest.mark.parametrize(
    "changes, kind, said",
    [
        ({"cron": "0 3 * *"}, "invalid-request", "cron '0 3 * *'"),
        ({"timezone": "Mars"}, "invalid-request", "timezone 'Mars'"),
        ({"jitter": -1}, "invalid-request", "jitter"),
        ({"misfire": "never"}, "invalid-request", "misfire 'never'"),
        ({"task": "nothing"}, "unknown-task", "'nothing'"),
        ({"args": {"x": "one"}}, "invalid-arguments", "x"),
        ({"every": 5}, "invalid-request", "every"),
        ({"cron": 5}, "invalid-request", "cron"),
    ],
)
async def test_nonsense_is_refused(changes: dict[str, object], kind: str, said: str, http: Http) -> None:
    status, problem = await ask(http, "POST", "/v1/schedules", NEW | changes)
    assert (status, problem["type"]) == (422, f"urn:rowlock:problem:{kind}")
    assert said in problem["detail"]
    await ask(http, "POST", "/v1/schedules", NEW)
    status, problem = await ask(http, "PATCH", "/v1/schedules/nightly", changes)
    assert (status, problem["type"]) == (422, f"urn:rowlock:problem:{kind}")


@pytest.mark.parametrize(
    "method, path",
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/run")],
)
@pytest.mark.parametrize("name", ["none", "%00", "x" * 300])
async def test_unknown_schedule_is_not_found(method: str, path: str, name: str, http: Http) -> None:
    body = {"cron": "@daily"} if method == "PATCH" else None
    status, problem = await ask(http, method, f"/v1/schedules/{name}{path}", body)
    assert (status, problem["type"]) == (404, "urn:rowlock:problem:schedule-not-found")
