"""Whatever happens to jobs, in whichever order: the tables say what the documentation says. Compared with a model.

Hypothesis thinks up the stories; every step of one is done by the product's own classes and statements, and afterwards
all of the tables is compared with `tests/lifecycle_model.py`. Time passes by moving the rows (and the workers' cursors)
back by whole hours. A longer run: `pytest tests/db/test_lifecycle_machine.py --hypothesis-profile=long`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal, cast

import pytest
from asyncpg import Record
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from rowlock import InvalidOption, WrongState
from tests.db.lifecycle_bench import HOUR, ONE_HOUR_PASSES, QUEUES, RUN_OUT, TASKS, WORKERS, Attempt, Bench
from tests.db.lifecycle_steps import Steps, move_cursors, one_of
from tests.lifecycle_model import ENDINGS, Ending, KeyTakenError, Wanted

if TYPE_CHECKING:
    from tests.conftest import Server


IS_LONG: Final = settings.get_current_profile_name() == "long"


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


class Lifecycle(Steps):
    """One story."""

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
            new, wanted = one_of(live, which[0])
            assert self.model.enqueue(new.id, wanted) == new.id
            assert self.bench.do(self._told(self.bench.app.store.enqueue(new))) == new.id
            self._compare("enqueue")
        else:
            chosen = {new.id: (new, wanted) for new, wanted in (one_of(self.given, number) for number in which)}
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
        worker = one_of(self.workers, which)
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
                outcomes.append((one_of(attempts, which), ending, hours))
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
        attempt = one_of(running, which)
        worker, claimed = attempt.holder, attempt.claimed
        if fence == "other worker":
            worker = one_of([other for other in self.workers if other is not worker], which)
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
        worker = one_of(self.workers, which)
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
            self.cancel_many(one_of(list(QUEUES), which))
            return
        jobs = list(self.model.jobs)
        if act == "retry" and which % 5:
            jobs = [job for job in jobs if job not in self._live()] or jobs
        if not jobs:
            return
        job = one_of(jobs, which)
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
        job, delay = one_of(jobs, which), None if hours is None else hours * HOUR
        try:
            self.bench.do(self.bench.app.jobs.reschedule(job, delay=delay, priority=priority, queue=queue))
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
            move_cursors(worker.claims, hours * HOUR)
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


@pytest.mark.slow
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
