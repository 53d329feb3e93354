"""Two or three transactions on the same job or key, in every order of their steps: as if one had come after the other.

Each case begins in one situation of a job. Two or three actions, each in a transaction on a connection of its own, take
their steps (a statement each, then COMMIT or ROLLBACK) in every order that there is; a step that waits for a lock is
left waiting until somebody lets it go on. What is then in the tables, and what each action was told, must be what one
after the other would have come to, in some order, where what passes by a locked row may also have found nothing. And no
job is lost, in two places or in two final states, and no key has two holders.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations_with_replacement, count, permutations, product
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

import asyncpg
import pytest

from rowlock import Settings, Unique
from rowlock.queue.claim.cursors import BEGINNING
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.sessions import PLANNER_SETTINGS
from rowlock.queue.connect.statements import statement
from rowlock.queue.connect.transaction import OwnTransaction
from rowlock.queue.enqueue.store import Store
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import LIVE
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.options import JobOptions
from rowlock.queue.jobs.rescheduling import Change
from rowlock.queue.operate.act_on_jobs import ActOnJobs

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Step: TypeAlias = "Callable[[Session], Awaitable[None]]"
Tables: TypeAlias = tuple[tuple[object, ...], ...]
Result: TypeAlias = tuple[Tables, tuple[object, ...]]

JOB: Final = UUID(int=1)
HOLDER: Final = UUID(int=10)
"""The worker that runs the job in some situations."""
CLAIMERS: Final = UUID(int=20), UUID(int=21), UUID(int=22)
"""The workers that claim, one a session."""
KEY: Final = "noop:k"
NOTHING: Final = "nothing"
NUMBERS: Final = count(1)
"""Of the claims."""

_JOB: Final = (
    "INSERT INTO rowlock.job (id, task, state, unique_key, attempt, worker, started_at, ends_at, expires_at, crashes) "
    f"VALUES ('{JOB}', 'noop', "
)
_KEY: Final = f"INSERT INTO rowlock.unique_key (key, job_id) VALUES ('{KEY}', '{JOB}')"
_HELD: Final = f"INSERT INTO rowlock.holding (worker, number, ids) VALUES ('{HOLDER}', 0, ARRAY['{JOB}'::uuid])"
_RUNNING: Final = f"{_JOB}'running', '{KEY}', 1, '{HOLDER}', now(), NULL, NULL, 0); {_KEY}; {_HELD}"
_LEASE_IS_OVER: Final = f"UPDATE rowlock.worker SET expires_at = '-infinity' WHERE id = '{HOLDER}'"
_FAILED: Final = (
    "INSERT INTO rowlock.finished_job (id, task, state, unique_key, attempt, crashes, run_at, created_at, "
    "finished_at, max_attempts, errors, priority, queue, args) "
    f"VALUES ('{JOB}', 'noop', 'failed', '{KEY}', 1, 0, now(), now(), now(), 10, 1, 5, 'default', '{{}}')"
)
SITUATIONS: Final = {
    "no job": "SELECT",
    "waiting": f"{_JOB}'queued', '{KEY}', 0, NULL, NULL, NULL, NULL, 0); {_KEY}",
    "overdue": f"{_JOB}'queued', '{KEY}', 0, NULL, NULL, '-infinity', '2000-01-01', 0); {_KEY}",
    "running": _RUNNING,
    "cancel requested": (
        f"{_RUNNING}; UPDATE rowlock.job SET cancel_requested_at = now(), cancel_reason = 'no', ends_at = '-infinity'"
    ),
    "lost": f"{_RUNNING}; {_LEASE_IS_OVER}",
    "on its last chance": (f"{_JOB}'queued', '{KEY}', 2, NULL, NULL, NULL, NULL, 2); {_KEY}"),
    "lost for the third time": f"{_RUNNING}; {_LEASE_IS_OVER}; UPDATE rowlock.job SET crashes = 2",
    "failed": _FAILED,
    "failed, and its key is left over": (
        f"{_FAILED}; INSERT INTO rowlock.unique_key (key, job_id, until_start) VALUES ('{KEY}', '{JOB}', true)"
    ),
}
_WORKERS: Final = "; ".join(
    "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at) "
    f"VALUES ('{worker}', 'h', 1, '1', '{{}}', '{{}}', 1, now() + interval '1 day')"
    for worker in (HOLDER, *CLAIMERS)
)
_CLEAR: Final = "; ".join(
    f"DELETE FROM rowlock.{table}"
    for table in ("job", "finished_job", "attempt", "unique_key", "worker", "holding", "operation")
)
_TABLES: Final = """
SELECT 'job', id, CASE WHEN state = 'queued' AND ends_at <= now() THEN 'over' ELSE state END AS state, attempt, errors,
       crashes, worker, unique_key, cancel_requested_at IS NOT NULL, args::text
  FROM rowlock.job
 UNION ALL
SELECT 'finished', id, state, attempt, errors, crashes, worker, unique_key, discarded_at IS NOT NULL, args::text
  FROM rowlock.finished_job
 UNION ALL
SELECT 'attempt', job_id, outcome, attempt, 0, 0, worker, NULL, NULL, NULL FROM rowlock.attempt
 UNION ALL
SELECT 'key', job_id, key, 0, 0, 0, NULL, NULL, until_start, expires_at::text FROM rowlock.unique_key
"""


ALL: Final = os.environ.get("ROWLOCK_CRASH_POINTS") == "all"
"""Whether three transactions meet in each order, and not in every third one."""


@dataclass(eq=False)
class Session:
    """One transaction of an interleaving."""

    number: int
    connection: Connection
    store: Store
    new: UUID
    todo: list[Step]
    commits: bool
    answer: object = NOTHING
    gives_up: bool = False
    """Its transaction is rolled back, as the product does after what it was told."""
    is_open: bool = False
    rows: list[asyncpg.Record] = field(default_factory=list)
    running: asyncio.Task[None] | None = None

    @property
    def claimer(self) -> UUID:
        return CLAIMERS[self.number]

    async def fetch(self, name: str, *parameters: object) -> list[asyncpg.Record]:
        return await self.connection.fetch(statement(name, "rowlock"), *parameters)

    @property
    def act(self) -> ActOnJobs:
        return ActOnJobs(OwnTransaction(cast("Any", self.connection), "rowlock"), Origin())

    async def begin(self) -> None:
        await self.connection.execute("BEGIN")
        self.is_open = True

    async def step(self) -> None:
        if not self.is_open:
            await self.begin()
        if self.todo:
            await self.todo.pop(0)(self)
            return
        self.is_open = False
        await self.connection.execute("COMMIT" if self.commits and not self.gives_up else "ROLLBACK")


def enqueue(**unique: Any) -> tuple[Step, ...]:  # noqa: ANN401  # options of Unique
    """Of a new job with the key."""

    async def store(session: Session) -> None:
        options = JobOptions(queue="default", priority=5, max_attempts=10, unique=Unique("k", **unique))
        new: NewJob[Any] = NewJob(session.new, "noop", f'{{"n":{session.number}}}', options, KEY)
        session.answer = await session.store.enqueue(new, session.connection)

    return (store,)


async def claim(session: Session) -> None:
    lanes = ["default"] * 10, list(range(9, -1, -1)), [BEGINNING.run_at] * 10, [BEGINNING.id] * 10
    of_worker: tuple[object, ...] = session.claimer, False, 2, next(NUMBERS), [], False, False
    rows = await session.fetch("claim", *lanes, ["default"], [1], 1, ["noop"], *of_worker)
    if claimed := [row for row in rows if row["id"] is not None]:
        session.answer = _given(claimed)


async def claim_alone(session: Session) -> None:
    lanes = ["default"] * 10, list(range(9, -1, -1))
    if rows := await session.fetch("claim_alone", *lanes, ["noop"], 2, session.claimer, next(NUMBERS)):
        session.answer = _given(rows)


def _given(claimed: list[asyncpg.Record]) -> list[object]:
    """What the worker runs: an attempt with these arguments."""
    return [(row["id"], row["attempt"], row["args"]) for row in claimed]


async def succeed(session: Session) -> None:
    session.answer = _refused(await session.fetch("succeed", HOLDER, [JOB], [1], ["{}"], [0.1]))


async def fail(session: Session) -> None:
    told = [0.1], ["failed"], ["error"], [True], ["E"], ["m"], ["t"]
    session.answer = _refused(await session.fetch("fail", HOLDER, [JOB], [1], *told))


async def again(session: Session) -> None:
    told = [0.1], [timedelta(0)], ["error"], [True], ["E"], ["m"], ["t"]
    session.answer = _refused(await session.fetch("again", HOLDER, [JOB], [1], *told))


def _refused(rows: Iterable[asyncpg.Record]) -> str:
    return "refused" if [row for row in rows if row["id"] is not None] else "accepted"


async def rescue(session: Session) -> None:
    if rows := await session.fetch("rescue", 3, 100, True):  # also of workers without a row
        session.answer = [(row["id"], row["attempt"], row["is_quarantined"]) for row in rows]


async def end_overdue(session: Session) -> None:
    if rows := await session.fetch("end_overdue", 100):
        session.answer = [(row["id"], row["state"]) for row in rows]


async def cancel(session: Session) -> None:
    rows = await session.act.cancel([JOB], None, sorted(map(str, LIVE)))
    session.answer = [row["answer"] for row in rows] or "too late"


async def reschedule(session: Session) -> None:
    rows = await session.act.reschedule([JOB], Change(priority=3), None)
    session.gives_up = any(not row["fits"] for row in rows)
    session.answer = [(row["fits"], row["priority_before"]) for row in rows] or "does not wait"


async def delete(session: Session) -> None:
    session.answer = "deleted" if await session.act.delete(JOB) else "wrong state"


async def lock_finished(session: Session) -> None:
    session.rows = await session.act.lock_finished(JOB)


async def put_back(session: Session) -> None:
    session.gives_up = bool(await session.act.take_keys(session.rows))
    if session.gives_up:
        session.answer = "key held"
    else:
        is_back = session.rows and await session.act.retry(session.rows)
        session.answer = "retried" if is_back else "wrong state"


async def discard(session: Session) -> None:
    session.answer = len(await session.act.run("discard", [JOB], await session.act.when_finished(JOB)))


async def forget_keys(session: Session) -> None:
    if count := (await session.fetch("forget_unique_keys", 10))[0]["forgotten"]:
        session.answer = count


@dataclass(frozen=True, kw_only=True)
class Action:
    """What one transaction does, statement by statement. `skips`: it passes by what others have locked."""

    steps: tuple[Step, ...]
    skips: bool = False


ACTIONS: Final = {
    "enqueue": Action(steps=enqueue()),
    "enqueue until start": Action(steps=enqueue(until="start")),
    "replace": Action(steps=enqueue(on_duplicate="replace")),
    "claim": Action(steps=(claim,), skips=True),
    "claim alone": Action(steps=(claim_alone,), skips=True),
    "succeed": Action(steps=(succeed,)),
    "fail": Action(steps=(fail,)),
    "again": Action(steps=(again,)),
    "rescue": Action(steps=(rescue,), skips=True),
    "end_overdue": Action(steps=(end_overdue,), skips=True),
    "cancel": Action(steps=(cancel,)),
    "retry": Action(steps=(lock_finished, put_back)),
    "discard": Action(steps=(discard,)),
    "reschedule": Action(steps=(reschedule,)),
    "delete": Action(steps=(delete,)),
    "forget_keys": Action(steps=(forget_keys,), skips=True),
}

PAIRS: Final = {
    "no job": ["enqueue", "enqueue until start", "replace", "claim"],
    "waiting": ["enqueue", "replace", "claim", "cancel", "reschedule"],
    "overdue": ["claim", "cancel", "end_overdue", "replace", "enqueue", "reschedule"],
    "running": ["succeed", "fail", "again", "cancel", "enqueue", "replace", "claim", "reschedule", "delete"],
    "cancel requested": ["succeed", "fail", "again", "end_overdue", "claim", "cancel"],
    "lost": ["rescue", "succeed", "fail", "again", "cancel", "claim", "enqueue"],
    "on its last chance": ["claim", "claim alone", "cancel", "replace", "reschedule"],
    "lost for the third time": ["rescue", "succeed", "again", "cancel", "enqueue"],
    "failed": ["retry", "enqueue", "discard", "delete"],
    "failed, and its key is left over": ["retry", "enqueue", "enqueue until start", "forget_keys", "delete"],
}
"""Any two of them, also twice the same."""

TRIPLES: Final = {
    "waiting": [
        ("claim", "cancel", "enqueue"),
        ("claim", "claim", "cancel"),
        ("cancel", "enqueue", "replace"),
        ("claim", "reschedule", "cancel"),
    ],
    "running": [("succeed", "cancel", "enqueue"), ("again", "claim", "cancel")],
    "lost": [("rescue", "claim", "succeed"), ("rescue", "rescue", "fail")],
    "failed": [("retry", "enqueue", "claim"), ("retry", "delete", "claim")],
    "no job": [("enqueue", "enqueue", "claim")],
}


class Stage:
    """Three connections for the sessions of a case, one to prepare and to look, and what serial runs have come to."""

    def __init__(self, situation: str, database: Database, actors: list[Connection], observer: Connection) -> None:
        self.situation = situation
        self._store = Store(database)
        self._actors = actors
        self._observer = observer
        self._pids = [actor.get_server_pid() for actor in actors]
        self._serial: dict[tuple[str, ...], set[Result]] = {}
        self.played = self.waited = 0
        """The interleavings so far, and the steps in them that had to wait for another session."""

    async def check(
        self, names: tuple[str, ...], commits: tuple[bool, ...], order: tuple[int, ...], *, early: bool = False
    ) -> None:
        """Play it, and compare it with what one after the other comes to. `early`: all transactions begin first."""
        self.played += 1
        committed = tuple(number for number, commit in enumerate(commits) if commit)
        expected = await self._one_after_the_other(names, committed)
        result = await self._play(names, commits, order, early=early)
        what = f"{names} in {self.situation}, commits {commits}, order {order}, {early=}"
        assert result in expected, (what, result, expected)
        stays = self.situation != "no job" and "delete" not in names
        check_tables(result[0], had_job=stays, what=what)

    async def _one_after_the_other(self, names: tuple[str, ...], committed: tuple[int, ...]) -> set[Result]:
        known = (*names, *map(str, committed))
        if known not in self._serial:
            self._serial[known] = found = set()
            skipping = [number for number in committed if ACTIONS[names[number]].skips]
            for left_out in _subsets(skipping):
                acting = [number for number in committed if number not in left_out]
                for serial in permutations(acting):
                    order = tuple(number for number in serial for _ in range(len(ACTIONS[names[number]].steps) + 1))
                    commits = tuple(number in committed for number in range(len(names)))
                    found.add(await self._play(names, commits, order, early=False))
        return self._serial[known]

    async def _play(
        self, names: tuple[str, ...], commits: tuple[bool, ...], order: tuple[int, ...], *, early: bool
    ) -> Result:
        """The tables in the end, and what those that committed were told. `order`: whose step is next."""
        await self._observer.execute(f"{_CLEAR}; {_WORKERS}; {SITUATIONS[self.situation]}")
        sessions = [
            Session(number, self._actors[number], self._store, uuid7(), list(ACTIONS[name].steps), commits[number])
            for number, name in enumerate(names)
        ]
        if early:
            for session in sessions:
                await session.begin()
        waiting: list[Session] = []
        for number in order:
            waiting.append(sessions[number])
            waiting = await self._advance(waiting, sessions)
        while waiting:
            rest = await self._advance(waiting, sessions)
            assert rest != waiting, "nobody waits for ever"
            waiting = rest
        called = {JOB: "job", **{session.new: f"new {session.number}" for session in sessions}}
        rows = await self._observer.fetch(_TABLES)
        tables = tuple(sorted((tuple(called.get(value, value) for value in row.values()) for row in rows), key=repr))
        answers = tuple(_named(session.answer, called) if session.commits else None for session in sessions)
        return tables, answers

    async def _advance(self, waiting: list[Session], sessions: list[Session]) -> list[Session]:
        """Take the steps of those who wait for their turn, as far as they are not blocked. Returns those left."""
        left: list[Session] = []
        for session in waiting:
            if session in left or await self._is_blocked(session, sessions):
                left.append(session)
                continue
            session.running = asyncio.create_task(session.step())
            self.waited += await self._is_blocked(session, sessions)
        for session in sessions:  # a step may have let others go on
            await self._is_blocked(session, sessions)
        return left

    async def _is_blocked(self, session: Session, sessions: list[Session]) -> bool:
        """Whether the session's last step waits for a lock; else, it is done."""
        if (running := session.running) is None:
            return False
        while not running.done():
            await asyncio.wait([running], timeout=0.002)
            others = [self._pids[other.number] for other in sessions if other is not session]
            pid = self._pids[session.number]
            if not running.done() and await self._observer.fetchval(
                "SELECT pg_isolation_test_session_is_blocked($1, $2)", pid, others
            ):
                return True
        running.result()
        return False


def check_tables(tables: Tables, *, had_job: bool, what: str) -> None:
    """What holds whatever happens."""
    jobs = [row for row in tables if row[0] in {"job", "finished"}]
    ids = [row[1] for row in jobs]
    assert len(set(ids)) == len(ids), f"a job is in two places: {what}"
    assert not had_job or "job" in ids, f"the job is lost: {what}"
    live = {row[1]: row for row in jobs if row[0] == "job"}
    holders = {row[1] for row in tables if row[0] == "key"}
    assert len(holders) <= 1, f"two hold the key: {what}"
    outcomes = [row[3] for row in tables if row[0] == "attempt"]
    outcomes += [row[3] for row in jobs if row[2] == "succeeded"]
    assert len(set(outcomes)) == len(outcomes), f"an attempt has two outcomes: {what}"
    until_start = any(row[0] == "key" and row[8] for row in tables)
    can_start = {job for job, row in live.items() if row[2] != "over"}
    assert until_start or can_start <= holders <= live.keys(), f"the live job holds the key: {what}"


def _named(answer: object, called: dict[UUID, str]) -> object:
    if isinstance(answer, list):
        return tuple(_named(one, called) for one in answer)
    if isinstance(answer, tuple):
        return tuple(_named(one, called) for one in answer)
    return called.get(answer, answer) if isinstance(answer, UUID) else answer


def _subsets(numbers: list[int]) -> Iterator[set[int]]:
    for chosen in product([False, True], repeat=len(numbers)):
        yield {number for number, is_in in zip(numbers, chosen, strict=True) if is_in}


def _orders(names: tuple[str, ...]) -> list[tuple[int, ...]]:
    """Every order of the steps; of two same actions, the first one begins."""
    turns = [number for number, name in enumerate(names) for _ in range(len(ACTIONS[name].steps) + 1)]
    same = [(a, b) for a in range(len(names)) for b in range(a + 1, len(names)) if names[a] == names[b]]
    return sorted(
        order for order in set(_arrangements(tuple(turns))) if all(order.index(a) < order.index(b) for a, b in same)
    )


def _overlaps(order: tuple[int, ...]) -> bool:
    """Whether the second session begins before the first one has ended."""
    return order != tuple(sorted(order)) and order != tuple(sorted(order, reverse=True))


def _arrangements(turns: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if not turns:
        yield ()
    for first in sorted(set(turns)):
        place = turns.index(first)
        for rest in _arrangements(turns[:place] + turns[place + 1 :]):
            yield (first, *rest)


@pytest.fixture
async def stage(situation: str, direct_url: str) -> AsyncIterator[Stage]:
    settings = {**PLANNER_SETTINGS, "default_transaction_isolation": "read committed"}
    opened = [await asyncpg.connect(direct_url, server_settings=settings) for _ in range(3)]
    observer = await asyncpg.connect(direct_url)
    try:
        yield Stage(situation, Database(Settings(database_url=direct_url)), opened, observer)
    finally:
        for connection in (*opened, observer):
            connection.terminate()


@pytest.mark.parametrize("situation", PAIRS)
async def test_two_at_once_come_to_what_one_after_the_other_would(situation: str, stage: Stage) -> None:
    for names in combinations_with_replacement(PAIRS[situation], 2):
        for order in _orders(names):
            await stage.check(names, (True, True), order)
            if _overlaps(order):
                await stage.check(names, (True, True), order, early=True)
                await stage.check(names, (True, False), order)
                await stage.check(names, (False, True), order)
    assert stage.waited, "some of them met"


@pytest.mark.parametrize("situation", TRIPLES)
async def test_three_at_once_come_to_what_one_after_the_other_would(situation: str, stage: Stage) -> None:
    for names in TRIPLES[situation]:
        for order in list(_orders(names))[:: 1 if ALL else 3]:
            await stage.check(names, (True, True, True), order)
    assert stage.waited, "some of them met"
