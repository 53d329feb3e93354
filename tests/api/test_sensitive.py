"""What a sensitive task was given and what it produces is nowhere to be seen over HTTP, nor in the terminal."""

from __future__ import annotations

from uuid import UUID

import pytest
import structlog
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from rowlock import Job, JobFilter, Rowlock, Unique
from tests.db.commands import rowlock

Http = TestClient[Request, Application]

SECRET = "hunter2"


@pytest.fixture
async def job(app: Rowlock) -> UUID:
    """A dead letter full of secrets, beside one of a task that has none."""

    @app.task(name="reset", sensitive=True, capture_logs=True, max_attempts=1, unique=Unique(by="arguments"))
    async def reset(job: Job, password: str) -> str:
        structlog.get_logger().warning(f"the password is {password}")
        await job.progress(0.5, f"setting {password}")
        if password.endswith("!"):
            raise ValueError(f"{password} is not good")
        return password

    handle = await reset.enqueue(f"{SECRET}!")
    await reset.enqueue(SECRET)
    await app.enqueue("explode", {"how": "error"})
    await app.worker().drain()
    return handle.id


async def said(http: Http, path: str, method: str = "GET", **more: object) -> str:
    async with http.request(method, path, json=more or None) as response:
        assert response.status < 500, path
        return await response.text()


async def test_no_answer_has_a_secret_in_it(http: Http, app: Rowlock, job: UUID) -> None:
    done = next(one for one in await app.jobs.list(JobFilter(state="succeeded")) if one.task == "reset")
    assert SECRET in f"{done.result}{(await app.get(job)).error}", "Python shows all"
    answers = [
        await said(http, path)
        for one in (job, done.id)
        for path in (f"/v1/jobs/{one}", f"/v1/jobs/{one}/logs", f"/v1/jobs/{one}/result")
    ]
    answers += [
        await said(http, path) for path in ("/v1/jobs", "/v1/dead-letters", "/v1/dead-letters/groups", "/v1/overview")
    ]
    answers.append(await said(http, f"/v1/jobs/{job}/run-again", "POST"))
    answers.append(await said(http, f"/v1/jobs/{job}/retry", "POST"))
    answers.append(await said(http, "/v1/jobs", "POST", task="reset", args={"password": SECRET}))
    answers.append(await said(http, "/v1/operations"))
    assert [answer for answer in answers if SECRET in answer] == []


async def test_what_went_wrong_is_told_by_its_type_alone(http: Http, job: UUID) -> None:
    async with http.get(f"/v1/jobs/{job}") as response:
        shown = await response.json()
    assert (shown["is_sensitive"], shown["args"], shown["error"], shown["unique"]) == (True, None, None, None)
    assert shown["progress"] is None
    (attempt,) = shown["attempts"]
    assert (attempt["error_type"], attempt["message"], attempt["traceback"]) == ("ValueError", None, None)
    async with http.get("/v1/dead-letters/groups") as response:
        groups = {group["task"]: (group["error"], group["is_sensitive"]) for group in (await response.json())["groups"]}
    assert groups == {"reset": ("", True), "explode": ("ValueError: no good", False)}


@pytest.mark.parametrize(
    "query",
    [
        f"text={SECRET}",
        f"error={SECRET}",
        f'args={{"password":"{SECRET}!"}}',
        "error=good",
        f"error_kind=ValueError: {SECRET}! is not good",
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/dead-letters"])
async def test_no_filter_finds_out_what_is_in_it(path: str, query: str, http: Http, job: UUID) -> None:
    async with http.get(f"{path}?{query}&limit=1") as response:
        page = await response.json()
    assert [one["task"] for one in page["jobs"]] == (["explode"] if query == "error=good" else [])
    assert str(job) not in str(page)


async def test_no_bulk_act_finds_out_what_is_in_it(http: Http, app: Rowlock, job: UUID) -> None:
    async with http.post("/v1/jobs/bulk/retry", json={"filter": {"error": SECRET}, "dry_run": True}) as response:
        assert (await response.json())["count"] == 0
    assert (await app.jobs.retry_many(JobFilter(error=SECRET), dry_run=True)).first_ids == [job]


async def test_metadata_and_tags_are_shown_and_found(http: Http, app: Rowlock, job: UUID) -> None:
    marked = await app.tasks["reset"].using(tags=["vip"], metadata={"customer": "42"}, delay=60).enqueue(SECRET * 2)
    for path in (f"/v1/jobs/{marked.id}", "/v1/jobs?metadata=customer:42", "/v1/jobs?tag=vip"):
        shown = await said(http, path)
        assert '"metadata":{"customer":"42"}' in shown
        assert SECRET not in shown


async def test_the_terminal_does_not_show_it_either(app: Rowlock, job: UUID) -> None:
    url = app.settings.database_url
    for words in (
        ("jobs", "list"),
        ("jobs", "show", str(job), "--logs"),
        ("jobs", "show", str(job), "--logs", "--json"),
        ("jobs", "logs", str(job)),
        ("jobs", "result", str(job)),
        ("jobs", "watch", str(job)),
        ("dead-letters", "list"),
        ("dead-letters", "groups"),
        ("top", "--once"),
    ):
        done = await rowlock(*words, url=url)
        assert SECRET not in done.out + done.err, words
