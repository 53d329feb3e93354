"""`/v1/queues`, `/v1/limits`, `/v1/workers`, `/v1/tasks` and `/v1/retention`."""

from __future__ import annotations

from typing import Any

from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from rowlock import JobHandle, Rowlock
from tests.waiting import eventually

Http = TestClient[Request, Application]


async def ask(http: Http, method: str, path: str, body: object = None) -> tuple[int, Any]:
    async with http.request(method, path, json=body) as response:
        return response.status, await response.json(content_type=None)


async def state_is(job: JobHandle[Any], state: str) -> bool:
    return (await job.get()).state == state


async def test_queues_are_listed_with_what_their_jobs_do(http: Http, app: Rowlock) -> None:
    await app.enqueue("add", {"x": 1})
    await app.enqueue("add", {"x": 1}, delay=60)
    status, listed = await ask(http, "GET", "/v1/queues")
    (queue,) = [one for one in listed["queues"] if one["name"] == "sums"]
    assert (status, queue["waiting"], queue["scheduled"], queue["running"], queue["workers"]) == (200, 1, 1, 0, 0)
    assert await ask(http, "GET", "/v1/queues/sums") == (200, queue)


async def test_a_queue_is_paused_resumed_and_scaled_and_the_audit_says_so(http: Http) -> None:
    assert (await ask(http, "POST", "/v1/queues/sums/pause"))[1]["paused_at"] is not None
    assert (await ask(http, "POST", "/v1/queues/sums/resume"))[1]["paused_at"] is None
    assert (await ask(http, "POST", "/v1/queues/sums/scale", {"concurrency": 3}))[1]["concurrency"] == 3
    assert (await ask(http, "GET", "/v1/limits"))[1]["queues"] == [{"name": "sums", "concurrency": 3}]
    assert (await ask(http, "POST", "/v1/queues/sums/scale", {"concurrency": None}))[1]["concurrency"] is None
    operations = (await ask(http, "GET", "/v1/operations?target=sums"))[1]["operations"]
    assert [one["verb"] for one in operations] == ["scale", "scale", "resume", "pause"]
    assert {one["source"] for one in operations} == {"http"}


async def test_nonsense_about_queues_is_refused(http: Http) -> None:
    for method, path, body in (
        ("GET", "/v1/queues/a%20b", None),
        ("POST", "/v1/queues/a%00b/pause", None),
        ("POST", "/v1/queues/sums/scale", {"concurrency": 0}),
        ("POST", "/v1/queues/sums/scale", {}),
        ("PUT", "/v1/retention/sums", {"failed": 1}),
        ("PUT", "/v1/retention/sums", {"failed": "soon"}),
    ):
        status, problem = await ask(http, method, path, body)
        assert (status, problem["type"]) == (422, "urn:rowlock:problem:invalid-request"), path
    assert (await ask(http, "GET", "/v1/operations"))[1]["operations"] == []


async def test_a_worker_is_shown_with_its_tasks_and_what_it_runs_and_is_scaled(http: Http, app: Rowlock) -> None:
    job = await app.enqueue("wait_for_release")
    async with app.worker(concurrency=2) as worker:
        await eventually(lambda: state_is(job, "running"))
        (listed,) = (await ask(http, "GET", "/v1/workers"))[1]["workers"]
        assert (listed["id"], listed["concurrency"], listed["running"]) == (str(worker.id), 2, 1)
        status, shown = await ask(http, "GET", f"/v1/workers/{worker.id}")
        assert (status, [one["id"] for one in shown["jobs"]]) == (200, [str(job.id)])
        assert shown["tasks"] == ["add", "echo", "explode", "wait_for_release"]
        assert (await ask(http, "POST", f"/v1/workers/{worker.id}/scale", {"concurrency": 4}))[1]["concurrency"] == 4
        assert (await ask(http, "GET", "/v1/limits"))[1]["workers"][0]["concurrency"] == 4
        app.tasks["wait_for_release"].function.__dict__["release"].set()
        await eventually(lambda: state_is(job, "succeeded"))


async def test_no_such_worker_is_not_found(http: Http) -> None:
    for worker in ("0192f3a0-0000-7000-8000-000000000000", "none"):
        status, problem = await ask(http, "GET", f"/v1/workers/{worker}")
        assert (status, problem["type"]) == (404, "urn:rowlock:problem:worker-not-found")


async def test_registered_tasks_are_listed(http: Http, app: Rowlock) -> None:
    assert await ask(http, "GET", "/v1/tasks") == (200, {"tasks": []})
    async with app.worker():
        pass
    tasks = {task["name"]: task for task in (await ask(http, "GET", "/v1/tasks"))[1]["tasks"]}
    assert tasks["add"].items() >= {"queue": "sums", "priority": 6, "max_attempts": 4, "args_version": 1}.items()


async def test_how_long_jobs_are_kept_is_said_and_shown(http: Http) -> None:
    kept = {"queue": "sums", "succeeded": 86400.0, "failed": "forever", "cancelled": None, "expired": None}
    body = {"succeeded": 86400, "failed": "forever"}
    assert await ask(http, "PUT", "/v1/retention/sums", body) == (200, kept)
    shown = (await ask(http, "GET", "/v1/retention"))[1]
    assert kept in shown["queues"]
    assert {day["jobs"] for day in shown["days"]} == {0}
    assert (await ask(http, "PUT", "/v1/retention/sums", {"failed": "default"}))[1]["failed"] is None


async def test_many_jobs_are_enqueued_all_or_none(http: Http, app: Rowlock) -> None:
    jobs = [{"task": "add", "args": {"x": n}, "unique": f"sum {n % 2}"} for n in range(3)]
    status, answer = await ask(http, "POST", "/v1/jobs/many", {"jobs": jobs})
    assert status == 201
    first, second, third = answer["jobs"]
    assert [one["is_duplicate"] for one in answer["jobs"]] == [False, False, True]
    assert (first["id"], first["task"]) == (third["id"], "add")
    assert second["id"] != first["id"]
    status, problem = await ask(http, "POST", "/v1/jobs/many", {"jobs": [{"task": "echo"}, {"task": "add"}]})
    assert (status, problem["type"]) == (422, "urn:rowlock:problem:invalid-arguments")
    assert len(await app.jobs.list()) == 2


async def test_many_jobs_are_enqueued_once_with_an_idempotency_key(http: Http, app: Rowlock) -> None:
    body, answers = {"jobs": [{"task": "echo"}, {"task": "echo"}]}, []
    for _ in range(2):
        async with http.post("/v1/jobs/many", json=body, headers={"Idempotency-Key": "one"}) as response:
            answers.append((response.status, await response.json(), response.headers.get("Idempotency-Replayed")))
    assert [answer[0] for answer in answers] == [201, 201]
    assert (answers[0][1], answers[0][2], answers[1][2]) == (answers[1][1], None, "true")
    assert len(await app.jobs.list()) == 2


async def test_no_jobs_or_too_many_at_once_are_refused(http: Http, app: Rowlock) -> None:
    for count in (0, 1001):
        status, problem = await ask(http, "POST", "/v1/jobs/many", {"jobs": [{"task": "echo"}] * count})
        assert (status, problem["field"]) == (422, "jobs")
    assert await app.jobs.list() == []
