"""Whatever happens to jobs, in whichever order: the tables say what the documentation says. Compared with a model.

Hypothesis thinks up the stories; every step of one is done by the product's own classes and statements, and afterwards
all of the tables is compared with `tests/lifecycle_model.py`. Time passes by moving the rows (and the workers' cursors)
back by whole hours. A longer run: `pytest tests/db/test_lifecycle_machine.py --hypothesis-profile=long`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast
from uuid import UUID

import asyncpg
import pytest
from asyncpg import Record
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from rowlock import (
    Cancel,
    DuplicateJob,
    Fail,
    InvalidOption,
    JobAlreadyFinished,
    JobFilter,
    KeyHeld,
    Retry,
    Rowlock,
    Settings,
    Snooze,
    Unique,
    WrongState,
)
from rowlock.queue.claim.claims import Claims, NotLeased
from rowlock.queue.claim.cursors import Position, Positions
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.finish.finishes import Finishes, Success, Unsuccess
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import CANCELLED, EDGES, RELEASED, AttemptTimeout, decide
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.results import ErrorText
from tests.lifecycle_model import ENDINGS, MAX_CRASHES, Ending, Hold, KeyTakenError, Model, Row, Wanted

if TYPE_CHECKING:
    from tests.conftest import Server

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")

IS_LONG: Final = settings.get_current_profile_name() == "long"
HOUR: Final = timedelta(hours=1)
QUEUES: Final = ("mail", "reports")
TASKS: Final = ("send", "print")
WORKERS: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (QUEUES, TASKS),
    (QUEUES, TASKS),
    (("mail",), ("send",)),
)
"""The queues and the tasks of each worker."""
REMEMBERED: Final = 12
"""Of how many claimed attempts an outcome may still come: many of them are stale by then."""

_HOURS_FROM_NOW: Final = (
    "CASE WHEN {0} IN ('infinity', '-infinity') THEN extract(epoch FROM {0}) "
    "ELSE round(extract(epoch FROM {0} - clock_timestamp()) / 3600) END::float8"
)
_SAME: Final = "id, state, task, queue, priority, (args->>'n')::integer AS args, max_attempts, attempt, errors, crashes"
LIVE_JOBS: Final = (
    f"SELECT {_SAME}, worker, unique_key AS key, run_at, cancel_requested_at IS NOT NULL AS is_cancel_requested, "
    + ", ".join(
        f"{_HOURS_FROM_NOW.format(column)} AS {name}"
        for column, name in (
            ("run_at", "due"),
            ("ends_at", "ends"),
            ("expires_at", "expires"),
            ("deadline", "deadline"),
        )
    )
    + " FROM rowlock.job"
)
FINISHED_JOBS: Final = (
    f"SELECT {_SAME}, worker, unique_key AS key, discarded_at IS NOT NULL AS is_discarded, result::text::integer "
    "FROM rowlock.finished_job"
)
ATTEMPTS: Final = "SELECT job_id, attempt, outcome FROM rowlock.attempt"
KEYS: Final = (
    f"SELECT key, job_id, until_start, {_HOURS_FROM_NOW.format('expires_at')} AS expires FROM rowlock.unique_key"
)
ALIVE: Final = "SELECT id, expires_at > now() AS is_alive FROM rowlock.worker"
RUN_OUT: Final = "UPDATE rowlock.worker SET expires_at = least(expires_at, now() - interval '2 s') WHERE id = $1"
ONE_HOUR_PASSES: Final = (
    (
        "UPDATE rowlock.job SET run_at = run_at - $1::interval, ends_at = ends_at - $1, expires_at = expires_at - $1, "
        "deadline = deadline - $1, started_at = started_at - $1"
    ),
    "UPDATE rowlock.unique_key SET expires_at = expires_at - $1::interval",
    "UPDATE rowlock.worker SET expires_at = expires_at - $1::interval",
)


class Bench:
    """A database, an event loop, and the application's and the workers' connections: shared by all examples."""

    def __init__(self, database_url: str, direct_url: str) -> None:
        self._runner = asyncio.Runner()
        configured = Settings(database_url=database_url)
        self.app = Rowlock(settings=configured)
        self.control = ControlConnection(configured, database_url, purpose="test")
        self.connection: Connection = self.do(asyncpg.connect(direct_url))
        for name in TASKS:
            self.app.task(name=name)(_noop)

    def do(self, step: Awaitable[T]) -> T:
        async def wait() -> T:
            return await step

        return self._runner.run(wait())

    def close(self) -> None:
        self.do(self.connection.close())
        self.do(self.control.close())
        self.do(self.app.close())
        self._runner.close()


async def _noop(n: int) -> None: ...


@dataclass(slots=True, frozen=True)
class Snapshot:
    """All of the tables. The places of a job: a live one and its archived ones, of which there must be one in all."""

    rows: list[tuple[UUID, Row]]
    run_at: dict[UUID, datetime]
    attempts: Counter[tuple[UUID, int, str]]
    holds: dict[str, Hold]
    workers: dict[UUID, bool]


class Worker:
    """One start of a worker process: its lease, its claims with their cursors, its outcomes."""

    def __init__(self, bench: Bench, queues: tuple[str, ...], tasks: tuple[str, ...]) -> None:
        self.id = uuid7()
        self.queues, self.tasks = queues, tasks
        self.claims = Claims(bench.control, queues, tasks)
        self.finishes = Finishes(bench.control, self.id, _never)


def _never(_success: Success, error: Exception) -> Unsuccess:
    raise AssertionError("the database takes every result of this test") from error


@dataclass(slots=True)
class Attempt:
    """A claimed job in a worker's hands; stale as soon as somebody else has it."""

    holder: Worker
    claimed: Record
    result: str | None = None
    began: float = field(default_factory=time.monotonic)


@st.composite
def wanted(draw: st.DrawFn) -> Wanted:
    """A job to be enqueued: some of them plain, most of the others with one of a few keys."""
    task, queue = draw(st.sampled_from(TASKS)), draw(st.sampled_from(QUEUES))
    number = draw(st.integers(0, 999))
    if not draw(st.integers(0, 3)):
        return Wanted(args=number, task=task, queue=queue, priority=draw(st.sampled_from([5, 5, 9])))
    delay = draw(st.sampled_from([0, 0, 1, 2]))
    limit = st.sampled_from([None, 1, 2]).map(lambda hours: None if hours is None else delay + hours)
    name = draw(st.sampled_from([None, f"{task}:a", f"{task}:b", ":a"]))
    until: Literal["finish", "start", "period"] = draw(st.sampled_from(["finish", "start", "period"]))
    return Wanted(
        args=number,
        task=task,
        queue=queue,
        priority=draw(st.sampled_from([5, 5, 0])),
        max_attempts=draw(st.integers(1, 3)),
        delay=delay,
        expires=draw(limit),
        deadline=draw(limit),
        key=name,
        until_start=name is not None and until == "start",
        period=draw(st.integers(1, 3)) if name is not None and until == "period" else None,
        on_duplicate="return" if name is None else draw(st.sampled_from(["return", "raise", "replace", "skip"])),
    )


_which = st.integers(0, 19)
"""A number that chooses one of what there is."""


class Lifecycle(RuleBasedStateMachine):
    """One story."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.model = Model()
        self.workers: list[Worker] = []
        self.attempts: list[Attempt] = []
        self.given: list[tuple[NewJob[Any], Wanted]] = []
        bench.do(self._clear())
        self.seen = bench.do(self._look())

    @initialize(several=st.lists(wanted(), min_size=1, max_size=4))
    def start(self, several: list[Wanted]) -> None:
        for queues, tasks in WORKERS:
            self.workers.append(self._start_worker(queues, tasks))
        self._enqueue_many([(self._new(one), one) for one in several], "copy")

    # Few rules, each with a choice: Hypothesis leaves some of them out of each story, and draws the others evenly.

    @rule(wanted=wanted(), fate=st.sampled_from(["own", "own", "own", "committed", "rolled back"]))
    def enqueue(self, wanted: Wanted, fate: str) -> None:
        new = self._new(wanted)
        before = self.model.copy()
        try:
            holder = self.model.enqueue(new.id, wanted)
        except KeyTakenError:
            holder = None
        if fate == "own":
            told = self.bench.do(self._told(self.bench.app.store.enqueue(new)))
        else:
            told = self.bench.do(self._enqueue_within(new, commits=fate == "committed"))
        assert told == holder
        if fate == "rolled back":
            self.model.become(before)
        self._compare("enqueue")

    @rule(several=st.lists(wanted(), min_size=1, max_size=4), way=st.sampled_from(["copy", "insert"]))
    def enqueue_many(self, several: list[Wanted], way: str) -> None:
        self._enqueue_many([(self._new(one), one) for one in several], way)

    @rule(which=st.lists(_which, min_size=1, max_size=3, unique=True), is_alone=st.booleans())
    def enqueue_again(self, which: list[int], *, is_alone: bool) -> None:
        """As after an answer that was lost: those that are there already, live or finished, stay as they are."""
        live = [one for one in self.given if one[0].id in self._live()]
        if is_alone and live:
            new, wanted = _one_of(live, which[0])
            assert self.model.enqueue(new.id, wanted) == new.id
            assert self.bench.do(self._told(self.bench.app.store.enqueue(new))) == new.id
            self._compare("enqueue")
        else:
            chosen = {new.id: (new, wanted) for new, wanted in (_one_of(self.given, number) for number in which)}
            self._enqueue_many(list(chosen.values()), "again")

    @rule(
        which=_which,
        limit=st.integers(1, 4),
        limits=st.dictionaries(st.sampled_from(QUEUES), st.integers(0, 2), max_size=1),
        cursor=st.sampled_from(["used", "used", "fresh", "alone"]),
        is_answered=st.sampled_from([True, True, True, False]),
    )
    def claim(self, which: int, limit: int, limits: dict[str, int], cursor: str, *, is_answered: bool) -> None:
        """A claim whose answer is lost is found by the worker when it looks for what it has."""
        worker = _one_of(self.workers, which)
        if cursor == "fresh":
            worker.claims.reset()
        if cursor == "alone":
            claimed = [] if self.model.running_by(worker.id) else self._claim_alone(worker)
        else:
            claimed = self._claim(worker, limit, limits)
        if is_answered:
            self._remember(worker, claimed)

    @rule(
        endings=st.lists(
            st.tuples(_which, st.sampled_from(ENDINGS), st.integers(0, 2), st.booleans()), min_size=1, max_size=3
        )
    )
    def finish(self, endings: list[tuple[int, Ending, int, bool]]) -> None:
        """Outcomes, in batches: of attempts that run, or of any; the latter may be over, or somebody else's by now."""
        self._have_some_running()
        outcomes = []
        for which, ending, hours, is_any in endings:
            if attempts := self.attempts if is_any else self._running():
                outcomes.append((_one_of(attempts, which), ending, hours))
        self._finish(outcomes)

    @rule(
        which=_which,
        ending=st.sampled_from(ENDINGS) | st.just("succeed"),
        hours=st.integers(0, 2),
        fence=st.sampled_from(["other worker", "older attempt", "newer attempt"]),
    )
    def finish_in_anothers_name(self, which: int, ending: Ending, hours: int, fence: str) -> None:
        """The outcome of a running attempt, but for one thing."""
        self._have_some_running()
        if not (running := self._running()):
            return
        attempt = _one_of(running, which)
        worker, claimed = attempt.holder, attempt.claimed
        if fence == "other worker":
            worker = _one_of([other for other in self.workers if other is not worker], which)
        else:
            step = 1 if fence == "newer attempt" else -1
            claimed = cast("Record", {**claimed, "attempt": claimed["attempt"] + step})
        before = self.seen
        self._finish([(Attempt(worker, claimed), ending, hours)])
        assert self.seen == before, "a refused outcome changes nothing"

    @rule(
        which=_which,
        end=st.sampled_from(["clean", "kill -9", "its lease runs out", "its row is lost"]),
        is_noticed=st.booleans(),
    )
    def lose_worker(self, which: int, end: str, *, is_noticed: bool) -> None:
        """Another process takes its place; what the old one still holds is stale once it is rescued."""
        place = which % len(self.workers)
        old = self.workers[place]
        if end == "clean":
            self.bench.do(self.bench.control.fetch("end_lease", old.id))
            if old.id in self.model.leases:
                self.model.leases[old.id] = float("-inf")
        elif end == "its lease runs out":
            self.bench.do(self.bench.connection.execute(RUN_OUT, old.id))
            if old.id in self.model.alive():
                self.model.leases[old.id] = self.model.now
        elif end == "its row is lost":
            self.bench.do(self.bench.connection.execute("DELETE FROM rowlock.worker WHERE id = $1", old.id))
            self.model.leases.pop(old.id, None)
        self.workers[place] = self._start_worker(old.queues, old.tasks)
        self._compare()
        if is_noticed:
            self.rescue(orphans=end != "clean")

    @rule(ending=st.sampled_from(ENDINGS) | st.just("released"), hours=st.integers(0, 2))
    def finish_all(self, ending: Ending, hours: int) -> None:
        """Whatever is due is claimed, and ends in the same way; as at a worker's stop."""
        claimed = self._claim(self.workers[0], 4, {})
        self._finish([(Attempt(self.workers[0], row), ending, hours) for row in claimed])

    @rule(times=st.integers(1, 3), limit=st.integers(1, 4))
    def die_again_and_again(self, times: int, limit: int) -> None:
        """Workers that claim, and are gone: a job gets to its last chance, and to its end if it is alone then."""
        for _ in range(times):
            if not self._claim_alone(self.workers[0]):
                self._claim(self.workers[0], limit, {})
            self.lose_worker(which=0, end="its lease runs out", is_noticed=True)

    @rule(
        which=_which,
        duty=st.sampled_from(["rescue", "rescue", "orphans", "overdue", "overdue", "forget", "adopt", "renew"]),
    )
    def upkeep(self, which: int, duty: str) -> None:
        worker = _one_of(self.workers, which)
        match duty:
            case "rescue" | "orphans":
                self.rescue(orphans=duty == "orphans")
            case "overdue":
                self.end_overdue()
            case "forget":
                self.forget()
            case "adopt":
                self.adopt(worker)
            case _:
                rows = self.bench.do(self.bench.control.fetch("renew_lease", worker.id, 1.5 * HOUR, 0, None))
                assert bool(rows) == self.model.renew(worker.id)
                self._compare()

    @rule(
        which=_which,
        act=st.sampled_from(["cancel", "cancel", "cancel many", "retry", "retry", "retry", "discard", "delete"]),
        args=st.none() | st.integers(0, 999),
    )
    def operate(self, which: int, act: str, args: int | None) -> None:
        if act == "cancel many":
            self.cancel_many(_one_of(list(QUEUES), which))
            return
        jobs = list(self.model.jobs)
        if act == "retry" and which % 5:
            jobs = [job for job in jobs if job not in self._live()] or jobs
        if not jobs:
            return
        job = _one_of(jobs, which)
        match act:
            case "cancel":
                self.cancel(job)
            case "retry":
                self.retry(job, args)
            case "delete":
                self.delete(job)
            case _:
                self.discard(job)

    @rule(
        which=_which,
        hours=st.none() | st.integers(0, 3),
        priority=st.none() | st.integers(0, 9),
        queue=st.none() | st.sampled_from(QUEUES),
    )
    def reschedule(self, which: int, hours: int | None, priority: int | None, queue: str | None) -> None:
        jobs = [job for job, row in self.model.jobs.items() if which % 5 == 0 or row.state == "queued"]
        if not jobs or (hours, priority, queue) == (None, None, None):
            return
        job, delay = _one_of(jobs, which), None if hours is None else hours * HOUR
        try:
            self.bench.do(self.bench.app.reschedule(job, delay=delay, priority=priority, queue=queue))
        except (InvalidOption, WrongState) as refused:
            told = "late" if isinstance(refused, InvalidOption) else "state"
        else:
            told = "changed"
        assert told == self.model.reschedule(job, hours, priority, queue)
        self._compare()

    @rule(hours=st.integers(1, 3), duty=st.sampled_from(["none", "overdue", "forget"]))
    def hours_pass(self, hours: int, duty: str = "none") -> None:
        for statement in ONE_HOUR_PASSES:
            self.bench.do(self.bench.connection.execute(statement, hours * HOUR))
        for worker in self.workers:
            _move_cursors(worker.claims, hours * HOUR)
        self.model.pass_hours(hours)
        self._compare()
        if duty != "none":
            self.upkeep(which=0, duty=duty)

    def teardown(self) -> None:
        """In the end no job is stuck: whatever is left can be brought to an end."""
        if not self.workers or dict(self.seen.rows) != self.model.rows():
            return  # it has failed
        self.hours_pass(10)
        self.rescue(orphans=True)
        self.end_overdue()
        worker = self._start_worker(QUEUES, TASKS)
        self.workers.append(worker)
        while claimed := self._claim(worker, 1000, {}) or self._claim_alone(worker):
            self._finish([(Attempt(worker, row), "succeed", 0) for row in claimed])
        self.forget()
        assert not self._live()

    # What the rules are made of.

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
            told: str | None = self.bench.do(self.bench.app.cancel(job))
        except JobAlreadyFinished:
            told = None
        assert told == self.model.cancel(job)
        self._compare("cancel")

    def cancel_many(self, queue: str) -> None:
        rows = self.model.jobs
        meant = [job for job in self._live() if rows[job].queue == queue and not rows[job].is_cancel_requested]
        answers = Counter(self.model.cancel(job) for job in meant)
        told = self.bench.do(self.bench.app.cancel_many(JobFilter(queue=queue)))
        assert (told.count, told.requested) == (answers.total(), answers["requested"])
        self._compare("cancel")

    def retry(self, job: UUID, args: int | None) -> None:
        document = None if args is None else {"n": args}
        told: object
        try:
            told = self.bench.do(self.bench.app.retry(job, args=document)).id
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
            self.bench.do(self.bench.app.discard(job))
        except WrongState:
            assert not self.model.discard(job)
        else:
            assert self.model.discard(job)
        self._compare()

    def delete(self, job: UUID) -> None:
        try:
            self.bench.do(self.bench.app.delete(job))
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
                "register_worker", worker.id, "host", 1, "1", list(queues), list(tasks), 1, "running", 1.5 * HOUR
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


def _one_of(some: list[T], which: int) -> T:
    return some[which % len(some)]


def _always(delay: timedelta) -> Any:  # noqa: ANN401  # a policy
    return lambda: delay


def _move_cursors(claims: Claims, by: timedelta) -> None:
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


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Thousands of refused outcomes are expected: the log must not bury the example that fails."""
    logger = logging.getLogger("rowlock")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@pytest.fixture
def bench(request: pytest.FixtureRequest, server: Server, database: str) -> Iterator[Bench]:
    """One database for all stories, which each of them empties."""
    from tests.conftest import POOLED

    opened = Bench((request.getfixturevalue("pooler") if POOLED else server).url(database), server.url(database))
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.usefixtures("_quiet")
@pytest.mark.timeout(7200 if IS_LONG else 600)
def test_whatever_happens_the_tables_say_what_the_documentation_says(bench: Bench) -> None:
    run_state_machine_as_test(
        cast("type[Lifecycle]", lambda: Lifecycle(bench)),
        settings=settings(
            max_examples=3000 if IS_LONG else 40,
            stateful_step_count=80 if IS_LONG else 40,
            deadline=None,
            print_blob=True,
            phases=[phase for phase in Phase if IS_LONG or phase is not Phase.shrink],  # it takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
