"""`rowlock jobs watch | result | show`, and what the lists of tasks, limits and workers say, as the real executable."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import pytest

from rowlock import Job, Rowlock
from tests.db.commands import assert_refused, line_with, rowlock, started


@pytest.fixture
def app(database_url: str) -> Rowlock:
    app = Rowlock(database_url)

    @app.task(queue="sums", capture_logs=True)
    async def add(job: Job, one: int, two: int) -> int:
        """Waits for a word, if it is to."""
        await job.progress(0.5, "halfway")
        if one < 0:
            await asyncio.Event().wait()
        return one + two

    @app.task(max_attempts=2, backoff=0)
    async def fail(job: Job) -> None:
        raise ValueError(f"no {job.attempt}")

    return app


async def test_result_is_printed_waited_for_and_missed(database_url: str, app: Rowlock) -> None:
    async with app:
        job = await app.enqueue("add", {"one": 1, "two": 2})
        assert_refused(await rowlock("jobs", "result", str(job.id), url=database_url), "is still queued", code=1)
        waiting = asyncio.create_task(rowlock("jobs", "result", str(job.id), "--wait=30", url=database_url))
        await app.worker().drain()
        done = await waiting
        assert (done.code, done.out, done.err) == (0, "3\n", "")
        told = await rowlock("jobs", "result", str(job.id), "--json", url=database_url)
        expected = {"id": str(job.id), "state": "succeeded", "result": 3, "is_sensitive": False}
        assert json.loads(told.out) == expected
        bad = await app.enqueue("fail")
        await app.worker().drain()
    assert_refused(await rowlock("jobs", "result", str(bad.id), url=database_url), "has failed: ValueError: no 2", 1)
    assert_refused(await rowlock("jobs", "result", str(uuid.uuid4()), url=database_url), "There is no job", code=1)


async def test_watch_follows_a_job_and_ends_as_it_did(database_url: str, app: Rowlock) -> None:
    async with app, app.worker():
        job = await app.enqueue("add", {"one": -1, "two": 2})
        late = await rowlock("jobs", "watch", str(job.id), "--timeout=0.1", url=database_url)
        assert (late.code, "The job goes on" in late.err) == (1, True)
        async with started("jobs", "watch", str(job.id), "--json", url=database_url, cwd=Path("/")) as watching:
            halfway = json.loads(await line_with(watching.stdout, "halfway"))
            assert halfway["progress"] == {"fraction": 0.5, "message": "halfway"}
            assert (halfway["state"], halfway["attempt"]) == ("running", 1)
            await app.jobs.cancel(job.id, by="ada")
            assert json.loads(await line_with(watching.stdout, "cancelled"))["id"] == str(job.id)
            assert await asyncio.wait_for(watching.wait(), 30) == 1
        good = await app.enqueue("add", {"one": 1, "two": 2})
        done = await rowlock("jobs", "watch", str(good.id), url=database_url)
    assert (done.code, done.err) == (0, "")
    assert "succeeded  attempt 1/" in done.out.splitlines()[-1]
    shown = await rowlock("jobs", "show", str(job.id), url=database_url)
    assert "audit:" in shown.out
    assert "cancel" in shown.out.partition("audit:")[2]
    assert "ada" in shown.out.partition("audit:")[2]


async def test_watch_tells_how_earlier_attempts_have_ended(database_url: str, app: Rowlock) -> None:
    async with app:
        job = await app.enqueue("fail")
        await app.worker().drain()
    done = await rowlock("jobs", "watch", str(job.id), url=database_url)
    told = [line.split("  ")[1:] for line in done.out.splitlines()]
    assert told == [["attempt 1 error"], ["failed", "attempt 2/2", "ValueError: no 2"]]
    as_json = json.loads((await rowlock("jobs", "watch", str(job.id), "--json", url=database_url)).out)
    assert as_json["outcomes"] == ["error", "error"]


async def test_watch_tells_that_a_job_was_given_back(database_url: str, app: Rowlock) -> None:
    async with app:
        began = asyncio.Event()

        @app.task
        async def slow(job: Job) -> None:
            began.set()
            if job.attempt == 1:
                await asyncio.Event().wait()

        job = await slow.enqueue()
        async with app.worker() as worker:
            await began.wait()
            worker.stop(grace=0)
        await app.worker().drain()
    done = await rowlock("jobs", "watch", str(job.id), url=database_url)
    assert [line.split("  ")[1] for line in done.out.splitlines()] == ["attempt 1 released", "succeeded"]


async def test_show_has_every_attempt_with_its_traceback(database_url: str, app: Rowlock) -> None:
    async with app:
        job = await app.enqueue("fail")
        await app.worker().drain()
    shown = await rowlock("jobs", "show", str(job.id), "--logs", url=database_url)
    attempts = shown.out.partition("attempts:\n")[2].splitlines()
    assert [line.split()[0] for line in attempts[:3]] == ["ATTEMPT", "1", "2"]
    assert attempts[2].endswith("ValueError: no 2")
    assert shown.out.count("raise ValueError") == 2
    assert shown.out.endswith("logs: none\n")
    told = json.loads((await rowlock("jobs", "show", str(job.id), "--logs", "--json", url=database_url)).out)
    assert (len(told["attempts"]), told["operations"], told["logs"]) == (2, [], [])


async def test_worker_shows_what_it_runs_and_tasks_and_limits_are_listed(database_url: str, app: Rowlock) -> None:
    none = await rowlock("tasks", "list", url=database_url)
    assert (none.code, none.out) == (0, "")
    async with app, app.worker(concurrency=3) as worker:
        job = await app.enqueue("add", {"one": -1, "two": 2})
        await app.queues.scale("sums", 2)
        async with started("jobs", "watch", str(job.id), url=database_url, cwd=Path("/")) as watching:
            await line_with(watching.stdout, "running")
        shown = await rowlock("workers", "show", str(worker.id), url=database_url)
        told = json.loads((await rowlock("workers", "show", str(worker.id), "--json", url=database_url)).out)
        limits = json.loads((await rowlock("limits", "--json", url=database_url)).out)
        listed = await rowlock("limits", url=database_url)
        tasks = await rowlock("tasks", "list", url=database_url)
        await app.jobs.cancel(job.id)
    assert str(job.id) in shown.out.partition("jobs:")[2]
    assert ([one["id"] for one in told["jobs"]], told["tasks"]) == ([str(job.id)], ["add", "fail"])
    assert limits["queues"] == [{"name": "sums", "concurrency": 2}]
    assert [one["concurrency"] for one in limits["workers"]] == [3]
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == ["queue", "worker"]
    assert [line.split()[:2] for line in tasks.out.splitlines()[1:]] == [["add", "sums"], ["fail", "default"]]
