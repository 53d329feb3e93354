"""`GET /v1/jobs` and `GET /v1/jobs/{id}`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from rowlock import Rowlock

Http = TestClient[Request, Application]


async def get(http: Http, path: str) -> tuple[int, dict[str, Any]]:
    async with http.get(path) as response:
        return response.status, await response.json(content_type=None)


async def finish(app: Rowlock, job_id: UUID) -> None:
    """Run a worker until the job has ended, however it ends."""
    async with app.worker(concurrency=2):
        handle = app.handle(await app.get(job_id))
        while not (await handle.get()).is_finished:
            await app.database.run("moment")  # the test's own time limit is the deadline


async def test_pages_hold_every_job_once_newest_first(http: Http, app: Rowlock) -> None:
    made = [str((await app.enqueue("echo", {"value": n})).id) for n in range(7)]
    path: str | None = "/v1/jobs?limit=3"
    pages: list[list[str]] = []
    while path is not None:
        status, page = await get(http, path)
        assert status == 200
        pages.append([job["id"] for job in page["jobs"]])
        path = page["next"]
    assert [job for page in pages for job in page] == made[::-1]
    assert [len(page) for page in pages] == [3, 3, 1]


async def test_next_page_keeps_the_filters(http: Http, app: Rowlock) -> None:
    for n in range(3):
        await app.enqueue("echo", {"value": n}, queue="a")
        await app.enqueue("echo", {"value": n}, queue="b")
    _, page = await get(http, "/v1/jobs?queue=a&limit=2")
    _, rest = await get(http, page["next"])
    assert [job["queue"] for job in page["jobs"] + rest["jobs"]] == ["a"] * 3
    assert rest["next"] is None


async def test_a_page_is_read_anew_unless_the_client_allows_it_to_be_old(http: Http, app: Rowlock) -> None:
    async def seen(**headers: str) -> int:
        async with http.get("/v1/jobs", headers=headers) as response:
            return len((await response.json())["jobs"])

    old = {"Cache-Control": "no-transform, max-age=60"}
    assert [await seen(), await seen(**old)] == [0, 0]
    await app.enqueue("echo", {"value": 1})
    assert [await seen(), await seen(**old), await seen(**{"Cache-Control": "max-age=0"})] == [1, 0, 1]
    async with http.post("/v1/jobs/bulk/cancel", json={"filter": {"queue": "default"}}) as response:
        assert response.status == 200, await response.text()
    assert await seen(**old) == 1, "somebody has acted: all is read anew"


async def test_no_jobs_are_an_empty_page(http: Http) -> None:
    assert await get(http, "/v1/jobs") == (200, {"jobs": [], "next": None, "searched_until": None})


async def test_jobs_are_filtered_by_state_queue_and_task(http: Http, app: Rowlock) -> None:
    queued = await app.enqueue("echo")
    later = await app.enqueue("add", {"x": 1}, delay=60)
    for query, expected in (
        ("state=queued", [queued]),
        ("state=scheduled", [later]),
        ("state=failed", []),
        ("queue=sums", [later]),
        ("task=echo", [queued]),
        ("task=echo&state=scheduled", []),
    ):
        _, page = await get(http, f"/v1/jobs?{query}")
        assert [job["id"] for job in page["jobs"]] == [str(handle.id) for handle in expected], query


async def test_jobs_are_found_by_their_metadata_page_by_page(http: Http, app: Rowlock) -> None:
    pro = {"customer": "42", "plan": "pro: now"}
    mine = [str((await app.enqueue("echo", metadata=pro)).id) for _ in range(3)]
    free = str((await app.enqueue("echo", metadata={"customer": "42"})).id)
    await app.enqueue("echo", metadata={"customer": "4", "plan": "pro: now"})
    _, page = await get(http, "/v1/jobs?metadata=customer:42&metadata=plan:pro:%20now&limit=2")
    assert [(job["id"], job["metadata"]) for job in page["jobs"]] == [(mine[2], pro), (mine[1], pro)]
    _, rest = await get(http, page["next"])
    assert [job["id"] for job in rest["jobs"]] == mine[:1]
    _, page = await get(http, "/v1/jobs?metadata=customer:42")
    assert [job["id"] for job in page["jobs"]] == [free, *mine[::-1]]
    assert (await get(http, f"/v1/jobs/{free}"))[1]["metadata"] == {"customer": "42"}
    assert (await get(http, "/v1/jobs?metadata=customer:"))[1]["jobs"] == []


async def test_listed_jobs_come_without_what_can_be_large(http: Http, app: Rowlock) -> None:
    await app.enqueue("echo", {"value": "secret"})
    _, page = await get(http, "/v1/jobs")
    assert not {"args", "result", "attempts"} & page["jobs"][0].keys()
    assert {"id", "task", "queue", "state", "created_at", "run_at"} <= page["jobs"][0].keys()


BAD_PARAMETERS = [
    ("state=done", "state"),
    ("state=", "state"),
    ("limit=0", "limit"),
    ("limit=501", "limit"),
    ("limit=-1", "limit"),
    ("limit=%D9%A3", "limit"),  # a digit, but not of ours
    ("limit=" + "9" * 5000, "limit"),
    ("before=yesterday", "before"),
    ("before=0000", "before"),
    ("queue=%00", "queue"),
    ("task=a%20b", "task"),
    ("task=%ff", "task"),
    ("page=2", "page"),
    ("%00=1", "\u2400"),
    ("limit=1&limit=2", "limit"),
    ("metadata=customer", "metadata"),
    ("metadata=", "metadata"),
    ("metadata=:42", "metadata"),
    ("metadata=a%20b:c", "metadata"),
    ("metadata=a:%0a", "metadata"),
    ("metadata=a:1&metadata=a:2", "metadata"),
]


async def test_bad_parameters_are_refused_by_name(http: Http, subtests: pytest.Subtests) -> None:
    for query, field in BAD_PARAMETERS:
        with subtests.test(query[:50]):
            status, problem = await get(http, f"/v1/jobs?{query}")
            assert status == 422
            assert problem["type"] == "urn:rowlock:problem:invalid-request"
            assert problem.get("field") == field
            assert field in problem["detail"] or field == "\u2400"


async def test_finished_job_shows_its_result_and_no_attempts(http: Http, app: Rowlock) -> None:
    handle = await app.enqueue("add", {"x": 40, "y": 2}, unique="sum")
    await finish(app, handle.id)
    status, job = await get(http, f"/v1/jobs/{handle.id}")
    assert status == 200
    assert (job["id"], job["state"], job["attempt"], job["errors"]) == (str(handle.id), "succeeded", 1, 0)
    assert job["args"] == {"x": 40, "y": 2}
    assert (job["result"], job["error"], job["unique"], job["attempts"]) == ({"sum": 42}, None, "sum", [])
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]


async def test_failed_job_shows_its_attempts(http: Http, app: Rowlock) -> None:
    handle = await app.enqueue("explode", {"how": "error"})
    await finish(app, handle.id)
    _, job = await get(http, f"/v1/jobs/{handle.id}")
    assert (job["state"], job["result"]) == ("failed", None)
    [attempt] = job["attempts"]
    assert (attempt["attempt"], attempt["outcome"]) == (1, "error")
    assert (attempt["error_type"], attempt["message"]) == ("ValueError", "no good")
    assert "raise" in attempt["traceback"]
    assert UUID(attempt["worker"]).version == 7
    assert attempt["started_at"] <= attempt["finished_at"]


async def test_job_written_in_sql_is_shown_with_its_numbers_as_they_are(
    http: Http, connection: asyncpg.Connection
) -> None:
    number = 10**300 + 1
    job_id = await connection.fetchval(f"SELECT rowlock.enqueue('anything', '{{\"n\": {number}}}')")
    status, job = await get(http, f"/v1/jobs/{job_id}")
    assert (status, job["args"]) == (200, {"n": number})


async def test_job_that_is_known_is_sent_again_once_it_has_changed(http: Http, app: Rowlock) -> None:
    handle = await app.enqueue("echo", {"value": 1})
    async with http.get(f"/v1/jobs/{handle.id}") as response:
        waiting = response.headers["ETag"]
    async with http.get(f"/v1/jobs/{handle.id}", headers={"If-None-Match": waiting}) as response:
        assert (response.status, await response.read(), response.headers["ETag"]) == (304, b"", waiting)
    await finish(app, handle.id)
    async with http.get(f"/v1/jobs/{handle.id}", headers={"If-None-Match": waiting}) as response:
        assert response.status == 200
        assert (await response.json())["state"] == "succeeded"
        assert response.headers["ETag"] != waiting


async def test_unknown_and_malformed_ids_are_not_found(http: Http, subtests: pytest.Subtests) -> None:
    for job_id in ("0192f3a0-0000-7000-8000-000000000000", "1", "%00", "x" * 3000, "%ff", "..%2f", "{}"):
        for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/result"):
            with subtests.test(path[:50]):
                status, problem = await get(http, path)
                assert (status, problem["status"]) == (404, 404)
