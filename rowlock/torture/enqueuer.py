"""A program that enqueues, cancels and retries without end, in every possible way, and logs the answers.

`python -m rowlock.torture.enqueuer NAME SEED RATE [API-URL]`, with the history's folder in ROWLOCK_TORTURE_FOLDER.
It stops at SIGTERM, after running calls.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import structlog

from rowlock.errors import DuplicateJob, JobAlreadyFinished, JobNotFound, KeyHeld, RowlockError, WrongState
from rowlock.queue.enqueue.errors import EnqueueUnknown
from rowlock.queue.jobs.unique import Unique
from rowlock.torture import testimony, workload
from rowlock.torture.history import Act, Acted, Enqueue, Enqueued, History
from rowlock.torture.jobs import make_job, wanted
from rowlock.torture.posts import Posts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rowlock.queue.jobs.new_job import NewJob

LOST: Final = (
    RowlockError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""The exceptions of a call that loses its connection in the middle, or that gets none."""
Stored = Literal["stored", "existing", "nothing", "unknown"]
CALLERS: Final = 6
"""How many calls enqueue at once."""
MOST_WAITING: Final = 3000
"""The most unfinished jobs: beyond them it adds none. The workers should be busy, not overloaded."""
BATCH: Final = 60
LAST_SECONDS: Final = 30.0
CANCELLED_OF: Final = 4
LONG_SECONDS: Final = 10.0
"""How long jobs take that are cancelled while they run: longer than a worker needs to receive the cancel."""
PUT_BACK_TIMES: Final = 10
"""How often to try to retry a job with a key, until the job has failed and its key is free."""
KEY_PERIOD: Final = 1.5
REPEATED: Final = 0.05
"""The share of enqueues that are repeated although they were answered."""
BURST: Final = 80
BURST_EVERY: Final = (3.0, 6.0)
BURST_DELAY: Final = 1.5
BURST_SECONDS: Final = 0.1
"""A burst: how many jobs, after how many seconds, how long before they are due, and how long each takes."""


class Enqueuer:
    """One process that enqueues. `rate` is its target, in jobs a second."""

    def __init__(self, name: str, seed: str, rate: float, api: str | None) -> None:
        self._rng = random.Random(seed)  # noqa: S311  # the same sequence for the same seed
        self._history = History(Path(os.environ["ROWLOCK_TORTURE_FOLDER"]), name)
        self._rate = rate
        self._api = api
        self._app = workload.app
        self._posts: Posts | None = None
        self._stopping = asyncio.Event()
        self._waiting = 0
        self._delayed: deque[UUID] = deque(maxlen=200)
        self._doomed: deque[UUID] = deque(maxlen=200)
        self._loose: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run until SIGTERM."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        async with self._app, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            if self._api is not None:
                self._posts = Posts(self._api, session, self._history, self._rng, self._pause)
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
            self._unique_otherwise: 14,
            self._unique_and_over: 8,
            self._skip: 3,
            self._cancel: 6,
            self._retry: 4,
        }
        if self._posts is not None:
            ways |= {self._posts.one: 4, self._posts.many: 3}
        while not self._stopping.is_set():
            if self._waiting < MOST_WAITING:
                (way,) = self._rng.choices(list(ways), list(ways.values()))
                await way()
            # An average call enqueues about this many jobs.
            await self._pause(self._rng.expovariate(self._rate / CALLERS / (BATCH * 0.5 * 0.35 + 1)))

    async def _pause(self, seconds: float) -> bool:
        """Wait for so long, or until the program is stopping. Returns whether it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _count(self) -> None:
        while True:
            with suppress(*LOST):
                async with self._app.database.connection() as connection:
                    self._waiting = await connection.fetchval("SELECT count(*) FROM rowlock.job", timeout=5)
            await asyncio.sleep(0.5)

    # The ways to enqueue.

    async def _many(self) -> None:
        jobs = [make_job(self._rng) for _ in range(self._rng.randint(1, BATCH))]
        await self._enqueue("many", jobs, lambda: self._app.enqueue_many(jobs))

    async def _bursts(self) -> None:
        """Now and then, enqueue many jobs of mixed priority that are due at once, in a queue with few slots.

        They are stored well before they are due: so no claim has a reason to overlook one of them.
        """
        while not self._stopping.is_set():
            await self._pause(self._rng.uniform(*BURST_EVERY))
            if self._waiting >= 2 * MOST_WAITING or self._stopping.is_set():
                continue
            jobs = [
                workload.ordered.using(priority=self._rng.randrange(10), delay=BURST_DELAY).job(BURST_SECONDS)
                for _ in range(BURST)
            ]
            await self._enqueue("many", jobs, lambda jobs=jobs: self._app.enqueue_many(jobs))  # type: ignore[misc]  # of its default

    async def _one(self) -> None:
        job = make_job(self._rng)
        await self._enqueue("own", [job], lambda: self._app.store.enqueue(job))

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
        else:  # a job that waits for another attempt
            job = workload.flaky.using(unique=unique).job(1)
        await self._enqueue_unique(job)

    async def _enqueue_unique(self, job: NewJob[Any]) -> Stored:
        async def enqueue() -> UUID | None:
            stored = await self._app.store.enqueue(job)
            return None if stored == job.id else stored

        return await self._enqueue("unique", [job], enqueue)

    async def _unique_and_over(self) -> None:
        """Enqueue a job with a key that is cancelled while it waits, expires, or fails and is put back."""
        rng = self._rng
        unique = Unique(f"over-{rng.randrange(2)}")
        match rng.choice(["cancel", "expire", "fail", "fail"]):
            case "cancel":
                job: NewJob[Any] = workload.slow.using(unique=unique, delay=6.0).job(0.0)
                await self._enqueue_unique(job)
                await self._act("cancel", job.id, lambda: self._app.jobs.cancel(job.id, by="torture"))
            case "expire":
                await self._enqueue_unique(workload.quick.using(unique=unique, delay=0.5, expires=0.51).job())
            case _:
                job = workload.doomed.using(unique=unique).job()
                if await self._enqueue_unique(job) == "stored":
                    self._later(self._put_back(job.id))

    async def _put_back(self, job: UUID) -> None:
        """Retry the job when it has failed, if no other job holds its key by then."""
        for _ in range(PUT_BACK_TIMES):
            if await self._pause(self._rng.choice([0.5, 1.0])):
                return
            if await self._act("retry", job, lambda: self._app.jobs.retry(job, by="torture")) != "refused":
                return

    async def _unique_otherwise(self) -> None:
        """Enqueue with a key for a period, one across tasks, or one that replaces its waiting holder's content."""
        rng = self._rng
        job: NewJob[Any]
        match rng.choice(["period", "across", "replace", "replace"]):
            case "period":
                unique = Unique(f"period-{rng.randrange(2)}", period=KEY_PERIOD)
                job = workload.quick.using(unique=unique).job()
            case "across":
                unique = Unique(f"across-{rng.randrange(2)}", across_tasks=True)
                job = rng.choice(
                    [workload.slow.using(unique=unique).job(0.1), workload.flaky.using(unique=unique).job(1)]
                )
            case _:
                unique = Unique(f"latest-{rng.randrange(2)}", until="start", on_duplicate="replace")
                priority, tags = rng.randrange(10), [f"tag-{rng.randrange(5)}"]
                given = workload.latest.using(
                    unique=unique,
                    delay=rng.choice([0.0, 0.5, 1.0]),
                    priority=priority,
                    tags=tags,
                    metadata={"customer": str(rng.randrange(5))} if rng.random() < 0.5 else None,
                )
                job = given.job(rng.getrandbits(48))
        await self._enqueue_unique(job)

    async def _skip(self) -> None:
        """Enqueue several jobs with keys at once, skipping those whose key is held: logged as a call for each."""
        keys = self._rng.sample(range(8), 3)
        jobs = [
            workload.slow.using(unique=Unique(f"skip-{key}", on_duplicate="skip")).job(self._rng.uniform(0, 0.3))
            for key in keys
        ]
        ops = [uuid4().hex for _ in jobs]
        for op, job in zip(ops, jobs, strict=True):
            self._begin(op, "skip", [job])
        stored: set[UUID] | None = None
        outcome: Stored = "nothing"
        try:
            stored = {handle.id for handle in await self._app.enqueue_many(jobs)}
        except EnqueueUnknown:
            outcome = "unknown"
        except LOST as error:
            structlog.get_logger().info("enqueue_refused", how="skip", error=type(error).__name__)
        for op, job in zip(ops, jobs, strict=True):
            if stored is not None:
                outcome = "stored" if job.id in stored else "existing"
            self._history.write(Enqueued(op=op, outcome=outcome))

    async def _in_transaction(self) -> None:
        """Enqueue several times in one transaction, sometimes behind a savepoint, and often roll it back."""
        jobs = [make_job(self._rng) for _ in range(self._rng.randint(1, 5))]
        undone = [make_job(self._rng)] if self._rng.random() < 0.3 else []
        commits = self._rng.random() < 0.7
        op, op_undone = uuid4().hex, uuid4().hex
        self._begin(op, "transaction", jobs)
        if undone:
            self._begin(op_undone, "savepoint", undone)
        outcome: Stored = "nothing"
        try:
            async with self._app.database.connection() as connection:
                transaction = connection.transaction()
                await transaction.start()
                for job in jobs[1:]:
                    await self._app.store.enqueue(job, connection)
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
            pass  # before the commit: certainly nothing is stored
        self._history.write(Enqueued(op=op, outcome=outcome))
        testimony.note(outcome, [job.id for job in jobs])
        if undone:
            self._history.write(Enqueued(op=op_undone, outcome="nothing"))
            testimony.note("nothing", [job.id for job in undone])

    async def _enqueue(
        self, how: str, jobs: Sequence[NewJob[Any]], call: Callable[[], Awaitable[object]], *, is_again: bool = False
    ) -> Stored:
        op = uuid4().hex
        self._begin(op, how, jobs, is_again=is_again)
        outcome: Stored = "stored"
        existing: UUID | None = None
        raised = False
        try:
            answer = await call()
        except EnqueueUnknown as error:
            outcome = "unknown"
            if self._rng.random() < 0.8:
                self._later(self._again(error.jobs))
        except DuplicateJob as error:
            outcome, existing, raised = "existing", error.job_id, True
        except LOST as error:
            structlog.get_logger().info("enqueue_refused", how=how, error=type(error).__name__, detail=str(error)[:200])
            outcome = "nothing"
        else:
            if isinstance(answer, UUID) and how in {"unique", "again"}:
                outcome, existing = "existing", answer
        self._history.write(Enqueued(op=op, outcome=outcome, existing=existing, raised=raised))
        testimony.note(outcome, [job.id for job in jobs])
        if outcome == "stored" and how in {"many", "own"} and self._rng.random() < REPEATED:
            self._later(self._again(jobs))
        return outcome

    async def _again(self, jobs: Sequence[NewJob[Any]]) -> None:
        """Repeat an enqueue whose answer was lost, or pretend it was, perhaps after its jobs have finished."""
        await asyncio.sleep(self._rng.choice([0.0, 0.1, 3.0]))

        async def enqueue() -> UUID | None:
            handles = await self._app.enqueue_many(jobs)
            return next((handle.id for handle in handles if handle.is_duplicate), None)  # of a single job

        await self._enqueue("again", jobs, enqueue, is_again=True)

    # Acts of operators.

    async def _cancel(self) -> None:
        """Enqueue a job, and cancel one of the last few: scheduled, just due, running, or finished already."""
        job: NewJob[Any] = workload.slow.job(self._rng.choice([2.0, LONG_SECONDS, LONG_SECONDS]))
        if self._rng.random() < 0.8:
            job = workload.quick.using(delay=self._rng.choice([0.05, 0.5, 3.0, 8.0])).job()
        await self._enqueue("own", [job], lambda: self._app.store.enqueue(job))
        self._delayed.append(job.id)
        if len(self._delayed) < CANCELLED_OF:
            return
        target = self._delayed[self._rng.randrange(len(self._delayed))]
        self._delayed.remove(target)
        await self._act("cancel", target, lambda: self._app.jobs.cancel(target, by="torture"))

    async def _retry(self) -> None:
        """Retry a dead letter."""
        if len(self._doomed) < 10:
            job = workload.doomed.job()
            await self._enqueue("own", [job], lambda: self._app.store.enqueue(job))
            self._doomed.append(job.id)
            return
        target = self._doomed.popleft()
        await self._act("retry", target, lambda: self._app.jobs.retry(target, by="torture"))

    async def _act(self, what: Literal["cancel", "retry"], job: UUID, call: Callable[[], Awaitable[object]]) -> str:
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
        return outcome

    def _begin(self, op: str, how: str, jobs: Sequence[NewJob[Any]], *, is_again: bool = False) -> None:
        event = Enqueue(op=op, how=how, jobs=[wanted(job) for job in jobs], is_again=is_again)
        self._history.write(event)
        testimony.note("asked", [job.id for job in jobs])

    def _later(self, what: Awaitable[None]) -> None:
        async def run() -> None:
            await what

        task = asyncio.create_task(run())
        self._loose.add(task)
        task.add_done_callback(self._loose.discard)


def main(name: str, seed: str, rate: str, api: str | None = None) -> None:
    """Run the program."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    asyncio.run(Enqueuer(name, seed, float(rate), api).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
