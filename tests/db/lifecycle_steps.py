"""The steps of `test_lifecycle_machine.py`: each changes the database and the model, which are compared."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar, cast
from uuid import UUID

from asyncpg import Record
from hypothesis.stateful import RuleBasedStateMachine

from rowlock import (
    Cancel,
    DuplicateJob,
    Fail,
    JobAlreadyFinished,
    JobFilter,
    KeyHeld,
    Retry,
    Snooze,
    Unique,
    WrongState,
)
from rowlock.queue.claim.claims import Claims, NotLeased
from rowlock.queue.claim.cursors import Position, Positions
from rowlock.queue.finish.finishes import Finishes, Unsuccess
from rowlock.queue.jobs.lifecycle import CANCELLED, EDGES, RELEASED, AttemptTimeout, decide
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.results import ErrorText
from tests.db.lifecycle_bench import (
    ALIVE,
    ATTEMPTS,
    FINISHED_JOBS,
    HOUR,
    KEYS,
    LIVE_JOBS,
    REMEMBERED,
    Attempt,
    Bench,
    Snapshot,
    Worker,
)
from tests.lifecycle_model import MAX_CRASHES, Ending, Hold, KeyTakenError, Model, Row, Wanted

T = TypeVar("T")


class Steps(RuleBasedStateMachine):
    """The tables beside their model, and the steps that change both."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.model = Model()
        self.workers: list[Worker] = []
        self.attempts: list[Attempt] = []
        self.given: list[tuple[NewJob[Any], Wanted]] = []
        bench.do(self._clear())
        self.seen = bench.do(self._look())

    def _enqueue_many(self, jobs: list[tuple[NewJob[Any], Wanted]], way: str) -> None:
        try:
            refused: set[UUID] | None = self.model.enqueue_many([(new.id, wanted) for new, wanted in jobs])
        except KeyTakenError:
            refused = None
        told = self.bench.do(
            self._told(
                self.bench.app.store.enqueue_many(
                    [new for new, _ in jobs], self.bench.connection if way == "insert" else None
                )
            )
        )
        assert (None if told is None else set(told[1])) == refused
        self._compare("enqueue")

    def _claim(self, worker: Worker, limit: int, limits: dict[str, int]) -> list[Record]:
        run_at = self.seen.run_at
        queues = [queue for queue in worker.claims.queues if limits.get(queue, limit) > 0]
        expected = self.model.claim(
            worker.id, queues, worker.tasks, limit, limits=limits, run_at=lambda job: run_at[job]
        )
        claimed = self.bench.do(self._claimed(worker, limit, limits))
        assert [row["id"] for row in claimed] == expected
        for row in claimed:
            job = self.model.jobs[row["id"]]
            assert (row["attempt"], row["errors"], row["crashes"]) == (job.attempt, job.errors, job.crashes)
        self._compare("claim")
        return claimed

    async def _claimed(self, worker: Worker, limit: int, limits: dict[str, int]) -> list[Record]:
        try:
            return await worker.claims.claim(worker.id, limit, limits)
        except NotLeased:
            assert worker.id not in self.model.alive()
            return []

    def _claim_alone(self, worker: Worker) -> list[Record]:
        is_due = self.bench.do(worker.claims.is_suspect_due())
        run_at, queues = self.seen.run_at, worker.claims.queues
        expected = self.model.claim_alone(worker.id, queues, worker.tasks, run_at=lambda job: run_at[job])
        claimed = self.bench.do(worker.claims.claim_alone(worker.id))
        assert [row["id"] for row in claimed] == expected
        assert is_due == bool(expected) or worker.id not in self.model.alive()
        self._compare("claim")
        return claimed

    def _have_some_running(self) -> None:
        if not self._running():
            self._remember(self.workers[0], self._claim(self.workers[0], 4, {}))

    def _running(self) -> list[Attempt]:
        """The remembered attempts that are not stale."""
        found = []
        for one in self.attempts:
            job = self.model.jobs.get(one.claimed["id"])  # None: it was deleted
            if job and (job.state, job.worker, job.attempt) == ("running", one.holder.id, one.claimed["attempt"]):
                found.append(one)
        return found

    def _finish(self, outcomes: list[tuple[Attempt, Ending, int]]) -> None:
        batches: dict[UUID, dict[UUID, tuple[Attempt, Ending, int]]] = {}
        for outcome in outcomes:
            batches.setdefault(outcome[0].holder.id, {})[outcome[0].claimed["id"]] = outcome
        for batch in batches.values():
            finishes = next(iter(batch.values()))[0].holder.finishes
            before = finishes.refused
            accepted = [
                self.model.finish(one.holder.id, job, one.claimed["attempt"], ending, hours)
                for job, (one, ending, hours) in batch.items()
            ]
            self.bench.do(self._send(finishes, list(batch.values())))
            assert finishes.refused - before == accepted.count(False)
            self._compare("succeed", "fail", "again")

    def adopt(self, worker: Worker) -> None:
        """A worker finds what it claimed without hearing of it."""
        known = {one.claimed["id"] for one in self.attempts if one.holder is worker}
        adopted = self.bench.do(worker.claims.adopt(worker.id, known))
        assert {row["id"] for row in adopted} == self.model.running_by(worker.id) - known
        self._remember(worker, adopted)
        self._compare()

    def rescue(self, *, orphans: bool) -> None:
        rows = self.bench.do(self.bench.control.fetch("rescue", MAX_CRASHES, 500, orphans))
        rescued = self.model.rescue(orphans=orphans)
        assert {row["id"] for row in rows} == rescued
        for row in rows:
            assert row["is_quarantined"] == (self.model.jobs[row["id"]].state == "failed")
        self._compare("rescue")

    def end_overdue(self) -> None:
        rows = self.bench.do(self.bench.control.fetch("end_overdue", 500))
        assert {row["id"]: row["state"] for row in rows} == self.model.end_overdue()
        self._compare("end_overdue")

    def forget(self) -> None:
        rows = self.bench.do(self.bench.control.fetch("forget_unique_keys", 1000))
        assert rows[0]["forgotten"] == self.model.forget_keys()
        self.bench.do(self.bench.control.fetch("forget_workers"))
        self.model.forget_workers()
        self._compare()

    def cancel(self, job: UUID) -> None:
        try:
            told: str | None = self.bench.do(self.bench.app.jobs.cancel(job))
        except JobAlreadyFinished:
            told = None
        assert told == self.model.cancel(job)
        self._compare("cancel")

    def cancel_many(self, queue: str) -> None:
        rows = self.model.jobs
        meant = [job for job in self._live() if rows[job].queue == queue and not rows[job].is_cancel_requested]
        answers = Counter(self.model.cancel(job) for job in meant)
        told = self.bench.do(self.bench.app.jobs.cancel_many(JobFilter(queue=queue)))
        assert (told.count, told.requested) == (answers.total(), answers["requested"])
        self._compare("cancel")

    def retry(self, job: UUID, args: int | None) -> None:
        document = None if args is None else {"n": args}
        told: object
        try:
            told = self.bench.do(self.bench.app.jobs.retry(job, args=document)).id
        except (KeyHeld, WrongState) as refused:
            told = type(refused)
        try:
            expected: object = job if self.model.retry(job, args) else WrongState
        except KeyTakenError:
            expected = KeyHeld
        assert told == expected
        self._compare("retry")

    def discard(self, job: UUID) -> None:
        try:
            self.bench.do(self.bench.app.jobs.discard(job))
        except WrongState:
            assert not self.model.discard(job)
        else:
            assert self.model.discard(job)
        self._compare()

    def delete(self, job: UUID) -> None:
        try:
            self.bench.do(self.bench.app.jobs.delete(job))
        except WrongState:
            assert not self.model.delete(job)
        else:
            assert self.model.delete(job)
            del self.seen.rows[[known for known, _ in self.seen.rows].index(job)]
        self._compare()

    def _live(self) -> set[UUID]:
        return {job for job, row in self.model.jobs.items() if row.is_live}

    def _new(self, wanted: Wanted) -> NewJob[Any]:
        unique = None
        if wanted.key is not None:
            scope, _, name = wanted.key.partition(":")
            unique = Unique(
                name,
                until="start" if wanted.until_start else "finish",
                period=None if wanted.period is None else wanted.period * HOUR,
                across_tasks=not scope,
                on_duplicate=cast("Any", wanted.on_duplicate),
            )
        options = self.bench.app.tasks[wanted.task].using(
            queue=wanted.queue,
            priority=wanted.priority,
            max_attempts=wanted.max_attempts,
            unique=unique,
            delay=wanted.delay * HOUR if wanted.delay else None,
            expires=None if wanted.expires is None else wanted.expires * HOUR,
            deadline=None if wanted.deadline is None else wanted.deadline * HOUR,
        )
        new = options.job(wanted.args)
        assert new.unique_key == wanted.key
        self.given.append((new, wanted))
        return new

    async def _told(self, answer: Awaitable[T]) -> T | None:
        try:
            return await answer
        except DuplicateJob:
            return None

    async def _enqueue_within(self, new: NewJob[Any], *, commits: bool) -> UUID | None:
        """In the caller's transaction, which goes on after a duplicate."""
        transaction = self.bench.connection.transaction()
        await transaction.start()
        told = await self._told(self.bench.app.store.enqueue(new, self.bench.connection))
        await (transaction.commit() if commits else transaction.rollback())
        return told

    def _start_worker(self, queues: tuple[str, ...], tasks: tuple[str, ...]) -> Worker:
        worker = Worker(self.bench, queues, tasks)
        self.bench.do(
            self.bench.control.fetch(
                "register_worker", worker.id, "host", 1, "1", list(queues), list(tasks), 1, "running", 1.5 * HOUR, []
            )
        )
        self.model.register(worker.id)
        return worker

    def _remember(self, worker: Worker, claimed: list[Record]) -> None:
        self.attempts += [Attempt(worker, row) for row in claimed]
        del self.attempts[:-REMEMBERED]

    async def _send(self, finishes: Finishes, outcomes: list[tuple[Attempt, Ending, int]]) -> None:
        """Record the outcomes as a worker does."""
        for attempt, ending, hours in outcomes:
            if ending == "succeed":
                attempt.result = str(hours)
                finishes.succeeded(attempt)
                continue
            row = attempt.claimed
            error: dict[str, BaseException] = {
                "error": OSError("no route to host"),
                "timeout": AttemptTimeout("too long"),
                "retry": Retry(hours * HOUR),
                "snooze": Snooze(hours * HOUR),
                "cancel": Cancel("nothing left to do"),
                "fail": Fail("hopeless"),
            }
            if ending in error:
                delay = _always(hours * HOUR)
                decision = decide(error[ending], errors=row["errors"], max_attempts=row["max_attempts"], delay=delay)
            else:
                decision = RELEASED if ending == "released" else CANCELLED
            text = ErrorText(type=ending, message=ending, traceback="")
            finishes.ended(Unsuccess(row, decision, text, attempt.began))
        sending = asyncio.create_task(finishes.run())
        await finishes.flush()
        sending.cancel()

    # The comparison.

    def _compare(self, *verbs: str) -> None:
        """All tables are as the model has them, and every change of a state was one that these verbs may make."""
        before, after = dict(self.seen.rows), self.bench.do(self._look())
        self.seen = after
        rows = dict(after.rows)
        assert len(after.rows) == len(rows), "a job is live or finished, and that once"
        assert before.keys() <= rows.keys(), "no job is lost"
        for job, row in rows.items():
            was = before.get(job)
            if was is None or was.state != row.state:
                assert any((was and was.state, verb, row.state) in EDGES for verb in verbs), (was, verbs, row)
            if was is not None:
                assert row.attempt >= was.attempt
        assert rows == self.model.rows()
        assert after.holds == self.model.seen_holds()
        assert after.attempts == self.model.attempts
        assert {worker for worker, is_alive in after.workers.items() if is_alive} == self.model.alive()
        assert after.workers.keys() == self.model.leases.keys()
        asked = {job for job, row in rows.items() if row.is_cancel_requested and row.state == "running"}
        for worker in self.workers if asked else ():
            told = self.bench.do(self.bench.control.fetch("list_cancel_requests", worker.id))
            assert {row["id"] for row in told} == asked & self.model.running_by(worker.id)

    async def _look(self) -> Snapshot:
        fetch = self.bench.connection.fetch
        live, finished = await fetch(LIVE_JOBS), await fetch(FINISHED_JOBS)
        return Snapshot(
            rows=[(row["id"], _row(row)) for row in (*live, *finished)],
            run_at={row["id"]: row["run_at"] for row in live},
            attempts=Counter((row[0], row[1], row[2]) for row in await fetch(ATTEMPTS)),
            holds={
                row["key"]: Hold(job=row["job_id"], until_start=row["until_start"], expires=row["expires"])
                for row in await fetch(KEYS)
            },
            workers={row["id"]: row["is_alive"] for row in await fetch(ALIVE)},
        )

    async def _clear(self) -> None:
        await self.bench.connection.execute(
            "TRUNCATE rowlock.job, rowlock.finished_job, rowlock.attempt, rowlock.unique_key, rowlock.worker, "
            "rowlock.operation"
        )


def _row(row: Record) -> Row:
    return Row(**{name: value for name, value in row.items() if name not in {"id", "run_at"}})


def one_of(some: list[T], which: int) -> T:
    return some[which % len(some)]


def _always(delay: timedelta) -> Any:  # noqa: ANN401  # a policy
    return lambda: delay


def move_cursors(claims: Claims, by: timedelta) -> None:
    """The hours that pass: what the cursors have seen was as much earlier."""

    def moved(positions: Positions) -> Positions:
        return {
            lane: position if position.run_at.year == 1 else Position(position.run_at - by, position.id)
            for lane, position in positions.items()
        }

    (group,) = claims.groups
    cursors = group.cursors
    cursors._settled, cursors._newest = moved(cursors._settled), moved(cursors._newest)
    if cursors._untagged is not None:
        cursors._untagged = moved(cursors._untagged)
    if cursors._waiting is not None:
        cursors._waiting = moved(cursors._waiting[0]), cursors._waiting[1]
