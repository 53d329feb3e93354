"""Versions of arguments: who takes which job, what its code sees of it, and what the rows keep."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import CallNext, InvalidArguments, InvalidOption, Job, JobHandle, Rowlock, Settings, Task, Unique
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from tests import process_tasks
from tests.logged import capture_logs
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Greet: TypeAlias = Task[..., str]


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=timedelta(milliseconds=50))


@pytest.fixture
async def old(settings: Settings) -> AsyncIterator[Rowlock]:
    """An application of yesterday: `greet(name)`."""
    async with Rowlock(settings=settings) as app:

        @app.task
        async def greet(name: str) -> str:
            return f"old {name}"

        yield app


@pytest.fixture
async def new(settings: Settings) -> AsyncIterator[Rowlock]:
    """The same of today: `greet(who, locale)`, after two changes."""
    async with Rowlock(settings=settings) as app:

        @app.task(version=3, max_attempts=2, backoff=0)
        async def greet(who: str, locale: str) -> str:
            return f"new {who} in {locale}"

        @greet.upcast(from_version=1)
        def _(args: dict[str, Any]) -> dict[str, Any]:
            args["who"] = args.pop("name")
            return args

        @greet.upcast(from_version=2)
        def _(args: dict[str, Any]) -> dict[str, Any]:
            return {**args, "locale": "en"}

        yield app


async def stored(connection: Connection, job_id: UUID) -> tuple[str, int, dict[str, Any]]:
    row = await connection.fetchrow("SELECT state, args_version, args::text FROM rowlock.jobs WHERE id = $1", job_id)
    assert row is not None
    return row["state"], row["args_version"], Job.from_row({**dict.fromkeys(NEEDED), "args": row["args"]}).args


NEEDED = ["id", "state", "queue", "task", "priority", "attempt", "max_attempts", "errors", "crashes"]
NEEDED += ["created_at", "run_at"]


async def test_new_code_runs_old_jobs_with_arguments_of_its_own_and_the_row_keeps_what_was_enqueued(
    old: Rowlock, new: Rowlock, connection: Connection
) -> None:
    job = await old.tasks["greet"].enqueue("Ada")
    assert await new.worker().drain() == 1
    assert await new.handle(await new.get(job.id)).result(timeout=5) == "new Ada in en"
    assert await stored(connection, job.id) == ("succeeded", 1, {"name": "Ada"})


async def test_an_old_worker_leaves_new_jobs_to_new_ones(old: Rowlock, new: Rowlock, connection: Connection) -> None:
    job = await new.tasks["greet"].enqueue("Ada", locale="fr")
    mine = await old.tasks["greet"].enqueue("Bob")
    assert await old.worker().drain() == 1
    assert await mine.result(timeout=5) == "old Bob"
    assert await stored(connection, job.id) == ("queued", 3, {"who": "Ada", "locale": "fr"})
    assert await new.worker().drain() == 1
    assert await job.result(timeout=5) == "new Ada in fr"


async def test_a_job_of_a_version_from_which_nothing_leads_here_waits(
    old: Rowlock, settings: Settings, connection: Connection
) -> None:
    job = await old.tasks["greet"].enqueue("Ada")
    async with Rowlock(settings=settings) as app:

        @app.task(version=3)
        async def greet(who: str) -> str:
            return who

        @greet.upcast(from_version=1)
        def _(args: dict[str, Any]) -> dict[str, Any]:
            return args  # leads to 2, from where nothing leads on

        with capture_logs() as logs:
            async with app.worker() as worker:
                row = await connection.fetchrow("SELECT tasks FROM rowlock.worker WHERE id = $1", worker.id)
        assert row is not None
        assert row["tasks"] == ["greet@3"]
        (gap,) = (line for line in logs if line["event"] == "upcasters_missing")
        assert (gap["task"], gap["version"], gap["from_versions"]) == ("greet", 3, [2])
        assert await app.worker().drain() == 0
        assert (await app.get(job.id)).state == "queued"
    assert await old.worker().drain() == 1


async def test_a_job_on_its_last_chance_is_left_to_workers_that_understand_it(
    old: Rowlock, new: Rowlock, connection: Connection
) -> None:
    job = await new.tasks["greet"].enqueue("Ada", "fr")
    await connection.execute("UPDATE rowlock.job SET crashes = 2")
    assert await old.worker().drain() == 0
    assert (await new.get(job.id)).state == "queued"
    assert await new.worker().drain() == 1


async def test_a_job_that_others_understand_is_not_left_behind(new: Rowlock, connection: Connection) -> None:
    await new.tasks["greet"].enqueue("Ada", "fr")
    passed = [["default"], [5], [datetime(9999, 1, 1, tzinfo=UTC)], [UUID(int=0)]]
    left = {
        name: await connection.fetchval(statement("late", "rowlock"), *passed, [name], 2)
        for name in ("greet", "greet@2", "greet@3")
    }
    assert left == {"greet": False, "greet@2": False, "greet@3": True}


@pytest.mark.parametrize("how", ["raises", "returns a list", "returns what JSON cannot hold", "does not fit"])
async def test_a_broken_upcaster_fails_the_attempt_until_the_next_deploy_repairs_it(
    how: str, old: Rowlock, new: Rowlock, settings: Settings, connection: Connection
) -> None:
    job = await old.tasks["greet"].enqueue("Ada")
    async with Rowlock(settings=settings) as broken:

        @broken.task(name="greet", version=2, backoff=0.01)
        async def greet(who: str) -> str:
            return who

        @greet.upcast(from_version=1)
        def step(args: dict[str, Any]) -> Any:  # noqa: ANN401  # whatever is wrong
            match how:
                case "raises":
                    return {"who": args["nickname"]}
                case "returns a list":
                    return ["Ada"]
                case "returns what JSON cannot hold":
                    return {"who": object()}
                case _:
                    return {"whom": "Ada"}

        async with broken.worker():

            async def has_failed() -> asyncpg.Record | None:
                return await connection.fetchrow("SELECT error_type, message, traceback FROM rowlock.attempt LIMIT 1")

            attempt = await eventually(has_failed)
    assert attempt["error_type"] == "InvalidArguments"
    said = {
        "raises": r"arguments of version 1: their upcaster .*step raised KeyError",
        "returns a list": r"step must return the arguments as a dict; got list",
        "returns what JSON cannot hold": r"step returned a value that JSON cannot contain",
        "does not fit": r"Task 'greet': arguments: .*whom",
    }[how]
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(attempt["message"])
    assert ("nickname" in attempt["traceback"]) == (how == "raises"), "the cause is told"
    state, version, args = await stored(connection, job.id)
    assert (state, version, args) == ("retrying", 1, {"name": "Ada"})
    async with new.worker():
        assert await new.handle(await new.get(job.id)).result(timeout=10) == "new Ada in en"


async def test_what_runs_in_the_worker_sees_its_own_version(old: Rowlock, settings: Settings) -> None:
    seen: list[tuple[str, int, dict[str, Any]]] = []
    async with Rowlock(settings=settings) as app:

        @app.task(version=2, max_attempts=1)
        def greet(job: Job, who: str) -> None:
            assert threading.current_thread() is not threading.main_thread()
            seen.append(("handler", job.args_version, job.args))
            raise ValueError(who)

        @greet.upcast(from_version=1)
        def _(args: dict[str, Any]) -> dict[str, Any]:
            return {"who": args["name"]}

        @app.middleware
        async def note(job: Job, call_next: CallNext) -> object:
            seen.append(("middleware", job.args_version, job.args))
            return await call_next()

        @app.on_failure
        async def tell(job: Job, _error: BaseException) -> None:
            seen.append(("on_failure", job.args_version, job.args))

        job = await old.tasks["greet"].using(max_attempts=1).enqueue("Ada")
        await app.worker().drain()
        assert seen == [(where, 2, {"who": "Ada"}) for where in ("middleware", "handler", "on_failure")]
        read = await app.get(job.id)
        assert (read.state, read.args_version, read.args) == ("failed", 1, {"name": "Ada"})


async def test_a_process_is_given_arguments_of_its_own_version(settings: Settings, connection: Connection) -> None:
    async with Rowlock(settings=settings) as app:
        add = app.task(executor="process", version=2, name="add")(process_tasks.add)

        @add.upcast(from_version=1)
        def _(args: dict[str, Any]) -> dict[str, Any]:
            return {"a": args["x"], "b": args["y"]}

        await connection.execute("""SELECT rowlock.enqueue('add', '{"x": 2, "y": 3}')""")
        (job,) = await app.jobs.list()
        await app.worker().drain()
        assert await app.handle(job).result(timeout=5) == 5


@dataclass
class Greeting:
    who: str


async def test_a_batch_has_old_and_new_jobs_all_with_arguments_of_its_own_version(
    old: Rowlock, settings: Settings
) -> None:
    calls: list[list[str]] = []
    async with Rowlock(settings=settings) as app:

        @app.task(version=2, batch=2, batch_wait=5)
        async def greet(greetings: list[Greeting]) -> None:
            calls.append(sorted(greeting.who for greeting in greetings))

        @greet.upcast(from_version=1)
        def _(args: dict[str, Any]) -> dict[str, Any]:
            return {"greetings": {"who": args["name"]}}

        await old.tasks["greet"].enqueue("Ada")
        await greet.enqueue(Greeting("Bob"))
        assert await app.worker().drain() == 2
        assert {job.state for job in await app.jobs.list()} == {"succeeded"}
    assert calls == [["Ada", "Bob"]]


Enqueue: TypeAlias = Callable[[Rowlock, Connection], Awaitable[JobHandle[Any]]]


async def in_bulk(app: Rowlock, into: Connection | None = None, **options: Any) -> JobHandle[Any]:  # noqa: ANN401  # options
    job = app.tasks["greet"].using(**options).job("Ada", "fr")
    return (await (app.enqueue_many([job]) if into is None else app.enqueue_many([job], connection=into)))[0]


WAYS: dict[str, Enqueue] = {
    "plain": lambda app, _: app.tasks["greet"].enqueue("Ada", "fr"),
    "timed": lambda app, _: app.tasks["greet"].using(timeout=5).enqueue("Ada", "fr"),
    "in a transaction": lambda app, c: app.tasks["greet"].using(connection=c).enqueue("Ada", "fr"),
    "by name": lambda app, _: app.enqueue("greet", {"who": "Ada", "locale": "fr"}),
    "copied": lambda app, _: in_bulk(app),
    "copied with a time": lambda app, _: in_bulk(app, timeout=5),
    "copied with a key": lambda app, _: in_bulk(app, unique="k"),
    "inserted in bulk": in_bulk,
    "inserted in bulk with a key": lambda app, c: in_bulk(app, c, unique="k"),
}


async def test_every_enqueue_says_of_which_version_its_arguments_are(new: Rowlock, connection: Connection) -> None:
    for name, way in WAYS.items():
        async with connection.transaction():
            job = await way(new, connection)
        assert await stored(connection, job.id) == ("queued", 3, {"who": "Ada", "locale": "fr"}), name
        await connection.execute("TRUNCATE rowlock.job, rowlock.unique_key")


async def test_who_says_nothing_means_version_1_but_for_the_function_itself(
    new: Rowlock, settings: Settings, connection: Connection
) -> None:
    async with new.worker():
        pass  # it registers the task
    sql = await connection.fetchval("""SELECT rowlock.enqueue('greet', '{"name": "Ada"}')""")
    said = await connection.fetchval("""SELECT rowlock.enqueue('greet', '{"who": "Ada"}', args_version => 2)""")
    async with Rowlock(settings=settings) as stranger:
        by_name = (await stranger.enqueue("greet", {"name": "Ada"})).id
        by_name_2 = (await stranger.enqueue("greet", {"who": "Ada"}, args_version=2)).id
    ids = {sql: 1, said: 2, by_name: 1, by_name_2: 2}
    assert {job: (await stored(connection, job))[1] for job in ids} == ids
    assert await connection.fetchval("SELECT args_version FROM rowlock.task WHERE name = 'greet'") == 3
    assert await new.worker().drain() == 4
    results = [await new.handle(await new.get(job)).result(timeout=5) for job in ids]
    assert results == ["new Ada in en"] * 4


async def test_arguments_of_an_older_version_are_checked_as_the_function_will_have_them(
    new: Rowlock, connection: Connection
) -> None:
    by_name = Unique(by=["who"])
    job = await new.enqueue("greet", {"name": "Ada"}, args_version=1, unique=by_name)
    assert await stored(connection, job.id) == ("queued", 1, {"name": "Ada"})
    same = await new.enqueue("greet", {"who": "Ada", "locale": "en"}, unique=by_name)
    assert (same.id, same.is_duplicate) == (job.id, True), "it means the same"
    with pytest.raises(InvalidArguments, match=r"version 1: their upcaster .* raised KeyError"):
        await new.enqueue("greet", {"who": "Ada", "locale": "en"}, args_version=1)
    with pytest.raises(InvalidArguments, match="argument 'who'"):
        await new.enqueue("greet", {"name": 7}, args_version=1)
    newer = await new.enqueue("greet", {"anything": True}, args_version=4)
    assert await stored(connection, newer.id) == ("queued", 4, {"anything": True})


async def test_versions_that_make_no_sense_are_refused(new: Rowlock, connection: Connection) -> None:
    wrong: list[Any] = [0, -1, 32768, 2**31, "2", True, 1.5]
    for version in wrong:
        with pytest.raises(InvalidOption, match=r"args_version must be a whole number from 1 to 32767; got"):
            await new.enqueue("greet", {}, args_version=version)
        with pytest.raises(InvalidOption, match=r"version must be a whole number from 1 to 32767; got"):
            new.task(name="other", version=version)(test_versions_that_make_no_sense_are_refused)
    for version in (0, -1, 32768, None):
        with pytest.raises(asyncpg.InvalidParameterValueError, match=r"args_version .* is out of range"):
            await connection.execute("SELECT rowlock.enqueue('greet', args_version => $1)", version)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


async def test_an_operator_s_new_arguments_are_of_the_code_s_version(
    old: Rowlock, new: Rowlock, settings: Settings, connection: Connection
) -> None:
    job = await old.tasks["greet"].enqueue("Ada")
    await new.jobs.cancel(job.id)
    await new.jobs.retry(job.id)
    assert await stored(connection, job.id) == ("queued", 1, {"name": "Ada"})
    await new.jobs.cancel(job.id)
    async with Rowlock(settings=settings) as stranger:
        await stranger.jobs.retry(job.id, args={"name": "Bob"})
    assert await stored(connection, job.id) == ("queued", 1, {"name": "Bob"})
    await new.jobs.cancel(job.id)
    await new.jobs.retry(job.id, args={"who": "Eve", "locale": "fr"})
    assert await stored(connection, job.id) == ("queued", 3, {"who": "Eve", "locale": "fr"})


async def test_a_replaced_duplicate_has_the_version_of_what_replaces_it(
    old: Rowlock, new: Rowlock, connection: Connection
) -> None:
    rule = Unique("k", on_duplicate="replace")
    job = await old.tasks["greet"].using(unique=rule).enqueue("Ada")
    await new.tasks["greet"].using(unique=rule).enqueue("Bob", "fr")
    assert await stored(connection, job.id) == ("queued", 3, {"who": "Bob", "locale": "fr"})


async def test_the_version_outlives_the_job_however_it_ends(new: Rowlock, connection: Connection) -> None:
    greet = new.tasks["greet"]
    ends: dict[str, UUID] = {}
    ends["succeeded"] = (await greet.enqueue("Ada", "fr")).id
    await new.worker().drain()
    ends["cancelled"] = (await greet.enqueue("Ada", "fr")).id
    await new.jobs.cancel(ends["cancelled"])
    for state, limit in (("expired", {"expires": 30}), ("failed", {"deadline": 30})):
        ends[state] = (await greet.using(**limit).enqueue("Ada", "fr")).id  # type: ignore[arg-type]  # the one or the other
    await connection.execute(
        "UPDATE rowlock.job SET ends_at = now(), deadline = CASE WHEN deadline > now() THEN now() END"
    )
    crashed = (await greet.enqueue("Ada", "fr")).id
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', worker = $2, attempt = 3, crashes = 2 WHERE id = $1",
        crashed,
        uuid7(),
    )
    await connection.execute("UPDATE rowlock.duty SET next_run_at = '-infinity'")
    async with new.worker():

        async def none_is_left() -> bool:
            return bool(await connection.fetchval("SELECT count(*) = 0 FROM rowlock.job"))

        await eventually(none_is_left)
    rows = await connection.fetch("SELECT id, state, args_version FROM rowlock.finished_job")
    assert {row["id"]: row["args_version"] for row in rows} == dict.fromkeys([*ends.values(), crashed], 3)
    assert {row["state"] for row in rows} == set(ends)


async def test_a_schedule_remembers_the_version_of_its_arguments(
    new: Rowlock, settings: Settings, connection: Connection
) -> None:
    new.schedule("greet", "0 0 1 1 *", name="yearly", args={"who": "Ada", "locale": "fr"})
    async with new.worker():
        pass
    job = await new.schedules.run("yearly")
    assert await stored(connection, job.id) == ("queued", 3, {"who": "Ada", "locale": "fr"})
    paused = await new.schedules.pause("yearly")
    assert paused.args_version == 3
    async with Rowlock(settings=settings) as stranger:
        edited = await stranger.schedules.edit("yearly", args={"name": "Bob"})
        made = await stranger.schedules.create("hourly", "greet", "@hourly", args={"name": "Eve"})
    assert (edited.args_version, made.args_version) == (1, 1), "who does not have the function knows of no version"
    assert (await new.schedules.edit("hourly", cron="@daily")).args_version == 1
    assert (await new.schedules.edit("hourly", args={"who": "Eve", "locale": "fr"})).args_version == 3
    await connection.execute(
        "UPDATE rowlock.schedule SET next_run_at = now() - interval '25 hours' WHERE name = 'hourly'"
    )
    async with new.worker():

        async def has_fired() -> UUID | None:
            found: UUID | None = await connection.fetchval(
                "SELECT last_job_id FROM rowlock.schedule WHERE name='hourly'"
            )
            return found

        fired = await eventually(has_fired)
    assert (await stored(connection, fired))[1] == 3


# What nobody takes.


async def test_jobs_that_nobody_takes_are_listed_with_the_reason(
    old: Rowlock, new: Rowlock, connection: Connection
) -> None:
    await new.tasks["greet"].enqueue("Ada", "fr")
    await old.tasks["greet"].enqueue("Ada")
    await old.tasks["greet"].using(queue="email", priority=2).enqueue("Ada")
    await old.tasks["greet"].using(queue="email", priority=7).enqueue("Ada")
    await old.tasks["greet"].using(delay=60).enqueue("Ada")
    await connection.execute("SELECT rowlock.enqueue('unheard_of', args_version => 2)")
    assert {kind.why for kind in await old.unclaimed()} == {"no_worker"}
    await connection.execute("UPDATE rowlock.job SET run_at = run_at - interval '1 hour'")
    async with old.worker(queues=["default"], concurrency=1):
        kinds = await old.unclaimed()
        assert [(kind.task, kind.args_version, kind.queue, kind.jobs, kind.why) for kind in kinds] == [
            ("greet", 1, "email", 2, "no_queue"),
            ("greet", 3, "default", 1, "no_version"),
            ("unheard_of", 2, "default", 1, "no_task"),
        ]
        assert timedelta(hours=1) <= kinds[0].waiting < timedelta(hours=2)
        assert [kind.jobs for kind in await old.unclaimed(limit=1)] == [2]
    with pytest.raises(InvalidOption, match="limit must be a whole number from 1 to 500; got 0"):
        await old.unclaimed(limit=0)


async def test_a_worker_tells_of_jobs_that_nobody_takes_but_not_of_those_that_came_just_now(
    old: Rowlock, new: Rowlock, connection: Connection
) -> None:
    await new.tasks["greet"].enqueue("Ada", "fr")
    await connection.execute("UPDATE rowlock.job SET run_at = run_at - interval '1 hour'")
    await connection.execute("SELECT rowlock.enqueue('unheard_of')")
    done = "SELECT next_run_at > now() FROM rowlock.duty WHERE name = 'unclaimed'"
    with capture_logs() as logs:
        async with old.worker():

            async def has_looked() -> bool:
                return any(line["event"] == "job_unclaimed" for line in logs)

            await eventually(has_looked)
    assert await connection.fetchval(done), "not again within the minute"
    (told,) = (line for line in logs if line["event"] == "job_unclaimed")
    assert (told["task"], told["args_version"], told["queue"], told["jobs"]) == ("greet", 3, "default", 1)
    assert told["why"] == "no_version"
    assert told["waiting"] >= 3600


async def test_a_worker_without_versions_looks_for_plain_names(old: Rowlock, settings: Settings) -> None:
    assert old.tasks["greet"].claimed_as == ["greet"]
    async with Rowlock(settings=replace(settings)) as app:
        task = app.task(version=2, name="greet")(process_tasks.add)
        assert task.claimed_as == ["greet@2"]
        task.upcast(from_version=1)(lambda args: args)
        assert task.claimed_as == ["greet@2", "greet"]
