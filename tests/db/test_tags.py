"""Tags and traces: carried from the enqueue to the end, over every way there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
import pytest

from rowlock import Cancel, InvalidOption, Job, NewJob, Retry, Rowlock, Settings, Unique
from tests.db.claimants import hold

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:

        @app.task(max_attempts=2, backoff=0, tags=["usual"])
        async def end(how: str, job: Job) -> list[str]:
            if how == "retry" and job.attempt == 1:
                raise Retry(delay=0)
            if how in {"fail", "cancel"}:
                raise {"fail": ValueError("no good"), "cancel": Cancel("not needed")}[how]
            return [*job.tags, job.trace or ""]

        yield app


def traced(job: NewJob[Any]) -> NewJob[Any]:
    return msgspec.structs.replace(job, options=msgspec.structs.replace(job.options, trace=TRACE))


@pytest.mark.parametrize("how", ["succeed", "retry", "fail", "cancel"])
@pytest.mark.parametrize("way", ["one", "unique", "many", "many unique", "in a transaction"])
async def test_they_stay_with_the_job_however_it_came_and_however_it_ends(
    way: str, how: str, app: Rowlock, connection: Connection
) -> None:
    unique = "key" if "unique" in way else None
    new = traced(app.tasks["end"].using(tags=["a", "b"], unique=unique).job(how))
    if way in {"one", "unique"}:
        await app.store.enqueue(new)
    elif way == "in a transaction":
        async with connection.transaction():
            await app.enqueue_many([new], connection=connection)
    else:
        await app.enqueue_many([new])
    waiting = await app.get(new.id)
    assert (waiting.tags, waiting.trace) == (["usual", "a", "b"], TRACE)
    await app.worker().drain()
    ended = await app.get(new.id)
    assert ended.is_finished
    assert (ended.tags, ended.trace) == (["usual", "a", "b"], TRACE)
    if ended.state == "succeeded":
        assert ended.result == ["usual", "a", "b", TRACE], "its handler saw them too"
    else:
        again = await app.jobs.retry(new.id)
        assert (again.tags, again.trace) == (["usual", "a", "b"], TRACE)


async def test_they_stay_with_a_job_that_never_starts(app: Rowlock, connection: Connection) -> None:
    task = app.tasks["end"]
    cancelled = await task.using(tags=["a"], delay=60).enqueue("succeed")
    await app.jobs.cancel(cancelled.id)
    expired = await task.using(tags=["a"], expires=60).enqueue("succeed")
    await connection.execute("UPDATE rowlock.job SET ends_at = now() - interval '1 second'")
    await app.database.run("end_overdue", 10)
    assert [(await handle.get()).state for handle in (cancelled, expired)] == ["cancelled", "expired"]
    assert [(await handle.get()).tags for handle in (cancelled, expired)] == [["usual", "a"]] * 2


async def test_many_jobs_each_have_their_own(app: Rowlock) -> None:
    end, plain = app.tasks["end"], app.task(name="plain")(lambda: None)
    jobs = [end.using(tags=[f"n{n}"]).job("succeed") for n in range(3)] + [plain.job()]
    handles = await app.enqueue_many(jobs)
    assert [(await handle.get()).tags for handle in handles] == [["usual", f"n{n}"] for n in range(3)] + [[]]


async def test_an_enqueue_by_name_adds_to_those_of_the_task(app: Rowlock) -> None:
    handle = await app.enqueue("end", {"how": "succeed"}, tags=["b", "usual", "b"])
    assert (await handle.get()).tags == ["usual", "b"]


async def test_sql_enqueues_with_tags(app: Rowlock, connection: Connection) -> None:
    job = await connection.fetchval("SELECT rowlock.enqueue('end', '{\"how\": \"succeed\"}', tags => ARRAY['x', 'y'])")
    none = await connection.fetchval("SELECT rowlock.enqueue('end', '{\"how\": \"succeed\"}', tags => '{}')")
    assert [(await app.get(one)).tags for one in (job, none)] == [["x", "y"], []]
    assert await connection.fetchval("SELECT tags FROM rowlock.job WHERE id = $1", none) is None
    assert await connection.fetchval("SELECT tags FROM rowlock.jobs WHERE id = $1", job) == ["x", "y"]


@pytest.mark.parametrize(
    "tags",
    ["ARRAY['']", "ARRAY[repeat('x', 65)]", "ARRAY[E'a\\nb']", "ARRAY[null]", "array_fill('x'::text, ARRAY[21])"],
)
async def test_sql_refuses_tags_that_are_none(tags: str, connection: Connection) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="tag"):
        await connection.fetchval(f"SELECT rowlock.enqueue('end', tags => {tags})")
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


@pytest.mark.parametrize(
    "tags", ["one", 5, [1], [""], ["x" * 65], ["a\nb"], ["\0"], ["\ud800"], [str(n) for n in range(20)]]
)
async def test_tags_that_are_none_are_refused_by_name(tags: Any, app: Rowlock) -> None:  # noqa: ANN401  # nonsense
    with pytest.raises(InvalidOption, match="tags"):
        app.tasks["end"].using(tags=tags)
    if len(tags if isinstance(tags, list) else [tags]) < 20:  # so many are fine, without one of the task's own
        with pytest.raises(InvalidOption, match="tags"):
            app.task(name="other", tags=tags)(lambda: None)


async def test_a_replaced_job_has_the_tags_of_the_newer_one(app: Rowlock) -> None:
    rule = Unique(key="k", on_duplicate="replace")
    first = await app.tasks["end"].using(unique=rule, tags=["old"], delay=60).enqueue("succeed")
    await app.tasks["end"].using(unique=rule, tags=["new"], delay=60).enqueue("succeed")
    assert (await first.get()).tags == ["usual", "new"]


async def test_a_crashed_job_keeps_them_until_it_is_set_aside(app: Rowlock, connection: Connection) -> None:
    job = traced(app.tasks["end"].using(tags=["a"]).job("succeed"))
    await app.store.enqueue(job)
    gone = UUID(int=5)
    await connection.execute("UPDATE rowlock.job SET state = 'running', worker = $1, crashes = 2", gone)
    await hold(connection)
    await connection.execute(
        "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at) "
        "VALUES ($1, 'h', 1, '1', '{}', '{}', 1, now() - interval '1 minute')",
        gone,
    )
    await app.database.run("rescue", 3, 100, False)
    ended = await app.get(job.id)
    assert (ended.state, ended.tags, ended.trace) == ("failed", ["usual", "a"], TRACE)
    assert json.loads(await connection.fetchval("SELECT to_json(tags) FROM rowlock.finished_job")) == ["usual", "a"]
