"""A program that enqueues, cancels and retries without end, in every way there is, and writes down what it was told.

`python -m rowlock.torture.enqueuer NAME SEED RATE [API-URL]`, with the folder of the history in ROWLOCK_TORTURE_FOLDER.
It stops at SIGTERM, after what is under way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from collections import deque
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import structlog

from rowlock.errors import (
    DuplicateJob,
    EnqueueUnknown,
    JobAlreadyFinished,
    JobNotFound,
    KeyHeld,
    RowlockError,
    WrongState,
)
from rowlock.queue.unique import Unique
from rowlock.torture import testimony, workload
from rowlock.torture.history import Act, Acted, Enqueue, Enqueued, History, Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rowlock.queue.new_job import NewJob

LOST: Final = (
    RowlockError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What a call raises whose connection is lost in the middle, or that finds none."""
Stored = Literal["stored", "existing", "nothing", "unknown"]
CALLERS: Final = 6
"""How many enqueue at once."""
MOST_WAITING: Final = 3000
"""Beyond so many jobs that are not finished, nothing is added: the workers are to be busy, not drowned."""
BATCH: Final = 60
LAST_SECONDS: Final = 30.0
CANCELLED_OF: Final = 4
REPEATED: Final = 0.05
"""The share of enqueues that are repeated although they were answered."""
BURST: Final = 80
BURST_EVERY: Final = (3.0, 6.0)
BURST_DELAY: Final = 1.5
BURST_SECONDS: Final = 0.1
"""A burst: how many jobs, after how many seconds, how long before they are due, and how long each takes."""
ODD_JOBS: Final = 0.25
"""The share of jobs that are not simply quick."""
SLOW_SECONDS: Final = (0.01, 0.2, 1.0, 2.0, 8.0)
"""How long slow jobs take: some of them longer than the lease, so that they still run when it is lost."""


class Enqueuer:
    """One process that enqueues. `rate` is how many jobs a second it aims at."""

    def __init__(self, name: str, seed: str, rate: float, api: str | None) -> None:
        self._rng = random.Random(seed)  # noqa: S311  # the same again for the same seed
        self._history = History(Path(os.environ["ROWLOCK_TORTURE_FOLDER"]), name)
        self._rate = rate
        self._api = api
        self._app = workload.app
        self._stopping = asyncio.Event()
        self._waiting = 0
        self._delayed: deque[UUID] = deque(maxlen=200)
        self._doomed: deque[UUID] = deque(maxlen=200)
        self._loose: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Go on until SIGTERM."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        async with self._app, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            self._session = session
            counting = asyncio.create_task(self._count())
            await asyncio.gather(*(self._call() for _ in range(CALLERS)), self._bursts())
            counting.cancel()
            if self._loose:
                await asyncio.wait(self._loose, timeout=LAST_SECONDS)

    async def _call(self) -> None:
        ways: dict[Callable[[], Awaitable[None]], int] = {
            self._many: 30,
            self._one: 20,
            self._in_transaction: 15,
            self._unique: 12,
            self._cancel: 6,
            self._retry: 4,
            self._over_http: 4 if self._api else 0,
            self._many_over_http: 3 if self._api else 0,
        }
        while not self._stopping.is_set():
            if self._waiting < MOST_WAITING:
                (way,) = self._rng.choices(list(ways), list(ways.values()))
                await way()
            # On average a call enqueues about as many jobs as this.
            await self._pause(self._rng.expovariate(self._rate / CALLERS / (BATCH * 0.5 * 0.35 + 1)))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _count(self) -> None:
        while True:
            with suppress(*LOST):
                async with self._app.client.connection() as connection:
                    self._waiting = await connection.fetchval("SELECT count(*) FROM rowlock.job", timeout=5)
            await asyncio.sleep(0.5)

    # The ways to enqueue.

    async def _many(self) -> None:
        jobs = [self._job() for _ in range(self._rng.randint(1, BATCH))]
        await self._enqueue("many", jobs, lambda: self._app.enqueue_many(jobs))

    async def _bursts(self) -> None:
        """Have many jobs of mixed priority fall due at once in a queue with few slots, now and then.

        They are stored well before that: so no claim has a reason to overlook one of them.
        """
        while not self._stopping.is_set():
            await self._pause(self._rng.uniform(*BURST_EVERY))
            if self._waiting >= MOST_WAITING or self._stopping.is_set():
                continue
            jobs = [
                workload.ordered.using(priority=self._rng.randrange(10), delay=BURST_DELAY).job(BURST_SECONDS)
                for _ in range(BURST)
            ]
            await self._enqueue("many", jobs, lambda jobs=jobs: self._app.enqueue_many(jobs))  # type: ignore[misc]  # of its default

    async def _one(self) -> None:
        job = self._job()
        await self._enqueue("own", [job], lambda: self._app.client.enqueue(job))

    async def _unique(self) -> None:
        until: Literal["finish", "start"] = self._rng.choice(["finish", "finish", "start"])
        unique = Unique(
            f"{until}-{self._rng.randrange(8)}",
            until=until,
            on_duplicate=self._rng.choice(["return", "raise"]),
        )
        job: NewJob[Any]
        if self._rng.random() < 0.5:
            job = workload.slow.using(unique=unique).job(self._rng.uniform(0, 0.2))
        else:  # one that waits for another attempt
            job = workload.flaky.using(unique=unique).job(1)

        async def enqueue() -> UUID | None:
            stored = await self._app.client.enqueue(job)
            return None if stored == job.id else stored

        await self._enqueue("unique", [job], enqueue)

    async def _in_transaction(self) -> None:
        """Several enqueues in one transaction, some of them behind a savepoint, and often a rollback."""
        jobs = [self._job() for _ in range(self._rng.randint(1, 5))]
        undone = [self._job()] if self._rng.random() < 0.3 else []
        commits = self._rng.random() < 0.7
        op, op_undone = uuid4().hex, uuid4().hex
        self._begin(op, "transaction", jobs)
        if undone:
            self._begin(op_undone, "savepoint", undone)
        outcome: Stored = "nothing"
        try:
            async with self._app.client.connection() as connection:
                transaction = connection.transaction()
                await transaction.start()
                for job in jobs[1:]:
                    await self._app.client.enqueue(job, connection)
                if undone:
                    savepoint = connection.transaction()
                    await savepoint.start()
                    await self._app.enqueue_many(undone, connection=connection)
                    await savepoint.rollback()
                await self._app.enqueue_many(jobs[:1], connection=connection)
                if self._rng.random() < 0.1:
                    await asyncio.sleep(self._rng.uniform(0, 0.5))
                if commits:
                    outcome = "unknown"
                    await transaction.commit()
                    outcome = "stored"
                else:
                    await transaction.rollback()
        except asyncpg.PostgresError as error:
            is_lost = isinstance(error, asyncpg.PostgresConnectionError | asyncpg.OperatorInterventionError)
            if outcome == "unknown" and not is_lost:
                outcome = "nothing"  # the commit was refused
        except LOST:
            pass  # before the commit: certainly nothing
        self._history.write(Enqueued(op=op, outcome=outcome))
        testimony.note(outcome, [job.id for job in jobs])
        if undone:
            self._history.write(Enqueued(op=op_undone, outcome="nothing"))
            testimony.note("nothing", [job.id for job in undone])

    async def _enqueue(
        self, how: str, jobs: Sequence[NewJob[Any]], call: Callable[[], Awaitable[object]], *, is_again: bool = False
    ) -> None:
        op = uuid4().hex
        self._begin(op, how, jobs, is_again=is_again)
        outcome: Stored = "stored"
        existing: UUID | None = None
        try:
            answer = await call()
        except EnqueueUnknown as error:
            outcome = "unknown"
            if self._rng.random() < 0.8:
                self._later(self._again(error.jobs))
        except DuplicateJob as error:
            outcome, existing = "existing", error.job_id
        except LOST as error:
            structlog.get_logger().info("enqueue_refused", how=how, error=type(error).__name__, detail=str(error)[:200])
            outcome = "nothing"
        else:
            if isinstance(answer, UUID) and how in {"unique", "again"}:
                outcome, existing = "existing", answer
        self._history.write(Enqueued(op=op, outcome=outcome, existing=existing))
        testimony.note(outcome, [job.id for job in jobs])
        if outcome == "stored" and how in {"many", "own"} and self._rng.random() < REPEATED:
            self._later(self._again(jobs))

    async def _again(self, jobs: Sequence[NewJob[Any]]) -> None:
        """Repeat an enqueue whose answer was lost, or was as if it had been, perhaps when its jobs have finished."""
        await asyncio.sleep(self._rng.choice([0.0, 0.1, 3.0]))

        async def enqueue() -> UUID | None:
            handles = await self._app.enqueue_many(jobs, again=True)
            return next((handle.id for handle in handles if handle.is_duplicate), None)  # of one job alone

        await self._enqueue("again", jobs, enqueue, is_again=True)

    async def _over_http(self) -> None:
        """Post a job with an Idempotency-Key, and repeat it until there is an answer."""
        op = uuid4().hex
        body = {"task": workload.over_http.name, "args": {"op": op}}
        for _ in range(60):
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._session.post(
                    f"{self._api}/v1/jobs", json=body, headers={"Idempotency-Key": op}
                ) as answer:
                    if answer.status == 201:
                        job = UUID((await answer.json())["id"])
                        wanted = [Wanted(id=job, task=workload.over_http.name)]
                        self._history.write(Enqueue(op=op, how="http", jobs=wanted))
                        self._history.write(Enqueued(op=op, outcome="stored"))
                        testimony.note("stored", [job])
                        return
                    if answer.status < 500:
                        raise AssertionError(f"The API answered {answer.status}: {await answer.text()}")
            await asyncio.sleep(self._rng.uniform(0.1, 1.0))
            if self._stopping.is_set():
                return

    async def _many_over_http(self) -> None:
        """Post several jobs at once, and repeat it until there is an answer. The runner looks for what came of it."""
        op, of = uuid4().hex, self._rng.randint(2, 8)
        body = {"jobs": [{"task": workload.many_over_http.name, "args": {"op": op, "of": of}}] * of}
        for _ in range(60):
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._session.post(
                    f"{self._api}/v1/jobs/many", json=body, headers={"Idempotency-Key": op}
                ) as answer:
                    if answer.status == 201:
                        jobs = [UUID(job["id"]) for job in (await answer.json())["jobs"]]
                        wanted = [Wanted(id=job, task=workload.many_over_http.name) for job in jobs]
                        self._history.write(Enqueue(op=op, how="http", jobs=wanted, of=of))
                        self._history.write(Enqueued(op=op, outcome="stored"))
                        return
                    if answer.status < 500:
                        raise AssertionError(f"The API answered {answer.status}: {await answer.text()}")
            await self._pause(self._rng.uniform(0.1, 1.0))
            if self._stopping.is_set():
                return

    # What operators do.

    async def _cancel(self) -> None:
        """Enqueue a job, and cancel one of the last few: not due yet, due just now, running, or finished already."""
        job: NewJob[Any] = workload.slow.job(2.0)
        if self._rng.random() < 0.8:
            job = workload.quick.using(delay=self._rng.choice([0.05, 0.5, 3.0, 8.0])).job()
        await self._enqueue("own", [job], lambda: self._app.client.enqueue(job))
        self._delayed.append(job.id)
        if len(self._delayed) < CANCELLED_OF:
            return
        target = self._delayed[self._rng.randrange(len(self._delayed))]
        self._delayed.remove(target)
        await self._act("cancel", target, lambda: self._app.cancel(target, by="torture"))

    async def _retry(self) -> None:
        """Put a dead letter back."""
        if len(self._doomed) < 10:
            job = workload.doomed.job()
            await self._enqueue("own", [job], lambda: self._app.client.enqueue(job))
            self._doomed.append(job.id)
            return
        target = self._doomed.popleft()
        await self._act("retry", target, lambda: self._app.retry(target, by="torture"))

    async def _act(self, what: Literal["cancel", "retry"], job: UUID, call: Callable[[], Awaitable[object]]) -> None:
        op = uuid4().hex
        self._history.write(Act(op=op, what=what, job=job))
        outcome: Literal["done", "requested", "refused", "unknown"]
        try:
            answer = await call()
        except (WrongState, JobAlreadyFinished, JobNotFound, KeyHeld):
            outcome = "refused"
        except LOST:
            outcome = "unknown"
        else:
            outcome = "requested" if answer == "requested" else "done"
        self._history.write(Acted(op=op, outcome=outcome))

    # The jobs.

    def _job(self) -> NewJob[Any]:
        rng = self._rng
        if rng.random() > ODD_JOBS:
            return workload.quick.using(priority=rng.choice([5, 5, 5, 0, 9])).job()
        makers: dict[Callable[[], NewJob[Any]], int] = {
            lambda: workload.slow.job(rng.choices(SLOW_SECONDS, (3, 3, 3, 3, 1))[0]): 12,
            lambda: workload.flaky.job(rng.randint(1, 2), rng.choice(workload.NASTY)): 20,
            lambda: workload.directed.job(rng.choice(["snooze", "retry", "fail", "cancel"])): 10,
            lambda: workload.in_a_thread.job(rng.choice([0.0, 0.05])): 10,
            lambda: workload.batch.job(rng.choice([0, 0, 0, 1])): 20,
            workload.exactly_once.job: 20,
            workload.parent.job: 10,
            workload.doomed.job: 4,
            lambda: workload.quick.using(delay=rng.uniform(0, 3)).job(): 10,
            lambda: workload.quick.using(delay=0.2, expires=rng.choice([0.21, 5.0])).job(): 4,
            lambda: workload.quick.using(delay=0.2, deadline=rng.choice([0.21, 5.0])).job(): 4,
            lambda: workload.flaky.using(deadline=rng.choice([0.3, 5.0])).job(2): 4,
        }
        (make,) = rng.choices(list(makers), list(makers.values()))
        return make()

    def _begin(self, op: str, how: str, jobs: Sequence[NewJob[Any]], *, is_again: bool = False) -> None:
        wanted = [
            Wanted(
                id=job.id,
                task=job.task,
                key=job.unique_key,
                until="start" if job.options.unique is not None and job.options.unique.until == "start" else "finish",
                max_attempts=job.options.max_attempts,
                delay=_seconds(job.options.delay),
                expires=_seconds(job.options.expires),
                deadline=_seconds(job.options.deadline),
            )
            for job in jobs
        ]
        self._history.write(Enqueue(op=op, how=how, jobs=wanted, is_again=is_again))
        testimony.note("asked", [job.id for job in jobs])

    def _later(self, what: Awaitable[None]) -> None:
        async def run() -> None:
            await what

        task = asyncio.create_task(run())
        self._loose.add(task)
        task.add_done_callback(self._loose.discard)


def _seconds(option: object) -> float | None:
    return option.total_seconds() if isinstance(option, timedelta) else None


def main(name: str, seed: str, rate: str, api: str | None = None) -> None:
    """Run the program."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    asyncio.run(Enqueuer(name, seed, float(rate), api).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
