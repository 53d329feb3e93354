"""What is done at a crash point: each operation of the queue, run by a process that writes down what it was told.

The same functions run in the test's own process, when a connection is cut, and in a child that is killed.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import msgspec

from rowlock import DatabaseUnavailable, EnqueueUnknown, Job, JobAlreadyFinished, NewJob, Rowlock, Settings, WrongState
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.queue.jobs.unique import Unique
from rowlock.torture.history import Act, Acted, End, Enqueue, Enqueued, History, Start, Wanted

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

ARMED = b"rowlock-armed"
"""The statement with this text in it says that what follows is to be counted."""
CALLER = "caller"
KEY = "the only one"
REASON = "because of the crash points"
PAUSES = {
    "rowlock.queue.finish.finishes.PAUSE_FIRST": 0.005,
    "rowlock.worker.loop.main_loop.PAUSE_FIRST": 0.005,
    "rowlock.worker.loop.main_loop.ADOPT_EVERY": 0.02,
    "rowlock.worker.vitals.lease.RETRY_MOST": 0.01,
    "rowlock.worker.attention.LOOK_EVERY": 60.0,
    "rowlock.worker.ticker.LOOK_EVERY": 60.0,
}
"""Pauses for these operations. Some are short, so that nobody waits. Looks come once and when notified, so that each
answer on the connection has its number. A whole test sets them: operations run beside each other in one process."""

Answer = dict[str, str]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"


def set_pauses() -> None:
    """Set the pauses of this process."""
    for name, seconds in PAUSES.items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, seconds)


@dataclass(slots=True, kw_only=True)
class Site:
    """Where an operation runs: the server that it sees, the jobs that it is about, and its history.

    `is_done` returns when its workers need not go on; `started` is set when a handler was called, and `released` lets
    those end that wait for it.
    """

    url: str
    history: History
    ids: Sequence[UUID]
    is_done: Callable[[], Awaitable[object]]
    started: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    heartbeat: float = 4.0

    def app(self) -> Rowlock:
        """An application with all tasks, behind the proxy."""
        settings = Settings(
            database_url=self.url,
            poll_interval=timedelta(seconds=0.05),
            heartbeat=timedelta(seconds=self.heartbeat),
        )
        app = Rowlock(settings=settings)
        declare(app, self.history, self.started, self.released)
        return app

    async def arm(self, app: Rowlock, jobs: Sequence[NewJob[Any]] = ()) -> None:
        """From here on the messages of the application's connection count; it knows how these jobs are enqueued."""
        async with app.database.connection() as connection:
            if jobs:
                await self.rehearse(connection, app, jobs)
            await connection.execute(f"SELECT '{ARMED.decode()}'")

    async def rehearse(self, connection: Connection, app: Rowlock, jobs: Sequence[NewJob[Any]]) -> None:
        """Enqueue in a transaction that is rolled back: nothing is stored, and the connection knows the statements."""
        transaction = connection.transaction()
        await transaction.start()
        await app.store.enqueue(jobs[0], connection)
        await app.enqueue_many(jobs, connection=connection)
        await transaction.rollback()

    async def enqueue(self, how: str, jobs: Sequence[NewJob[Any]], call: Callable[[], Awaitable[object]]) -> None:
        """Call an enqueue, and repeat by the jobs' ids what may have been stored."""
        op = self.begin(how, jobs, is_again=how == "again")
        try:
            await call()
        except EnqueueUnknown as error:
            self.history.write(Enqueued(op=op, outcome="unknown"))
            async with self.app() as app:
                again = list(error.jobs)
                assert [job.id for job in again] == [job.id for job in jobs]
                await self.enqueue("again", again, lambda: app.enqueue_many(again))
        except DatabaseUnavailable:
            self.history.write(Enqueued(op=op, outcome="nothing"))
        else:
            self.history.write(Enqueued(op=op, outcome="stored"))

    def begin(self, how: str, jobs: Sequence[NewJob[Any]], *, is_again: bool = False) -> str:
        """Write down that these jobs are about to be enqueued; returns the name of the call."""
        op = uuid4().hex
        self.history.write(Enqueue(op=op, how=how, jobs=[wanted(job) for job in jobs], is_again=is_again))
        return op

    async def act(self, what: Literal["cancel", "retry"], job: UUID, call: Callable[[], Awaitable[object]]) -> None:
        """Do something to a job, until there is an answer."""
        outcome: Literal["done", "requested", "refused", "unknown"]
        for _ in range(5):
            op = uuid4().hex
            self.history.write(Act(op=op, what=what, job=job))
            try:
                answer = await call()
                outcome = "requested" if answer == "requested" else "done"
            except (JobAlreadyFinished, WrongState):
                outcome = "refused"
            except (*CONNECTION_LOST, DatabaseUnavailable):
                outcome = "unknown"
            self.history.write(Acted(op=op, outcome=outcome))
            if outcome != "unknown":
                return
        raise AssertionError("the connection is lost again and again")


def declare(app: Rowlock, history: History, started: asyncio.Event, released: asyncio.Event) -> None:
    """Declare the tasks of the crash points. One that was never called says so in its history."""

    @contextmanager
    def written(job: Job) -> Iterator[Answer]:
        run = uuid4().hex
        how: Literal["return", "error", "fail", "stopped"] = "error"
        history.write(Start(job=job.id, attempt=job.attempt, run=run, task=job.task))
        try:
            yield {"run": run}
            how = "return"
        except asyncio.CancelledError:
            how = "stopped"
            raise
        finally:
            history.write(End(job=job.id, attempt=job.attempt, run=run, how=how))

    @app.task(name="points.work")
    async def work(job: Job) -> Answer:
        with written(job) as answer:
            return answer

    @app.task(name="points.flaky", backoff=0)
    async def flaky(job: Job) -> Answer:
        with written(job) as answer:
            if job.attempt == 1:
                raise ValueError("not yet")
            return answer

    @app.task(name="points.doomed", max_attempts=1)
    async def doomed(job: Job) -> Answer:
        with written(job):
            raise ValueError("as always")

    @app.task(name="points.waits")
    async def waits(job: Job) -> Answer:
        with written(job) as answer:
            started.set()
            await released.wait()
            return answer

    @app.task(name="torture.exactly_once", backoff=0)
    async def exactly_once(job: Job) -> None:
        with written(job) as answer:
            async with job.transaction() as connection:
                await connection.execute(
                    "INSERT INTO rowlock_audit.effect VALUES ($1, $2, $3)", job.id, job.attempt, answer["run"]
                )
                job.set_result(answer)


def new_job(app: Rowlock, task: str, job_id: UUID, unique: Unique | None = None) -> NewJob[Any]:
    """A job of this task, with an id that was chosen before."""
    made: NewJob[Any] = app.tasks[task].using(unique=unique).job() if unique else app.tasks[task].job()
    return msgspec.structs.replace(made, id=job_id)


def wanted(job: NewJob[Any]) -> Wanted:
    """The job as the history has it."""
    return Wanted(id=job.id, task=job.task, key=job.unique_key, max_attempts=job.options.max_attempts)


# The enqueues.


async def enqueue_plain(site: Site) -> None:
    """One job, in a transaction of its own."""
    async with site.app() as app:
        await site.arm(app)
        job = new_job(app, "points.work", site.ids[0])
        await site.enqueue("own", [job], lambda: app.store.enqueue(job))


async def enqueue_cold(site: Site) -> None:
    """One job, by an application that has to connect first."""
    async with site.app() as app:
        job = new_job(app, "points.work", site.ids[0])
        await site.enqueue("own", [job], lambda: app.store.enqueue(job))


async def enqueue_unique(site: Site) -> None:
    """One job with a unique key."""
    async with site.app() as app:
        await site.arm(app)
        job = new_job(app, "points.work", site.ids[0], Unique(KEY))
        await site.enqueue("unique", [job], lambda: app.store.enqueue(job))


async def enqueue_many(site: Site) -> None:
    """Several jobs by COPY, two of them with unique keys."""
    async with site.app() as app:
        jobs = [
            new_job(app, "points.work", job_id, Unique(f"{KEY} {place}") if place > 1 else None)
            for place, job_id in enumerate(site.ids)
        ]
        await site.arm(app, jobs)
        await site.enqueue("many", jobs, lambda: app.enqueue_many(jobs))


async def enqueue_again(site: Site) -> None:
    """Jobs whose enqueue was not answered before: one waits, one has finished, one was never stored."""
    async with site.app() as app:
        jobs = [new_job(app, "points.work", job_id) for job_id in site.ids]
        await site.arm(app, jobs)
        await site.enqueue("again", jobs, lambda: app.enqueue_many(jobs))


async def enqueue_in_transaction(site: Site) -> None:
    """Three jobs, and a row of the caller's own, in the caller's transaction."""
    async with site.app() as app:
        jobs = [new_job(app, "points.work", job_id) for job_id in site.ids]
        op = site.begin("transaction", jobs)
        outcome: Literal["stored", "nothing", "unknown"] = "nothing"
        connection = await asyncpg.connect(site.url, server_settings={"application_name": CALLER})
        try:
            await site.rehearse(connection, app, jobs)
            await connection.execute(f"SELECT '{ARMED.decode()}'")
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("INSERT INTO mine VALUES ($1)", jobs[0].id)
            await app.store.enqueue(jobs[0], connection)
            await app.enqueue_many(jobs[1:], connection=connection)
            outcome = "unknown"
            await transaction.commit()
            outcome = "stored"
            await connection.close()
        except CONNECTION_LOST:
            connection.terminate()
        finally:
            site.history.write(Enqueued(op=op, outcome=outcome))


# The workers.


async def work(site: Site) -> None:
    """A worker, until its jobs are done."""
    async with site.app() as app, app.worker():
        await site.is_done()


async def work_one_by_one(site: Site) -> None:
    """A worker that does one job at a time."""
    async with site.app() as app, app.worker(concurrency=1):
        await site.is_done()


async def renew(site: Site) -> None:
    """A worker whose handler takes its time, while the lease is renewed often."""
    site.heartbeat = 0.02
    await work(site)


async def work_cancelled(site: Site) -> None:
    """A worker one of whose jobs is cancelled by an operator while it runs."""
    async with site.app() as app, app.worker():
        await site.started.wait()
        await site.act("cancel", site.ids[0], lambda: app.jobs.cancel(site.ids[0], reason=REASON))
        await site.is_done()


# The operators.


async def retry(site: Site) -> None:
    """Put a dead letter back; another one before that, so that the statements are known."""
    async with site.app() as app:
        await site.act("retry", site.ids[1], lambda: app.jobs.retry(site.ids[1]))
        await site.arm(app)
        await site.act("retry", site.ids[0], lambda: app.jobs.retry(site.ids[0]))


async def cancel(site: Site) -> None:
    """Cancel a job; another one before that, so that the statements are known."""
    async with site.app() as app:
        await site.act("cancel", site.ids[1], lambda: app.jobs.cancel(site.ids[1], reason=REASON))
        await site.arm(app)
        await site.act("cancel", site.ids[0], lambda: app.jobs.cancel(site.ids[0], reason=REASON))


RUNS: dict[str, Callable[[Site], Awaitable[None]]] = {
    run.__name__: run
    for run in (
        enqueue_plain,
        enqueue_cold,
        enqueue_unique,
        enqueue_many,
        enqueue_again,
        enqueue_in_transaction,
        work,
        work_one_by_one,
        renew,
        work_cancelled,
        retry,
        cancel,
    )
}


# The children that are killed.


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do."""

    run: str
    url: str
    folder: str
    by: str
    ids: list[UUID]


def serve() -> None:
    """Fork a child for each order that comes over standard input: a new one costs milliseconds.

    Answers with the child's number, and when it has ended with its exit code, each as a line on standard output.
    """
    set_pauses()
    importlib.import_module("rowlock.worker.worker")  # before the first fork, not in each child
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where the children's logs go
    with os.fdopen(0, "rb") as orders:
        for line in orders:
            order = msgspec.json.decode(line, type=Order)
            child = os.fork()
            if child == 0:
                _obey(order)
            os.write(answers, f"{child}\n".encode())
            _, status = os.waitpid(child, 0)
            os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _obey(order: Order) -> None:
    code = 1
    try:
        with History(Path(order.folder), order.by) as history:
            # A worker in a child is never done: it works until it is killed.
            site = Site(url=order.url, history=history, ids=order.ids, is_done=asyncio.Event().wait)
            asyncio.run(asyncio.wait_for(RUNS[order.run](site), 30))
        code = 0
    except BaseException:  # noqa: BLE001  # the parent sees the code, and the text
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        serve()
