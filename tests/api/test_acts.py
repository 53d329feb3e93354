"""Acts on jobs over HTTP: cancel, reschedule, retry, discard, delete, in bulk, the dead letters, and who did it."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from rowlock import Rowlock
from tests.waiting import eventually

Http = TestClient[Request, Application]


async def post(http: Http, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
    async with (
        http.post(path, json=body, headers=headers)
        if body is not None
        else http.post(path, headers=headers) as response
    ):
        return response.status, await response.json(content_type=None)


async def get(http: Http, path: str) -> dict[str, Any]:
    async with http.get(path) as response:
        assert response.status == 200
        found: dict[str, Any] = await response.json()
        return found


async def failed(app: Rowlock) -> UUID:
    job = await app.enqueue("explode", {"how": "error"})
    await app.worker().drain()
    return job.id


async def test_a_waiting_job_is_cancelled_and_the_audit_names_the_actor(http: Http, app: Rowlock) -> None:
    job = await app.enqueue("echo")
    body = {"reason": "not needed"}
    status, told = await post(http, f"/v1/jobs/{job.id}/cancel", body, **{"X-Rowlock-Actor": "ada"})
    assert (status, told) == (200, {"id": str(job.id), "answer": "cancelled"})
    assert (await get(http, f"/v1/jobs/{job.id}"))["error"] == "Cancelled: not needed"
    (operation,) = (await get(http, f"/v1/operations?target={job.id}"))["operations"]
    assert (operation["verb"], operation["by"], operation["source"]) == ("cancel", "ada", "http")


async def test_a_running_job_is_told_to_stop(http: Http, app: Rowlock) -> None:
    async with app.worker():
        job = await app.enqueue("wait_for_release")
        await eventually(lambda: _state_is(app, job.id, "running"))
        status, told = await post(http, f"/v1/jobs/{job.id}/cancel")
        assert (status, told["answer"]) == (202, "requested")
        await eventually(lambda: _state_is(app, job.id, "cancelled"))


async def _state_is(app: Rowlock, job: UUID, state: str) -> bool:
    return (await app.get(job)).state == state


async def test_a_waiting_job_is_rescheduled_and_run_now(http: Http, app: Rowlock) -> None:
    job = await app.enqueue("echo", delay=3600)
    body = {"run_at": "2031-01-01T12:00:00+02:00", "priority": 9, "queue": "bulk"}
    status, told = await post(http, f"/v1/jobs/{job.id}/reschedule", body, **{"X-Rowlock-Actor": "ada"})
    assert (status, told["state"], told["run_at"]) == (200, "scheduled", "2031-01-01T10:00:00Z")
    assert (told["priority"], told["queue"]) == (9, "bulk")
    status, told = await post(http, f"/v1/jobs/{job.id}/reschedule", {"delay": 0, "queue": None})
    assert (status, told["state"], told["priority"], told["queue"]) == (200, "queued", 9, "bulk")
    _, operation = (await get(http, f"/v1/operations?target={job.id}"))["operations"]
    assert (operation["verb"], operation["by"], operation["source"]) == ("reschedule", "ada", "http")
    assert operation["details"]["before"]["queue"] == "default"


async def test_many_waiting_jobs_are_run_now(http: Http, app: Rowlock) -> None:
    for _ in range(3):
        await app.enqueue("echo", delay=3600)
    body = {"filter": {"task": "echo", "state": "scheduled"}, "delay": 0}
    status, would = await post(http, "/v1/jobs/bulk/reschedule", body | {"dry_run": True})
    assert (status, would["count"], would["is_dry_run"]) == (200, 3, True)
    status, done = await post(http, "/v1/jobs/bulk/reschedule", body)
    assert (status, done["count"], done["skipped"]) == (200, 3, 0)
    assert await app.worker().drain() == 3


async def test_a_finished_job_is_deleted_for_good(http: Http, app: Rowlock) -> None:
    job = await failed(app)
    async with http.delete(f"/v1/jobs/{job}", headers={"X-Rowlock-Actor": "ada"}) as response:
        assert (response.status, await response.text()) == (204, "")
    for path in ("", "/result", "/logs"):
        async with http.get(f"/v1/jobs/{job}{path}") as response:
            assert response.status == 404, path
    async with http.delete(f"/v1/jobs/{job}") as response:
        assert (response.status, (await response.json())["type"]) == (404, "urn:rowlock:problem:job-not-found")
    (operation,) = (await get(http, f"/v1/operations?target={job}"))["operations"]
    assert (operation["verb"], operation["by"], operation["source"]) == ("delete", "ada", "http")


async def test_a_live_job_is_not_deleted(http: Http, app: Rowlock) -> None:
    job = await app.enqueue("echo")
    async with http.delete(f"/v1/jobs/{job.id}") as response:
        assert (response.status, (await response.json())["type"]) == (409, "urn:rowlock:problem:wrong-state")
    assert (await get(http, f"/v1/jobs/{job.id}"))["state"] == "queued"


async def test_a_failed_job_is_retried_with_other_arguments(http: Http, app: Rowlock) -> None:
    job = await failed(app)
    status, told = await post(http, f"/v1/jobs/{job}/retry", {"args": {"how": "cancel"}})
    assert (status, told["id"], told["state"], told["attempt"]) == (200, str(job), "queued", 1)
    assert (await get(http, f"/v1/jobs/{job}"))["args"] == {"how": "cancel"}


async def test_dead_letters_are_listed_grouped_and_discarded(http: Http, app: Rowlock) -> None:
    jobs = [str(await failed(app)) for _ in range(3)]
    page = await get(http, "/v1/dead-letters?limit=2&task=explode")
    assert [job["id"] for job in page["jobs"]] == [jobs[2], jobs[1]]
    rest = await get(http, page["next"])
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == ([jobs[0]], None)
    (group,) = (await get(http, "/v1/dead-letters/groups?error=no+good"))["groups"]
    assert (await get(http, "/v1/dead-letters/groups?error_kind=no+good"))["groups"] == []
    assert (await get(http, "/v1/dead-letters?error_kind="))["jobs"] == []
    assert (await get(http, f"/v1/dead-letters/groups?error_kind={quote(group['error'])}"))["groups"] == [group]
    assert (group["task"], group["error"], group["jobs"]) == ("explode", "ValueError: no good", 3)
    status, told = await post(http, f"/v1/jobs/{jobs[1]}/discard")
    assert (status, told["state"], told["discarded_at"] is not None) == (200, "failed", True)
    assert [job["id"] for job in (await get(http, "/v1/dead-letters"))["jobs"]] == [jobs[2], jobs[0]]


async def test_acts_on_many_take_a_filter_and_a_dry_run(http: Http, app: Rowlock) -> None:
    jobs = [str((await app.enqueue("echo", {"value": n}, queue="a")).id) for n in range(3)]
    body = {"filter": {"queue": "a", "newer_than": 3600, "args": {"value": 1}}}
    status, would = await post(http, "/v1/jobs/bulk/cancel", body | {"dry_run": True})
    assert (status, would) == (
        200,
        {"count": 1, "first_ids": [jobs[1]], "requested": 0, "skipped": 0, "is_dry_run": True},
    )
    assert (await post(http, "/v1/jobs/bulk/cancel", body | {"reason": "enough"}))[1]["count"] == 1
    assert (await post(http, "/v1/jobs/bulk/retry", {"filter": {"state": "cancelled"}}))[1]["first_ids"] == [jobs[1]]
    await failed(app)
    assert (await post(http, "/v1/jobs/bulk/discard", {"everything": True}))[1]["count"] == 1
    found = (await get(http, "/v1/operations?verb=cancel"))["operations"]
    assert [told["details"]["filter"] for told in found] == [body["filter"]]


async def test_acts_and_dead_letters_heed_metadata(http: Http, app: Rowlock) -> None:
    mine, other = [await app.enqueue("explode", {"how": "error"}, metadata={"customer": n}) for n in ("42", "43")]
    await app.worker().drain()
    for path in ("/v1/dead-letters?metadata=customer:42", "/v1/dead-letters/groups?metadata=customer:42"):
        (found,) = (await get(http, path))[{True: "groups", False: "jobs"}["groups" in path]]
        assert found.get("jobs", 1) == 1
    body = {"filter": {"metadata": {"customer": "42"}}}
    assert (await post(http, "/v1/jobs/bulk/retry", body))[1]["first_ids"] == [str(mine.id)]
    assert (await post(http, "/v1/jobs/bulk/cancel", body))[1]["first_ids"] == [str(mine.id)]
    assert (await other.get()).state == "failed"
    nonsense: list[Any] = [{}, {"customer": 42}, {"a b": "c"}, []]
    for metadata in nonsense:
        status, problem = await post(http, "/v1/jobs/bulk/cancel", {"filter": {"metadata": metadata}})
        assert (status, "metadata" in problem["detail"]) == (422, True), problem


async def test_jobs_are_listed_by_every_filter(http: Http, app: Rowlock) -> None:
    job = str(await failed(app))
    await app.enqueue("echo", {"value": 1})
    for query in (
        "error=no+good",
        'args={"how":"error"}',
        "discarded=false&state=failed",
        f"before={uuid4()}&error=no",
    ):
        found = (await get(http, f"/v1/jobs?{query}"))["jobs"]
        assert [one["id"] for one in found] in ([job], []), query
    assert len((await get(http, "/v1/jobs?newer_than=60"))["jobs"]) == 2
    assert (await get(http, "/v1/jobs?older_than=60"))["jobs"] == []
    assert (await get(http, f"/v1/jobs?after={job}&task=explode"))["jobs"] == []


async def test_a_finished_job_is_run_again_as_a_new_one(http: Http, app: Rowlock) -> None:
    old = await failed(app)
    async with http.post(f"/v1/jobs/{old}/run-again", json={"args": {"how": "cancel"}}) as response:
        assert response.status == 201
        new, location = await response.json(), response.headers["Location"]
    assert (new["task"], new["state"]) == ("explode", "queued")
    assert new["id"] != str(old)
    assert (await get(http, location))["args"] == {"how": "cancel"}
    (operation,) = (await get(http, f"/v1/operations?target={old}"))["operations"]
    assert (operation["verb"], operation["source"]) == ("run_again", "http")


@pytest.mark.parametrize(
    "path, body, status, kind",
    [
        ("{none}/cancel", None, 404, "job-not-found"),
        ("{none}/retry", None, 404, "job-not-found"),
        ("{none}/discard", None, 404, "job-not-found"),
        ("no-id/cancel", None, 404, "job-not-found"),
        ("{succeeded}/cancel", None, 409, "wrong-state"),
        ("{succeeded}/retry", None, 409, "wrong-state"),
        ("{succeeded}/discard", None, 409, "wrong-state"),
        ("{none}/run-again", None, 404, "job-not-found"),
        ("{failed}/run-again", {"args": {"nonsense": 1}}, 422, "invalid-arguments"),
        ("{failed}/retry", {"args": {"nonsense": 1}}, 422, "invalid-arguments"),
        ("{failed}/retry", {"arguments": {}}, 422, "invalid-request"),
        ("{failed}/cancel", {"reason": 7}, 422, "invalid-request"),
        ("{none}/reschedule", {"delay": 0}, 404, "job-not-found"),
        ("{succeeded}/reschedule", {"delay": 0}, 409, "wrong-state"),
        ("{limited}/reschedule", {"delay": 7200}, 422, "invalid-request"),
        ("{limited}/reschedule", None, 422, "invalid-request"),
        ("{limited}/reschedule", {"delay": 0, "run_at": "2031-01-01T00:00:00Z"}, 422, "invalid-request"),
        ("{limited}/reschedule", {"run_at": "2031-01-01T00:00:00"}, 422, "invalid-request"),
        ("{limited}/reschedule", {"priority": 10}, 422, "invalid-request"),
        ("{limited}/reschedule", {"queue": "no queue"}, 422, "invalid-request"),
        ("bulk/reschedule", {"filter": {"queue": "email"}}, 422, "invalid-request"),
        ("bulk/reschedule", {"filter": {"state": "running"}, "delay": 0}, 422, "invalid-request"),
        ("bulk/cancel", {}, 422, "invalid-request"),
        ("bulk/cancel", {"filter": {"state": "failed"}}, 422, "invalid-request"),
        ("bulk/retry", {"filter": {"state": "done"}}, 422, "invalid-request"),
        ("bulk/retry", {"filter": {"colour": "red"}}, 422, "invalid-request"),
        ("bulk/discard", {"filter": {"older_than": -1}}, 422, "invalid-request"),
        ("bulk/discard", {"filter": {"after": "yesterday"}}, 422, "invalid-request"),
    ],
)
async def test_what_cannot_be_done_is_a_problem_and_changes_nothing(
    path: str,
    body: object,
    status: int,
    kind: str,
    *,
    http: Http,
    app: Rowlock,
) -> None:
    job = await app.enqueue("echo")
    limited = await app.enqueue("echo", delay=60, deadline=3600)
    places = {"none": uuid4(), "failed": await failed(app), "succeeded": job.id, "limited": limited.id}
    got, problem = await post(http, f"/v1/jobs/{path.format(**places)}", body)
    assert (got, problem["type"]) == (status, f"urn:rowlock:problem:{kind}"), problem
    assert (await get(http, "/v1/operations"))["operations"] == []


async def test_an_actor_that_is_no_name_is_refused(http: Http, app: Rowlock) -> None:
    job = await app.enqueue("echo")
    status, problem = await post(http, f"/v1/jobs/{job.id}/cancel", **{"X-Rowlock-Actor": "x" * 201})
    assert (status, problem["type"]) == (422, "urn:rowlock:problem:invalid-request")
    assert (await job.get()).state == "queued"


@pytest.mark.parametrize(
    "query",
    ["older_than=soon", "newer_than=-1", "after=x", "args=[]", "args={", "discarded=maybe", "error=", "limit=0"],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/dead-letters"])
async def test_a_filter_that_makes_no_sense_is_refused(path: str, query: str, http: Http) -> None:
    async with http.get(f"{path}?{query}") as response:
        assert response.status == 422
        assert query.partition("=")[0] in (await response.json(content_type=None))["detail"]


async def test_due_jobs_that_nobody_takes_are_listed_with_the_reason(http: Http, app: Rowlock) -> None:
    async with http.post("/v1/jobs", json={"task": "echo", "args_version": 2, "args": {"new": True}}) as response:
        assert response.status == 201
        made = await response.json()
    assert made["args_version"] == 2
    assert (await get(http, f"/v1/jobs/{made['id']}"))["args_version"] == 2
    async with app.worker():
        (kind,) = (await get(http, "/v1/unclaimed"))["kinds"]
    assert 0 <= kind.pop("waiting") < 60
    assert kind == {"task": "echo", "args_version": 2, "queue": "default", "jobs": 1, "why": "no_version"}
    async with http.get("/v1/unclaimed?limit=0") as response:
        assert response.status == 422


async def test_an_http_client_that_says_nothing_of_a_version_means_the_first(http: Http, app: Rowlock) -> None:
    @app.task(version=2)
    async def greet(who: str) -> str:
        return who

    greet.upcast(from_version=1)(lambda args: {"who": args["name"]})
    old = await post(http, "/v1/jobs", {"task": "greet", "args": {"name": "Ada"}})
    new = await post(http, "/v1/jobs", {"task": "greet", "args": {"who": "Ada"}, "args_version": 2})
    assert [(status, job["args_version"]) for status, job in (old, new)] == [(201, 1), (201, 2)]
    status, problem = await post(http, "/v1/jobs", {"task": "greet", "args": {"who": "Ada"}})
    assert status == 422
    assert "version 1" in problem["detail"]
    for wrong in (0, 32768):
        status, problem = await post(http, "/v1/jobs", {"task": "greet", "args_version": wrong})
        assert status in {400, 422}
        assert "args_version" in problem["detail"]
    await app.worker().drain()
    assert {job.state for job in await app.jobs.list()} == {"succeeded"}


async def test_a_job_that_is_not_there_is_run_again_by_nobody_over_one_connection_each(http: Http) -> None:
    """More requests than the pool has connections: one that wanted a second one would wait for the others."""
    requests = (post(http, f"/v1/jobs/{uuid4()}/run-again") for _ in range(25))
    answers = await asyncio.wait_for(asyncio.gather(*requests), 8)
    assert {status for status, _ in answers} == {404}
