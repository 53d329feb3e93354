"""An application whose jobs have gone through everything, for the audit to look at."""

from __future__ import annotations

from typing import TypeAlias

import asyncpg

from rowlock import Cancel, Fail, Job, Rowlock, Settings, Snooze, Unique
from rowlock.queue.connect.database import Database
from rowlock.queue.read.audits import Audited, Scope, audit
from rowlock.queue.schedules.schedule import Schedule
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def application(settings: Settings) -> Rowlock:
    app = Rowlock(settings=settings)

    @app.task(backoff=0)
    async def work(job: Job, how: str) -> str:
        await job.save_checkpoint({"half": True})
        match how:
            case "retry" if job.attempt == 1:
                raise ValueError("not yet")
            case "fail":
                raise Fail("makes no sense")
            case "cancel":
                raise Cancel("nothing to do")
            case "snooze" if job.attempt == 1:
                raise Snooze(0)
        return how

    @app.task(schedule=Schedule("* * * * * *", name="each-second"))
    async def tick() -> None: ...

    return app


async def after_work(settings: Settings, connection: Connection) -> Rowlock:
    """An application whose jobs have gone through everything."""
    app = application(settings)
    work = app.tasks["work"]
    for how in ("succeed", "retry", "fail", "cancel", "snooze"):
        await work.enqueue(how)
    for until in ("finish", "start"):
        for _ in range(2):
            await work.using(unique=Unique(until, until=until)).enqueue("retry")
    await work.using(unique=Unique("period", period=3600)).enqueue("succeed")
    await work.using(expires=3600, deadline=7200).enqueue("retry")
    await work.using(delay=3600, expires=7200).enqueue("succeed")
    await work.using(delay=3600, unique=Unique("waits")).enqueue("succeed")
    waiting = await work.using(delay=3600, unique=Unique("cancelled")).enqueue("succeed")
    await app.jobs.cancel(waiting.id)
    await app.jobs.retry(waiting.id)
    ends = await work.using(expires=0.05).enqueue("succeed")
    is_late = "SELECT expires_at <= now() FROM rowlock.job WHERE id = $1"
    await eventually(lambda: connection.fetchval(is_late, ends.id))  # before there is a worker that could start it
    async with app.worker():
        await eventually(lambda: is_over(app, ends.id), timeout=30)
        await eventually(lambda: _has_ticked(app), timeout=30)
        dead = await work.enqueue("fail")
        await eventually(lambda: is_over(app, dead.id), timeout=30)
        await app.jobs.retry(dead.id)
        await eventually(lambda: is_over(app, dead.id), timeout=30)
    return app


async def is_over(app: Rowlock, job: object) -> bool:
    return (await app.get(str(job))).is_finished


async def _has_ticked(app: Rowlock) -> bool:
    return bool(await app.schedules.ticks("each-second"))


async def broken(database: Database, scope: Scope | None = None) -> dict[str, Audited]:
    return {one.invariant: one for one in await audit(database, scope) if one.status == "broken"}


WORKER = "00000000-0000-7000-8000-0000000000aa"
OTHER = "00000000-0000-7000-8000-0000000000bb"
REGISTERED = (
    "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, started_at, expires_at) "
    "VALUES ('{id}', 'here', 1, '1', '{{default}}', '{{work}}', 1, now() - interval '{age}', now() + interval '{left}')"
)
RUNNING = (
    "UPDATE rowlock.job SET state = 'running', attempt = 1, worker = '{worker}', started_at = now() - interval '{age}' "
    "WHERE id = (SELECT id FROM rowlock.job WHERE unique_key IS NULL LIMIT 1)"
)
HOLDING = (
    "INSERT INTO rowlock.holding (worker, number, ids) "
    "SELECT worker, 0, array_agg(id) FROM rowlock.job WHERE state = 'running' GROUP BY worker"
)
RECORDED = (
    "INSERT INTO rowlock.attempt (job_id, attempt, outcome, queue, task, finished_at) "
    "SELECT {job}, {attempt}, 'error', 'default', 'work', {at}"
)
