"""`/v1/schedules`."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeAlias

import asyncpg
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from rowlock import Rowlock
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
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
    status, answer, _ = await exchange(http, method, path, body)
    return status, answer


async def exchange(
    http: Http, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, Any, str | None]:
    """The status, the body and the `ETag` of the answer; `If_Match` is the header `If-Match`."""
    sent = {"X-Rowlock-Actor": "ada"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.request(method, path, json=body, headers=sent) as response:
        has_body = response.status not in {204, 304}
        return (
            response.status,
            await response.json(content_type=None) if has_body else None,
            response.headers.get("ETag"),
        )


async def test_schedule_is_created_listed_shown_edited_and_deleted(
    http: Http, app: Rowlock, connection: Connection
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
    "changes, kind, field, said",
    [
        ({"cron": "0 3 * *"}, "invalid-request", "cron", 'cron must be a cron text; got "0 3 * *"'),
        ({"cron": "*/30 2 * 3 7L", "timezone": "Europe/Berlin"}, "invalid-request", "cron", "cron must mean a time"),
        ({"timezone": "Mars"}, "invalid-request", "timezone", '; got "Mars"'),
        ({"jitter": -1}, "invalid-request", "jitter", "jitter"),
        ({"jitter": 1e300}, "invalid-request", "jitter", "jitter"),
        ({"overlap": "never"}, "invalid-request", "overlap", 'overlap must be one of allow, skip; got "never"'),
        ({"queue": "a b"}, "invalid-request", "queue", '; got "a b"'),
        ({"priority": 10}, "invalid-request", "priority", "; got 10"),
        ({"max_attempts": 0}, "invalid-request", "max_attempts", "; got 0"),
        ({"task": "a b"}, "invalid-request", "task", '; got "a b"'),
        ({"misfire": "never"}, "invalid-request", "misfire", 'misfire must be one of latest, all, skip; got "never"'),
        ({"task": "nothing"}, "unknown-task", "task", '"nothing"'),
        ({"args": {"x": "one"}}, "invalid-arguments", "args", "x"),
        ({"every": 5}, "invalid-request", "every", "every"),
        ({"cron": 5}, "invalid-request", "cron", "cron"),
    ],
)
async def test_nonsense_is_refused_and_the_member_named(
    changes: dict[str, object], kind: str, field: str, said: str, http: Http
) -> None:
    status, problem = await ask(http, "POST", "/v1/schedules", NEW | changes)
    assert (status, problem["type"], problem.get("field")) == (422, f"urn:rowlock:problem:{kind}", field)
    assert said in problem["detail"]
    await ask(http, "POST", "/v1/schedules", NEW)
    status, problem = await ask(http, "PATCH", "/v1/schedules/nightly", changes)
    assert (status, problem["type"], problem.get("field")) == (422, f"urn:rowlock:problem:{kind}", field)


async def test_name_that_is_taken_or_is_none_is_said_to_be_the_wrong_member(http: Http) -> None:
    await ask(http, "POST", "/v1/schedules", NEW)
    for name, expected, kind in (("nightly", 409, "schedule-exists"), ("a b", 422, "invalid-request")):
        status, problem = await ask(http, "POST", "/v1/schedules", NEW | {"name": name})
        assert (status, problem["field"], problem["type"]) == (expected, "name", f"urn:rowlock:problem:{kind}")


@pytest.mark.parametrize(
    "method, path",
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/run")],
)
@pytest.mark.parametrize("name", ["none", "%00", "x" * 300])
async def test_unknown_schedule_is_not_found(method: str, path: str, name: str, http: Http) -> None:
    body = {"cron": "@daily"} if method == "PATCH" else None
    status, problem = await ask(http, method, f"/v1/schedules/{name}{path}", body)
    assert (status, problem["type"]) == (404, "urn:rowlock:problem:schedule-not-found")


async def created(http: Http) -> str:
    """The tag of the new schedule `nightly`."""
    _, _, tag = await exchange(http, "POST", "/v1/schedules", NEW)
    assert tag is not None
    return tag


async def test_edit_by_what_somebody_else_has_changed_since_is_refused(http: Http) -> None:
    first = await created(http)
    _, _, shown = await exchange(http, "GET", "/v1/schedules/nightly")
    status, _, second = await exchange(http, "PATCH", "/v1/schedules/nightly", {"priority": 2}, If_Match=str(shown))
    assert status == 200
    for method, body in (("PATCH", {"priority": 3}), ("DELETE", None)):
        status, problem, _ = await exchange(http, method, "/v1/schedules/nightly", body, If_Match=first)
        assert (status, problem["type"]) == (412, "urn:rowlock:problem:schedule-changed")
        assert "Read it again" in problem["detail"]
    assert (await ask(http, "GET", "/v1/schedules/nightly"))[1]["priority"] == 2
    status, _, _ = await exchange(
        http, "PATCH", "/v1/schedules/nightly", {"priority": 4}, If_Match=f"{first}, {second}"
    )
    assert status == 200
    assert (await ask(http, "PATCH", "/v1/schedules/nightly", {"priority": 5}))[0] == 200  # nobody has to say it
    status, _, third = await exchange(http, "PATCH", "/v1/schedules/nightly", {"priority": 6}, If_Match="*")
    assert status == 200
    assert (await exchange(http, "DELETE", "/v1/schedules/nightly", If_Match=str(third)))[0] == 204


async def test_of_two_edits_at_once_by_the_same_tag_one_is_refused(
    http: Http, connection: Connection, direct_url: str
) -> None:
    tag = await created(http)
    blocker = await asyncpg.connect(direct_url)
    try:
        async with blocker.transaction():
            await blocker.execute("SELECT FROM rowlock.schedule FOR UPDATE")
            edits = [
                asyncio.create_task(
                    exchange(http, "PATCH", "/v1/schedules/nightly", {"priority": priority}, If_Match=tag)
                )
                for priority in (1, 2)
            ]

            async def both_wait() -> bool:
                waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                return bool(await connection.fetchval(f"SELECT count(*) {waiting}") == 2)

            await eventually(both_wait)
    finally:
        await blocker.close()
    answers = await asyncio.gather(*edits)
    assert sorted(status for status, _, _ in answers) == [200, 412]
    (priority,) = [answer["priority"] for status, answer, _ in answers if status == 200]
    assert await connection.fetchval("SELECT priority FROM rowlock.schedule") == priority


async def test_pause_is_a_change_but_a_tick_that_fires_and_a_run_are_not(
    http: Http, app: Rowlock, connection: Connection
) -> None:
    await created(http)
    _, shown, tag = await exchange(http, "GET", "/v1/schedules/nightly")
    assert await exchange(http, "GET", "/v1/schedules/nightly", If_None_Match=str(tag)) == (304, None, tag)
    await connection.execute("UPDATE rowlock.schedule SET next_run_at = now() - interval '1 day'")
    async with app.worker():
        await eventually(lambda: connection.fetchval("SELECT count(*) FROM rowlock.schedule_tick"))
    await ask(http, "POST", "/v1/schedules/nightly/run")
    status, fired, other = await exchange(http, "GET", "/v1/schedules/nightly", If_None_Match=str(tag))
    assert (status, len(fired["ticks"]), len(shown["ticks"])) == (200, 1, 0)
    assert other != tag
    status, _, edited = await exchange(http, "PATCH", "/v1/schedules/nightly", {"priority": 2}, If_Match=str(tag))
    assert status == 200
    await ask(http, "POST", "/v1/schedules/nightly/pause")
    status, _, _ = await exchange(http, "PATCH", "/v1/schedules/nightly", {"priority": 3}, If_Match=str(edited))
    assert status == 412


async def test_condition_is_about_a_schedule_that_is_there_and_a_tag_that_is_strong(http: Http) -> None:
    for tag in ("*", '"no.tag"', 'W/"no.tag"'):
        status, problem, _ = await exchange(http, "DELETE", "/v1/schedules/nightly", If_Match=tag)
        assert (status, problem["type"]) == (404, "urn:rowlock:problem:schedule-not-found")
    tag = await created(http)
    for wrong, said in (
        (f"W/{tag}", "without W/"),
        ('"no.tag"', "Read it again"),
    ):
        status, problem, _ = await exchange(http, "DELETE", "/v1/schedules/nightly", If_Match=wrong)
        assert (status, problem["type"]) == (412, "urn:rowlock:problem:schedule-changed")
        assert said in problem["detail"]
    for nonsense in ("", tag.strip('"'), f"{tag} {tag}", f"*, {tag}"):
        status, problem, _ = await exchange(http, "DELETE", "/v1/schedules/nightly", If_Match=nonsense)
        assert (status, problem["field"]) == (422, "If-Match")
    assert (await ask(http, "GET", "/v1/schedules/nightly"))[0] == 200
