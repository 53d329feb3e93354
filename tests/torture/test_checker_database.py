"""The audit of a real database, and the histories of real calls, agree; and a hand in the tables is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias
from uuid import UUID, uuid4

import asyncpg

from rowlock import Cancel, Fail, Job, Retry, Rowlock, Settings, Snooze, Unique
from rowlock.queue.jobs.new_job import NewJob
from rowlock.torture.audit import install, write_audit
from rowlock.torture.checker import Report, check
from rowlock.torture.history import Act, Acted, End, Enqueue, Enqueued, History, Start, Wanted
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
How: TypeAlias = Literal["return", "error", "snooze", "fail", "cancel", "stopped"]


class World:
    """An application whose handlers, and whoever calls them, write down what they do."""

    def __init__(self, app: Rowlock, history: History) -> None:
        self.app = app
        self.history = history

        @app.task(backoff=0)
        async def decide(job: Job, what: str) -> dict[str, str]:
            with self.written(job) as answer:
                outcomes: dict[str, Exception] = {
                    "error": ValueError("not yet"),
                    "retry": Retry(0),
                    "snooze": Snooze(0),
                    "fail": Fail(),
                    "cancel": Cancel(),
                }
                if job.attempt <= len(what.split()):
                    raise outcomes[what.split()[job.attempt - 1]]
                return answer

        @app.task(name="torture.exactly_once", backoff=0)
        async def exactly_once(job: Job) -> None:
            with self.written(job) as answer:
                async with job.transaction() as connection:
                    await connection.execute(
                        "INSERT INTO rowlock_audit.effect VALUES ($1, $2, $3)", job.id, job.attempt, answer["run"]
                    )
                    if job.attempt == 1:
                        raise ValueError("not yet")
                    job.set_result(answer)

        @app.task
        async def wait(job: Job) -> None:
            with self.written(job):
                await asyncio.sleep(60)

        self.decide, self.exactly_once, self.wait = decide, exactly_once, wait

    @contextmanager
    def written(self, job: Job) -> Iterator[dict[str, str]]:
        run = uuid4().hex
        how: How = "error"
        self.history.write(Start(job=job.id, attempt=job.attempt, run=run, task=job.task))
        try:
            yield {"run": run}
            how = "return"
        except asyncio.CancelledError:
            how = "stopped"
            raise
        except (Snooze, Fail, Cancel) as directive:
            how = type(directive).__name__.lower()  # type: ignore[assignment]  # one of them
            raise
        finally:
            self.history.write(End(job=job.id, attempt=job.attempt, run=run, how=how))

    async def enqueue(self, job: NewJob[Any]) -> UUID:
        until: Literal["finish", "start"] = "finish"
        if job.options.unique is not None and job.options.unique.until == "start":
            until = "start"
        wanted = Wanted(
            id=job.id, task=job.task, key=job.unique_key, until=until, max_attempts=job.options.max_attempts
        )
        op = uuid4().hex
        self.history.write(Enqueue(op=op, how="own", jobs=[wanted]))
        stored = await self.app.store.enqueue(job)
        is_new = stored == job.id
        self.history.write(
            Enqueued(op=op, outcome="stored" if is_new else "existing", existing=None if is_new else stored)
        )
        return stored

    async def cancel(self, job: UUID) -> None:
        op = uuid4().hex
        self.history.write(Act(op=op, what="cancel", job=job))
        answer = await self.app.jobs.cancel(job)
        self.history.write(Acted(op=op, outcome="requested" if answer == "requested" else "done"))

    async def retry(self, job: UUID) -> None:
        op = uuid4().hex
        self.history.write(Act(op=op, what="retry", job=job))
        await self.app.jobs.retry(job)
        self.history.write(Acted(op=op, outcome="done"))


async def run_all_kinds(world: World) -> None:
    """Let jobs of all kinds run to their ends."""
    decide = world.decide
    for what in ["", "error retry snooze", "fail", "cancel"]:
        await world.enqueue(decide.job(what))
    await world.enqueue(decide.using(max_attempts=1).job("error"))
    await world.enqueue(world.exactly_once.job())
    await world.cancel(await world.enqueue(decide.using(delay=60).job("")))
    for until in ("finish", "start"):
        unique = decide.using(unique=Unique(until, until=until))
        first = await world.enqueue(unique.job("error"))
        assert await world.enqueue(unique.job("")) == first
    await world.app.worker().drain()

    await world.enqueue(decide.using(unique=Unique("finish")).job(""))
    put_back = await world.enqueue(decide.using(max_attempts=1).job("error snooze"))
    running = await world.enqueue(world.wait.job())
    async with world.app.worker():

        async def is_running() -> bool:
            return (await world.app.get(running)).state == "running"

        await eventually(is_running)
        await world.cancel(running)
        for job in (put_back, running):
            await eventually(lambda job=job: has_ended(world.app, job))  # type: ignore[misc]  # of its default
        await world.retry(put_back)
        await eventually(lambda: has_ended(world.app, put_back))


async def has_ended(app: Rowlock, job: UUID) -> bool:
    return (await app.get(job)).is_finished


async def test_real_jobs_leave_a_clean_history_and_a_hand_in_the_tables_is_seen(
    database_url: str, connection: Connection, tmp_path: Path
) -> None:
    async def report() -> Report:
        await write_audit(connection, tmp_path)
        return check(tmp_path)

    await install(connection)
    settings = Settings(database_url=database_url, poll_interval=timedelta(milliseconds=50))
    async with Rowlock(settings=settings) as app:
        with History(tmp_path, "test") as history:
            await run_all_kinds(World(app, history))
    clean = await report()
    assert clean.violations == ()
    assert clean.figures["jobs asked for"] == 14
    assert clean.figures["jobs refused"] == 2
    assert clean.figures["jobs succeeded"] == 7
    assert clean.figures["jobs failed"] == 2
    assert clean.figures["jobs cancelled"] == 3
    assert clean.figures["duplicates justified by error"] == 4
    assert clean.figures["duplicates justified by an operator"] == 1

    await connection.execute("SELECT rowlock.enqueue('decide')")
    broken = await report()
    assert {violation.rule for violation in broken.violations} == {"unexpected", "unfinished"}

    await connection.execute("UPDATE rowlock.job SET attempt = 3")
    assert (await report()).counts["illegal transitions"] == 1

    await connection.execute("DELETE FROM rowlock.finished_job WHERE task = 'torture.exactly_once'")
    counts = (await report()).counts
    assert (counts["lost"], counts["effects"], counts["illegal transitions"]) == (1, 1, 2)

    await connection.execute(
        "INSERT INTO rowlock.finished_job SELECT * FROM rowlock.finished_job WHERE state = 'failed' LIMIT 1"
    )
    assert (await report()).counts["more than one final state"] == 2
