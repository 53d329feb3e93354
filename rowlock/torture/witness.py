"""The witness: a second judgement of a run, from its processes' own testimony and the tables at the end.

It shares nothing with the checker: no triggers, no history. Every process appends plain lines to a separate file
(`witness-NAME-PID.txt`), one `write` each: `asked`, `stored` or `nothing` and a job's id; `begun` or `ended` with the
job, the attempt, the handler's call and its end. Some handlers also insert a row into the table `witness.effect`:
in `job.transaction()`, or over a separate connection once their work is done.

A line's time serves one purpose: the run names the windows that the database has lost, and the witness excuses the jobs
with a line in one of them from the rules that a rewind may break.

The order is not judged: a claim takes jobs in order, but a job that is released or rescued is due again later, so that
under faults no order of starts is promised.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from rowlock.errors import RowlockError
from rowlock.queue.read.audits import Scope, audit
from rowlock.torture.hearing import Call, Testimony, read_testimony
from rowlock.torture.testimony import AWAY, EXACTLY_ONCE, is_inserted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from asyncpg import Connection, Record

    from rowlock.queue.connect.database import Database
    from rowlock.torture.rewinds import Window

UNASKED: Final = frozenset({"torture.http", "torture.http_many", "torture.tick"})
"""The tasks whose jobs get their ids in the API and in the database: a client cannot know these beforehand."""
SILENT: Final = frozenset({"torture.process"})
"""The tasks whose handlers do not testify: they run in a process of their own."""
ASKED: Final = "torture."
"""The tasks of the enqueuing programs, which testify their requests. The operating program does not."""
TESTIFYING: Final = (ASKED, "operate.")
"""The tasks whose handlers testify."""
BY_THE_CLOCK: Final = frozenset(
    {
        "audit: attempt from the future",
        "audit: duty too far ahead",
        "audit: expired worker left behind",
        "audit: finished job whose columns disagree",
        "audit: finished job from the future",
        "audit: live job from the future",
        "audit: live job whose columns disagree",
        "audit: running job that its worker cannot have claimed",
        "audit: slot of statistics that counts too few",  # an hour ahead, slots of ten seconds are forgotten
        "audit: statistics from the future",
        "audit: tick from the future",
        "audit: worker from the future",
    }
)
"""The invariants that compare times of the server's clock: a step of it breaks them, some for good."""
MOST_KEPT: Final = 20
WATCH_SECONDS: Final = 2.0
PASSING: Final = Scope(days=1, rows=10_000, seconds=10.0)
WHOLE: Final = Scope(days=2, rows=10_000_000, seconds=300.0)

_INSTALL: Final = (
    "CREATE SCHEMA witness",
    "CREATE TABLE witness.effect (job uuid NOT NULL, attempt integer NOT NULL, run text NOT NULL)",
)
_EFFECTS: Final = "SELECT job, attempt, run FROM witness.effect"
_LAST: Final = """
    SELECT id, task, state, attempt, CASE jsonb_typeof(result) WHEN 'object' THEN result ->> 'run' END AS run
      FROM rowlock.jobs"""


class Last(NamedTuple):
    """A job at the end of the run."""

    id: UUID
    task: str
    state: str
    attempt: int
    run: str | None


@dataclass(slots=True, kw_only=True)
class Verdict:
    """The result of one rule: how many cases it had, how many broke it, and the first of these in words."""

    rule: str
    looked_at: int = 0
    count: int = 0
    sentences: list[str] = field(default_factory=list)

    def look(self, sentence: str | None) -> None:
        """Count a case; None: it is correct."""
        self.looked_at += 1
        if sentence is not None:
            self.count += 1
            if self.count <= MOST_KEPT:
                self.sentences.append(sentence)


async def install(connection: Connection[Record]) -> None:
    """Create the table of the effects."""
    for statement in _INSTALL:
        await connection.execute(statement)


async def judge(connection: Connection[Record], folder: Path, windows: Sequence[Window] = ()) -> list[Verdict]:
    """Compare the testimony with the jobs and the effects in the database, which has lost these windows."""
    last = [Last(*row) for row in await connection.fetch(_LAST)]
    effects = [Call(*row) for row in await connection.fetch(_EFFECTS)]
    return verdicts(await asyncio.to_thread(read_testimony, folder, windows), last, effects)


def verdicts(told: Testimony, last: Sequence[Last], effects: Sequence[Call]) -> list[Verdict]:
    """Judge a run by the testimony, the jobs at the end, and the effects. Pure."""
    jobs = {job.id: job for job in last}
    of_job: dict[UUID, list[Call]] = defaultdict(list)
    for effect in effects:
        of_job[effect.job].append(effect)
    return [
        *_existence(told, jobs),
        *_calls(told, jobs),
        *_successes(told, last, of_job),
        _unfounded(told, jobs, effects),
    ]


def _existence(told: Testimony, jobs: dict[UUID, Last]) -> Iterator[Verdict]:
    missing = Verdict(rule="witness: acknowledged and missing")
    for job, is_sure in told.stored.items():
        if is_sure or job in jobs:
            missing.look(None if job in jobs else f"{job}: an enqueue returned that it is stored, and it is nowhere")
    yield missing
    withdrawn = Verdict(rule="witness: stored although it was not to be")
    for job, times in told.nothing.items():
        if times == told.asked[job]:
            withdrawn.look(f"{job}: every call said that nothing was stored" if job in jobs else None)
    yield withdrawn
    unknown = Verdict(rule="witness: nobody asked for it")
    for one in jobs.values():
        is_known = one.id in told.asked or one.task in UNASKED or not one.task.startswith(ASKED)
        unknown.look(None if is_known else f"{one.id}: a job of {one.task} that no call asked for")
    yield unknown


def _calls(told: Testimony, jobs: dict[UUID, Last]) -> Iterator[Verdict]:
    """An attempt begins once, and is one that its job has had. Each window that touches the job forgets attempts."""
    begun = Counter((call.job, call.attempt) for call in told.calls)
    once, of_a_job = Verdict(rule="witness: attempt begun twice"), Verdict(rule="witness: attempt that nobody has had")
    for (job, number), times in begun.items():
        most = 1 + told.touched[job]
        once.look(None if times <= most else f"{job}: attempt {number} has begun {times} times")
        if job not in told.touched:
            had = jobs[job].attempt if job in jobs else 0
            of_a_job.look(None if number <= had else f"{job}: attempt {number} has begun, and the job has had {had}")
    yield once
    yield of_a_job


def _successes(told: Testimony, last: Sequence[Last], effects: dict[UUID, list[Call]]) -> Iterator[Verdict]:
    """A success has a handler's call that returned, and an effect: exactly one if it was in the job's transaction."""
    returned: dict[tuple[UUID, int], set[str]] = defaultdict(set)
    begun: dict[tuple[UUID, int], set[str]] = defaultdict(set)
    for call, how in told.calls.items():
        begun[call.job, call.attempt].add(call.run)
        if how == "returned":
            returned[call.job, call.attempt].add(call.run)
    worked = Verdict(rule="witness: success without its work")
    lacking, doubled = Verdict(rule="witness: success without its effect"), Verdict(rule="witness: effect twice")
    for one in last:
        if one.state == "succeeded" and one.task.startswith(TESTIFYING) and one.task not in SILENT:
            # In its transaction the success is committed before the handler returns, and its process may be killed.
            runs = (begun if one.task in EXACTLY_ONCE else returned)[one.id, one.attempt]
            is_done = one.run in runs if one.run is not None else bool(runs)
            worked.look(None if is_done else f"{one.id}: no handler of {one.task} did attempt {one.attempt} to its end")
        mine = [effect for effect in effects.get(one.id, ()) if effect.attempt == one.attempt]
        if one.state == "succeeded" and (one.task in EXACTLY_ONCE or is_inserted(one.task, one.id)):
            lacking.look(
                None if mine else f"{one.id}: attempt {one.attempt} of {one.task} succeeded, and left no effect"
            )
        if one.task in EXACTLY_ONCE and one.id in effects:
            count = len(effects[one.id])
            doubled.look(None if count == 1 else f"{one.id}: {count} effects were committed by job.transaction()")
    yield from (worked, lacking, doubled)


def _unfounded(told: Testimony, jobs: dict[UUID, Last], effects: Sequence[Call]) -> Verdict:
    """An effect in the job's transaction belongs to its success; any other one, to a handler's call."""
    unfounded = Verdict(rule="witness: effect without a cause")
    for effect in effects:
        job = jobs.get(effect.job)
        problem = None
        if effect not in told.calls:
            problem = f"{effect.job}: no handler has begun attempt {effect.attempt}, run {effect.run}"
        elif job is None and effect.job in told.touched:
            problem = None
        elif job is None:
            problem = f"{effect.job}: an effect of attempt {effect.attempt} of a job that is nowhere"
        elif job.task in EXACTLY_ONCE and (job.state != "succeeded" or job.attempt != effect.attempt):
            problem = (
                f"{effect.job}: an effect of attempt {effect.attempt}, and the job is {job.state} at {job.attempt}"
            )
        unfounded.look(problem)
    return unfounded


async def audited(database: Database, scope: Scope = WHOLE) -> list[Verdict]:
    """Audit the run's database, like `rowlock audit`; an invariant that could not be checked counts as broken."""
    return [
        Verdict(
            rule=f"audit: {one.invariant}",
            looked_at=one.looked_at,
            count=one.count or int(one.status == "unknown"),
            sentences=[*one.examples] or ([f"not looked at: {one.why_not}"] if one.status == "unknown" else []),
        )
        for one in await audit(database, scope)
    ]


class Watch:
    """Audits the database again and again during the run: what must hold at any moment is checked at many.

    An audit that faults prevent is skipped; `verdicts` sums up all others, except the rules in `excused`.
    """

    def __init__(self, database: Database, *, excused: Collection[str] = ()) -> None:
        self._database = database
        self._excused = excused
        self.verdicts: list[Verdict] = []

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with suppress(RowlockError, *AWAY):
                seen = await audited(self._database, PASSING)
                if not any(one.count and not one.looked_at for one in seen):
                    self.verdicts = together(self.verdicts, without(seen, self._excused))


def without(verdicts_of_round: Iterable[Verdict], excused: Collection[str]) -> list[Verdict]:
    """Leave out the verdicts of these rules."""
    return [one for one in verdicts_of_round if one.rule not in excused]


def together(*rounds: Iterable[Verdict]) -> list[Verdict]:
    """Add up the verdicts of each rule."""
    found: dict[str, Verdict] = {}
    for one in (verdict for verdicts_of_round in rounds for verdict in verdicts_of_round):
        known = found.setdefault(one.rule, Verdict(rule=one.rule))
        known.looked_at += one.looked_at
        known.count += one.count
        known.sentences = [*known.sentences, *one.sentences][:MOST_KEPT]
    return list(found.values())
