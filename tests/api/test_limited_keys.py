"""Keys that are limited to queues: what other queues have is not there for them, whichever way they ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from rowlock import Rowlock, Unique
from rowlock.api import create_app
from rowlock.queue.operate.keys import Scope
from rowlock.queue.read.pages import list_jobs
from tests.api.conftest import Http

UNIQUE = {"key": "k"}


@pytest.fixture(autouse=True)
def tasks_of_mine(app: Rowlock) -> None:
    """The tasks of the queue `mine`; those of the other tests are of other queues."""

    @app.task(queue="mine")
    async def mine(value: object = None) -> object:
        return value

    @app.task(queue="mine")
    async def another(value: object = None) -> object:
        return value


@pytest.fixture
async def api(app: Rowlock) -> AsyncIterator[Http]:
    async with TestClient(TestServer(create_app(app))) as client:
        yield client


@pytest.fixture
async def limited(app: Rowlock) -> dict[str, str]:
    """The header of somebody who may enqueue and operate in the queue `mine`."""
    return await key_for(app, "limited", ["enqueue", "operate"], ["mine"])


async def key_for(app: Rowlock, name: str, scopes: list[Scope], queues: list[str] | None) -> dict[str, str]:
    key = await app.keys.create(name, scopes=scopes, queues=queues)
    return {"Authorization": f"Bearer {key.text}"}


async def post(http: Http, path: str, body: object, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    async with http.post(path, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def test_jobs_are_enqueued_in_its_queues_alone(api: Http, app: Rowlock, limited: dict[str, str]) -> None:
    assert (await post(api, "/v1/jobs", {"task": "mine"}, limited))[0] == 201
    body = {"task": "mine", "queue": "other"}
    assert (await post(api, "/v1/jobs", body, limited))[0] == 403
    assert (await post(api, "/v1/jobs/many", {"jobs": [{"task": "mine"}, body]}, limited))[0] == 403
    assert [job.queue for job in await list_jobs(app.database)] == ["mine"]


@pytest.mark.parametrize("more", [{}, {"queue": "mine"}])
async def test_a_task_of_another_queue_is_answered_like_one_that_nobody_knows(
    api: Http, app: Rowlock, limited: dict[str, str], more: dict[str, str]
) -> None:
    answers = []
    for task in ("echo", "nope"):
        status, problem = await post(api, "/v1/jobs", {"task": task} | more, limited)
        many = await post(api, "/v1/jobs/many", {"jobs": [{"task": task} | more]}, limited)
        assert (status, problem["type"]) == (many[0], many[1]["type"]) == (422, "urn:rowlock:problem:unknown-task")
        answers.append({name: str(value).replace(task, "…") for name, value in problem.items()})
    assert answers[0] == answers[1]
    assert await list_jobs(app.database) == []


async def test_a_job_of_another_queue_is_answered_like_one_that_is_nowhere(
    api: Http, app: Rowlock, limited: dict[str, str]
) -> None:
    theirs, nowhere = (await app.enqueue("echo")).id, uuid4()
    for path in ("cancel", "reschedule", "retry", "discard", "run-again"):
        answers = []
        for job in (theirs, nowhere):
            status, problem = await post(api, f"/v1/jobs/{job}/{path}", {}, limited)
            answers.append((status, str(problem).replace(str(job), "…")))
        assert answers[0] == answers[1], path
    for path in ("", "/result", "/logs"):
        shown = []
        for job in (theirs, nowhere):
            async with api.get(f"/v1/jobs/{job}{path}", headers=limited) as response:
                shown.append((response.status, (await response.text()).replace(str(job), "…")))
        assert shown[0] == shown[1], path


async def test_keys_across_tasks_are_not_for_those_that_are_limited(api: Http, limited: dict[str, str]) -> None:
    body = {"task": "mine", "unique": {"key": "k", "across_tasks": True}}
    status, problem = await post(api, "/v1/jobs", body, limited)
    assert (status, problem["type"], problem["field"]) == (403, "urn:rowlock:problem:forbidden", "unique")


async def test_a_job_that_is_there_is_replaced_only_by_those_who_may_operate(api: Http, app: Rowlock) -> None:
    handle = await app.tasks["echo"].using(unique=Unique("k"), delay=60).enqueue("first")
    body = {"task": "echo", "args": {"value": "second"}, "unique": {"key": "k", "on_duplicate": "replace"}}
    producer = await key_for(app, "producer", ["enqueue"], None)
    for path, one in (("/v1/jobs", body), ("/v1/jobs/many", {"jobs": [body]})):
        status, problem = await post(api, path, one, producer)
        assert (status, problem["type"], problem["field"]) == (403, "urn:rowlock:problem:forbidden", "unique")
    assert (await app.get(handle.id)).args == {"value": "first"}
    operator = await key_for(app, "operator", ["enqueue", "operate"], None)
    assert (await post(api, "/v1/jobs", body, operator))[0] == 200
    assert (await app.get(handle.id)).args == {"value": "second"}


async def test_who_may_not_read_is_told_the_id_alone(api: Http, app: Rowlock) -> None:
    theirs = await app.tasks["echo"].using(unique=Unique("k"), tags=["secret"]).enqueue()
    producer = await key_for(app, "producer", ["enqueue"], None)
    assert (await post(api, "/v1/jobs", {"task": "echo", "unique": "k"}, producer)) == (
        200,
        {"id": str(theirs.id), "is_duplicate": True},
    )
    status, new = await post(api, "/v1/jobs", {"task": "echo"}, producer)
    assert (status, set(new), new["is_duplicate"]) == (201, {"id", "is_duplicate"}, False)
    across = {"key": "across", "across_tasks": True}
    await app.tasks["mine"].using(unique=Unique("across", across_tasks=True)).enqueue()
    _, many = await post(api, "/v1/jobs/many", {"jobs": [{"task": "echo", "unique": across}]}, producer)
    assert [(one["task"], one["is_duplicate"]) for one in many["jobs"]] == [("echo", True)]


async def test_who_may_not_read_any_more_is_told_the_id_alone_when_a_request_is_repeated(
    api: Http, app: Rowlock
) -> None:
    await app.tasks["mine"].using(unique=Unique("across", across_tasks=True)).enqueue()
    one = {"task": "echo", "tags": ["secret"]}
    many = {"jobs": [{"task": "echo", "unique": {"key": "across", "across_tasks": True}}]}
    keys: list[list[Scope]] = [["enqueue", "read"], ["enqueue"], ["enqueue", "read"]]
    for scopes in keys:
        headers = await key_for(app, "shop", scopes, None) | {"Idempotency-Key": "k"}
        status, job = await post(api, "/v1/jobs", one, headers)
        _, several = await post(api, "/v1/jobs/many", many, headers)
        (task,) = (each["task"] for each in several["jobs"])
        await app.keys.revoke("shop")
        if "read" in scopes:
            assert (status, job["tags"], task) == (201, ["secret"], "mine")
        else:
            assert (status, set(job), job["is_duplicate"], task) == (201, {"id", "is_duplicate"}, False, "echo")
    assert len(await list_jobs(app.database)) == 2


@pytest.mark.parametrize("on_duplicate", ["return", "raise", "replace", "skip"])
@pytest.mark.parametrize("way", ["one", "one again", "many"])
async def test_unique_key_does_not_lead_to_a_job_of_another_queue(
    api: Http, app: Rowlock, limited: dict[str, str], on_duplicate: str, way: str
) -> None:
    everything = await key_for(app, "all", ["admin"], None)
    theirs = {"task": "mine", "queue": "theirs", "args": {"value": "secret"}, "unique": UNIQUE}
    _, holder = await post(api, "/v1/jobs", theirs, everything)
    mine = {"task": "mine", "queue": "mine", "unique": UNIQUE | {"on_duplicate": on_duplicate}}
    headers = limited | ({"Idempotency-Key": "k"} if way == "one again" else {})
    path, body = ("/v1/jobs/many", {"jobs": [mine]}) if way == "many" else ("/v1/jobs", mine)
    for _ in range(2):
        status, problem = await post(api, path, body, headers)
        assert (status, problem["type"]) == (409, "urn:rowlock:problem:duplicate-job")
        assert holder["id"] not in str(problem)
    (job,) = await list_jobs(app.database)
    assert (str(job.id), job.queue, job.args) == (holder["id"], "theirs", {"value": "secret"})


async def test_unique_key_leads_to_a_job_of_its_own_queue(api: Http, limited: dict[str, str]) -> None:
    body = {"task": "mine", "queue": "mine", "unique": UNIQUE}
    _, first = await post(api, "/v1/jobs", body, limited)
    status, second = await post(api, "/v1/jobs", body, limited)
    assert (status, second["id"], second["is_duplicate"]) == (200, first["id"], True)
    other = body | {"unique": {"key": "other"}}
    status, many = await post(api, "/v1/jobs/many", {"jobs": [body, other, other]}, limited)
    assert status == 201
    assert [job["is_duplicate"] for job in many["jobs"]] == [True, False, True]
    assert (many["jobs"][0]["id"], many["jobs"][2]["id"]) == (first["id"], many["jobs"][1]["id"])
    status, problem = await post(api, "/v1/jobs", body | {"unique": UNIQUE | {"on_duplicate": "raise"}}, limited)
    assert (status, problem["job_id"]) == (409, first["id"])


async def test_job_that_holds_the_key_is_not_named_when_it_may_be_of_another_queue(
    api: Http, app: Rowlock, limited: dict[str, str]
) -> None:
    everything = await key_for(app, "all", ["admin"], None)
    _, mine = await post(api, "/v1/jobs", {"task": "mine", "queue": "mine", "unique": UNIQUE}, limited)
    await app.jobs.cancel(mine["id"])
    _, theirs = await post(api, "/v1/jobs", {"task": "mine", "queue": "theirs", "unique": UNIQUE}, everything)
    status, problem = await post(api, f"/v1/jobs/{mine['id']}/retry", {}, limited)
    assert (status, problem["type"]) == (409, "urn:rowlock:problem:key-held")
    assert theirs["id"] not in str(problem)
    assert theirs["id"] in str((await post(api, f"/v1/jobs/{mine['id']}/retry", {}, everything))[1])


async def test_jobs_of_other_queues_are_not_there(api: Http, app: Rowlock, limited: dict[str, str]) -> None:
    theirs = await app.enqueue("echo", queue="theirs")
    for path in ("", "/logs", "/result"):
        async with api.get(f"/v1/jobs/{theirs.id}{path}", headers=limited) as response:
            assert response.status == 404, path
    async with api.get(f"/v1/events?job={theirs.id}", headers=limited) as response:
        assert response.status == 404
    for act in ("cancel", "retry", "discard", "run-again"):
        assert (await post(api, f"/v1/jobs/{theirs.id}/{act}", {}, limited))[0] == 404, act
    assert (await app.get(theirs.id)).state == "queued"


async def test_lists_have_the_jobs_of_its_queues_alone(api: Http, app: Rowlock, limited: dict[str, str]) -> None:
    for queue in ("mine", "theirs"):
        await app.enqueue("echo", queue=queue)
        await app.enqueue("explode", {"how": "fail"}, queue=queue)
    await app.worker(queues=["mine", "theirs"]).drain()
    for queue in ("mine", "theirs"):
        await app.enqueue("echo", {"value": 1}, queue=queue)

    async def read(path: str) -> Any:  # noqa: ANN401  # JSON
        async with api.get(path, headers=limited) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    for path, count in (("/v1/jobs", 3), ("/v1/jobs?state=queued", 1), ("/v1/jobs?state=succeeded", 1)):
        jobs = (await read(path))["jobs"]
        assert [job["queue"] for job in jobs] == ["mine"] * count, path
    for path in ("/v1/jobs?queue=theirs", "/v1/dead-letters?queue=theirs", '/v1/jobs?queue=theirs&args={"value":1}'):
        assert (await read(path))["jobs"] == [], path
    assert [job["queue"] for job in (await read("/v1/dead-letters"))["jobs"]] == ["mine"]
    assert [group["jobs"] for group in (await read("/v1/dead-letters/groups"))["groups"]] == [1]
    assert [queue["name"] for queue in (await read("/v1/queues"))["queues"]] == ["mine"]
    assert [queue["name"] for queue in (await read("/v1/overview"))["queues"]] == ["mine"]


async def test_acts_on_many_are_done_to_its_queues_alone(api: Http, app: Rowlock, limited: dict[str, str]) -> None:
    @app.task(name="fails", queue="mine", max_attempts=1)
    async def fails() -> None:
        raise ValueError("no")

    for queue in ("mine", "theirs"):
        await app.enqueue("fails", queue=queue)
    await app.worker(queues=["mine", "theirs"]).drain()
    for act in ("retry", "cancel"):
        for which, count in (({"queue": "theirs"}, 0), ({}, 1)):
            body = {"filter": which, "everything": True}
            for dry_run in (True, False):
                path = f"/v1/jobs/bulk/{act}"
                status, done = await post(api, path, body | {"dry_run": dry_run}, limited)
                assert (status, done["count"]) == (200, count), (act, which, dry_run)
    assert {job.queue: job.state for job in await list_jobs(app.database)} == {"mine": "cancelled", "theirs": "failed"}


@pytest.mark.parametrize("task", ["explode", "of_another_deploy"])
@pytest.mark.parametrize("act, body", [("retry", {}), ("retry", {"args": {}}), ("run-again", {"args": {}})])
async def test_a_job_of_a_task_of_another_queue_does_not_run_again_though_it_is_in_one_of_its_queues(
    *,
    task: str,
    act: str,
    body: dict[str, Any],
    api: Http,
    app: Rowlock,
    limited: dict[str, str],
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    job = await connection.fetchval("SELECT rowlock.enqueue($1, queue => 'mine', delay => '1 hour')", task)
    await app.jobs.cancel(job)
    status, problem = await post(api, f"/v1/jobs/{job}/{act}", body, limited)
    assert (status, problem["type"]) == (403, "urn:rowlock:problem:forbidden")
    many = {"filter": {"state": "cancelled"}}
    status, done = await post(api, "/v1/jobs/bulk/retry", many, limited)
    assert (status, done["count"], done["skipped"]) == (200, 0, 1)
    assert [(one.id, one.state) for one in await list_jobs(app.database)] == [(job, "cancelled")]


@pytest.mark.parametrize("is_registered", [True, False])
async def test_a_job_of_its_own_task_runs_again(
    api: Http,
    app: Rowlock,
    limited: dict[str, str],
    connection: asyncpg.Connection[asyncpg.Record],
    *,
    is_registered: bool,
) -> None:
    task = "elsewhere" if is_registered else "mine"
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts) VALUES ('elsewhere', 'mine', 2, 3)"
    )
    job = (await app.enqueue(task, delay=3600)).id
    for act, status, body in (
        ("run-again", 201, {"args": {}}),
        ("retry", 200, {}),
        ("bulk/retry", 200, {"filter": {"state": "cancelled"}}),
    ):
        await app.jobs.cancel(job)
        path = f"/v1/jobs/{act}" if act == "bulk/retry" else f"/v1/jobs/{job}/{act}"
        told, done = await post(api, path, body, limited)
        assert told == status, done
        if act == "run-again":
            job = done["id"]
    assert (await app.get(job)).state == "queued"


async def test_a_job_is_moved_between_its_queues_alone(api: Http, app: Rowlock) -> None:
    key = await key_for(app, "both", ["operate"], ["mine", "also-mine"])
    job = await app.enqueue("mine", delay=3600)
    path = f"/v1/jobs/{job.id}/reschedule"
    status, problem = await post(api, path, {"queue": "theirs"}, key)
    assert (status, problem["type"], problem["field"]) == (403, "urn:rowlock:problem:forbidden", "queue")
    assert (await post(api, path, {"queue": "also-mine"}, key))[0] == 200
    assert (await job.get()).queue == "also-mine"
    many = {"filter": {"task": "mine"}, "queue": "mine"}
    status, problem = await post(api, "/v1/jobs/bulk/reschedule", many, key)
    assert (status, problem["field"]) == (403, "queue")
    status, done = await post(api, "/v1/jobs/bulk/reschedule", {"everything": True, "delay": 0}, key)
    assert (status, done["count"]) == (200, 1)


@pytest.mark.parametrize("task", ["echo", "of_another_deploy"])
async def test_a_job_of_a_task_of_another_queue_is_not_moved(
    task: str, api: Http, app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    key = await key_for(app, "both", ["operate"], ["mine", "also-mine"])
    job = await connection.fetchval("SELECT rowlock.enqueue($1, queue => 'mine', delay => '1 hour')", task)
    path = f"/v1/jobs/{job}/reschedule"
    assert (await post(api, path, {"delay": 0}, key))[0] == 200
    status, problem = await post(api, path, {"queue": "also-mine"}, key)
    assert (status, problem["type"], problem["field"]) == (403, "urn:rowlock:problem:forbidden", "queue")
    assert (await app.get(job)).queue == "mine"


async def test_each_request_needs_one_connection(
    api: Http, limited: dict[str, str], connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """More of them than the pool has connections, for a task that has to be looked up."""
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts) VALUES ('elsewhere', 'mine', 2, 3)"
    )
    body = {"task": "elsewhere"}
    answers = await asyncio.wait_for(asyncio.gather(*(post(api, "/v1/jobs", body, limited) for _ in range(25))), 8)
    assert {status for status, _ in answers} == {201}


async def test_unknown_task_does_not_lead_to_the_names_of_others(
    api: Http, app: Rowlock, limited: dict[str, str]
) -> None:
    blind = await key_for(app, "blind", ["enqueue"], None)
    for headers in (limited, blind):
        for path, body in (("/v1/jobs", {"task": "nope"}), ("/v1/jobs/many", {"jobs": [{"task": "nope"}]})):
            status, problem = await post(api, path, body, headers)
            assert (status, problem["type"].rpartition(":")[2]) == (422, "unknown-task")
            assert '"nope"' in problem["detail"]
            assert "explode" not in str(problem)
    status, problem = await post(api, "/v1/jobs", {"task": "nope"}, await key_for(app, "ada", ["admin"], None))
    assert "explode" in problem["detail"]
