"""What the documentation says of a job's life, in memory and in whole hours, so that the SQL can be compared with it.

Written from the pages lifecycle, unique, worker and operating in docs/, and not from the code: where the two differ,
one of them is wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias
from uuid import UUID

LIVE: Final = frozenset({"queued", "running"})
MAX_CRASHES: Final = 3
LAST_CHANCE: Final = 2
"""Crashes. From then on a job runs alone, and its next crash alone is its end."""
LEASE: Final = 1.5
"""Hours: half an hour past the last whole one, so that a lease has clearly run out, or clearly has not."""

Ending: TypeAlias = Literal[
    "succeed", "error", "timeout", "retry", "snooze", "cancel", "fail", "released", "was cancelled"
]
ENDINGS: Final[tuple[Ending, ...]] = (
    "succeed",
    "error",
    "timeout",
    "retry",
    "snooze",
    "cancel",
    "fail",
    "released",
    "was cancelled",
)
"""How an attempt can end: what its handler does, or what its worker says of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an enqueue asks for. Times are hours from the enqueue on; `key` is as it is stored."""

    args: int
    task: str
    queue: str
    priority: int = 5
    max_attempts: int = 10
    delay: int = 0
    expires: int | None = None
    deadline: int | None = None
    key: str | None = None
    until_start: bool = False
    period: int | None = None
    on_duplicate: str = "return"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A job as the tables have it: `due` and the limits count in hours from now, and are those of live jobs alone."""

    state: str
    task: str
    queue: str
    priority: int
    args: int
    max_attempts: int
    attempt: int
    errors: int
    crashes: int
    worker: UUID | None
    key: str | None
    due: float | None = None
    ends: float | None = None
    expires: float | None = None
    deadline: float | None = None
    is_cancel_requested: bool = False
    is_discarded: bool = False
    result: int | None = None

    @property
    def is_live(self) -> bool:
        return self.state in LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Who holds a unique key, and for how long: until its job has ended unless it says otherwise."""

    job: UUID
    until_start: bool = False
    expires: float | None = None


class KeyTakenError(Exception):
    """Another job holds the key."""


@dataclass(slots=True)
class Model:
    """All jobs, keys and leases. Times inside are hours since the beginning."""

    now: int = 0
    jobs: dict[UUID, Row] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    attempts: Counter[tuple[UUID, int, str]] = field(default_factory=Counter)
    leases: dict[UUID, float] = field(default_factory=dict)

    # What there is to see.

    def rows(self) -> dict[UUID, Row]:
        """The jobs, with times that count from now."""
        return {job: self._seen(row) for job, row in self.jobs.items()}

    def seen_holds(self) -> dict[str, Hold]:
        return {key: replace(hold, expires=self._from_now(hold.expires)) for key, hold in self.holds.items()}

    def alive(self) -> set[UUID]:
        """The workers whose lease has not run out."""
        return {worker for worker, expires in self.leases.items() if expires > self.now}

    def running_by(self, worker: UUID) -> set[UUID]:
        return {job for job, row in self.jobs.items() if row.state == "running" and row.worker == worker}

    def _seen(self, row: Row) -> Row:
        if not row.is_live:
            return replace(row, due=None, ends=None, expires=None, deadline=None, is_cancel_requested=False)
        return replace(
            row,
            due=self._from_now(row.due),
            ends=self._from_now(row.ends),
            expires=self._from_now(row.expires),
            deadline=self._from_now(row.deadline),
        )

    def _from_now(self, time: float | None) -> float | None:
        return None if time is None else time - self.now

    # What applications do.

    def enqueue(self, job: UUID, wanted: Wanted) -> UUID:
        """The id of the job that is there now: this one, or the one that holds its key. Raises `KeyTakenError`."""
        if job in self.jobs and self.jobs[job].is_live:
            return job
        if wanted.key is not None:
            holder = self._take(wanted.key, job, until_start=wanted.until_start, expires=self._in_hours(wanted.period))
            if holder is not None:
                if wanted.on_duplicate == "replace" and self._waits(holder):
                    self._replace(holder, wanted)
                elif wanted.on_duplicate == "raise":
                    raise KeyTakenError
                return holder
        expires, deadline = self._in_hours(wanted.expires), self._in_hours(wanted.deadline)
        self.jobs[job] = Row(
            state="queued",
            task=wanted.task,
            queue=wanted.queue,
            priority=wanted.priority,
            args=wanted.args,
            max_attempts=wanted.max_attempts,
            attempt=0,
            errors=0,
            crashes=0,
            worker=None,
            key=wanted.key,
            due=self.now + wanted.delay,
            ends=_least(expires, deadline),
            expires=expires,
            deadline=deadline,
        )
        return job

    def enqueue_many(self, jobs: Sequence[tuple[UUID, Wanted]]) -> set[UUID]:
        """The jobs that were refused for their key; those that never were stored are. All or none: raises
        `KeyTakenError`."""
        before = self.copy()
        new = [(job, wanted) for job, wanted in jobs if job not in self.jobs]
        plain = [(job, wanted) for job, wanted in new if wanted.key is None]
        keyed = sorted((one for one in new if one[1].key is not None), key=lambda one: one[1].key or "")
        try:
            return {job for job, wanted in [*plain, *keyed] if self.enqueue(job, wanted) != job}
        except KeyTakenError:
            self.become(before)
            raise

    def _replace(self, job: UUID, wanted: Wanted) -> None:
        row = self.jobs[job]
        expires, deadline = self._in_hours(wanted.expires), self._in_hours(wanted.deadline)
        self.jobs[job] = replace(
            row,
            task=wanted.task,
            queue=wanted.queue,
            priority=wanted.priority,
            args=wanted.args,
            max_attempts=wanted.max_attempts,
            due=self.now + wanted.delay,
            ends=_least(expires if row.attempt == 0 else None, deadline),
            expires=expires,
            deadline=deadline,
        )

    # Keys.

    def _take(self, key: str, job: UUID, *, until_start: bool = False, expires: float | None = None) -> UUID | None:
        """Take the key: None, or who holds it."""
        hold = self.holds.get(key)
        if hold is not None and self._is_held(hold):
            if hold.until_start or hold.expires is not None or not self._waits_in_vain(hold.job):
                return None if hold.job == job else hold.job
            self.jobs[hold.job] = replace(self.jobs[hold.job], ends=-math.inf)  # no claim can have it any more
        self.holds[key] = Hold(job=job, until_start=until_start, expires=expires)
        return None

    def _is_held(self, hold: Hold) -> bool:
        if hold.expires is not None:
            return hold.expires > self.now
        return self._waits(hold.job) if hold.until_start else True

    def _waits(self, job: UUID) -> bool:
        row = self.jobs.get(job)
        return row is not None and row.state == "queued" and (row.ends is None or row.ends > self.now)

    def _waits_in_vain(self, job: UUID) -> bool:
        row = self.jobs.get(job)
        return row is not None and row.state == "queued" and row.ends is not None and row.ends <= self.now

    def _free(self, job: UUID, *, is_cancelled: bool = False) -> None:
        """The job has ended. A key until its start is free by that, and its row is left to the upkeep, mostly."""
        key = self.jobs[job].key
        if key is None or (hold := self.holds.get(key)) is None or hold.job != job or hold.expires is not None:
            return
        if is_cancelled or not hold.until_start:
            del self.holds[key]

    def forget_keys(self) -> int:
        """Remove what nobody holds and nobody will hold again."""
        gone = [
            key
            for key, hold in self.holds.items()
            if (hold.expires is not None and hold.expires <= self.now)
            or (hold.until_start and not self.jobs[hold.job].is_live)
        ]
        for key in gone:
            del self.holds[key]
        return len(gone)

    # What workers do.

    def register(self, worker: UUID) -> None:
        self.leases[worker] = self.now + LEASE

    def renew(self, worker: UUID) -> bool:
        if worker not in self.alive():
            return False
        self.leases[worker] = self.now + LEASE
        return True

    def claim(
        self,
        worker: UUID,
        queues: Iterable[str],
        tasks: Collection[str],
        limit: int,
        *,
        limits: Mapping[str, int],
        run_at: Callable[[UUID], object],
    ) -> list[UUID]:
        """The jobs that are claimed now, in the order in which they are to run. `run_at` tells of two that are due
        which one was due first."""

        def urgency(job: UUID) -> tuple[int, object, UUID]:
            return -self.jobs[job].priority, run_at(job), job

        claimed: list[UUID] = []
        for queue in queues if worker in self.alive() else ():
            due = [
                job
                for job, row in self.jobs.items()
                if row.queue == queue and row.crashes < LAST_CHANCE and self._is_due(row, tasks)
            ]
            wanted = min(limits.get(queue, limit), limit - len(claimed))
            claimed += sorted(due, key=urgency)[: max(wanted, 0)]
        for job in claimed:
            self._start(job, worker)
        return sorted(claimed, key=urgency)

    def claim_alone(
        self, worker: UUID, queues: Sequence[str], tasks: Collection[str], *, run_at: Callable[[UUID], object]
    ) -> list[UUID]:
        """The most urgent job of those that are on their last chance, of a queue that comes first; or none."""
        due = [
            (-row.priority, queues.index(row.queue), run_at(job), job)
            for job, row in self.jobs.items()
            if row.queue in queues and row.crashes >= LAST_CHANCE and self._is_due(row, tasks)
        ]
        if not due or worker not in self.alive():
            return []
        *_, job = min(due)
        self._start(job, worker)
        return [job]

    def _is_due(self, row: Row, tasks: Collection[str]) -> bool:
        is_over = row.ends is not None and row.ends <= self.now
        return row.state == "queued" and row.task in tasks and _some(row.due) <= self.now and not is_over

    def _start(self, job: UUID, worker: UUID) -> None:
        row = self.jobs[job]
        self.jobs[job] = replace(row, state="running", worker=worker, attempt=row.attempt + 1)

    def finish(self, worker: UUID, job: UUID, attempt: int, ending: Ending, hours: int) -> bool:
        """Whether the outcome was accepted: that of exactly the running attempt is."""
        row = self.jobs.get(job)
        if row is None or (row.state, row.worker, row.attempt) != ("running", worker, attempt):
            return False
        if ending == "succeed":
            self.jobs[job] = replace(row, state="succeeded", result=hours)
            self._free(job)
            return True
        outcome = {"retry": "retried", "snooze": "snoozed", "cancel": "cancelled", "fail": "failed"}.get(ending, ending)
        outcome = outcome.removeprefix("was ")
        is_error = ending in {"error", "timeout", "retry", "fail"}
        errors = row.errors + is_error
        is_last = is_error and (ending == "fail" or errors >= row.max_attempts)
        self.attempts[job, attempt, outcome] += 1
        if is_last or outcome == "cancelled":
            self.jobs[job] = replace(row, state="failed" if is_last else "cancelled", errors=errors)
            self._free(job)
            return True
        ends = row.ends if ending == "released" else row.deadline
        self.jobs[job] = replace(
            row,
            state="queued",
            worker=None,
            errors=errors,
            due=self.now + (0 if ending == "released" else hours),
            ends=-math.inf if row.is_cancel_requested else ends,
        )
        return True

    def rescue(self, *, orphans: bool) -> set[UUID]:
        """The jobs that were taken back from workers whose lease has run out; `orphans`: also of unknown workers."""
        alive = self.alive()
        lost = {
            job
            for job, row in self.jobs.items()
            if row.state == "running" and row.worker not in alive and (orphans or row.worker in self.leases)
        }
        alone = {job for job in lost if len(self.running_by(_known(self.jobs[job].worker))) == 1}
        for job in lost:
            row = self.jobs[job]
            is_crash = self.leases.get(_known(row.worker)) != -math.inf  # a worker that gave its lease up did not crash
            self.attempts[job, row.attempt, "crashed" if is_crash else "released"] += 1
            row = replace(row, crashes=row.crashes + is_crash)
            if is_crash and row.crashes >= MAX_CRASHES and job in alone:
                self.jobs[job] = replace(row, state="failed")
                self._free(job)
            else:
                ends = -math.inf if row.is_cancel_requested else row.deadline if is_crash else row.ends
                self.jobs[job] = replace(row, state="queued", worker=None, due=self.now, ends=ends)
        return lost

    def end_overdue(self) -> dict[UUID, str]:
        """The waiting jobs whose time is over, with the states in which they have ended."""
        ended: dict[UUID, str] = {}
        for job, row in self.jobs.items():
            if row.state == "queued" and row.ends is not None and row.ends <= self.now:
                is_late = row.deadline is not None and row.deadline <= self.now
                ended[job] = "cancelled" if row.is_cancel_requested else "failed" if is_late else "expired"
        for job, state in ended.items():
            self.jobs[job] = replace(self.jobs[job], state=state)
            self._free(job)
        return ended

    def forget_workers(self) -> None:
        """Remove the workers that are gone and hold no job. A lease that has just run out stays for a minute."""
        for worker in self.leases.keys() - self.alive():
            if self.leases[worker] < self.now and not self.running_by(worker):
                del self.leases[worker]

    # What operators do.

    def cancel(self, job: UUID) -> str | None:
        """What `cancel` answers; None if it is too late."""
        row = self.jobs[job]
        if row.state == "running":
            self.jobs[job] = replace(row, is_cancel_requested=True, ends=-math.inf)
            return "requested"
        if row.state == "queued":
            self.jobs[job] = replace(row, state="cancelled")
            self._free(job, is_cancelled=True)
            return "cancelled"
        return None

    def retry(self, job: UUID, args: int | None) -> bool:
        """Whether the job could be put back. Raises `KeyTakenError`."""
        row = self.jobs[job]
        if row.state not in {"failed", "cancelled", "expired"}:
            return False
        if row.key is not None and self._take(row.key, job) is not None:
            raise KeyTakenError
        self.jobs[job] = Row(
            state="queued",
            task=row.task,
            queue=row.queue,
            priority=row.priority,
            args=row.args if args is None else args,
            max_attempts=row.max_attempts,
            attempt=row.attempt,
            errors=0,
            crashes=0,
            worker=None,
            key=row.key,
            due=self.now,
        )
        return True

    def discard(self, job: UUID) -> bool:
        """Whether the job is a dead letter."""
        row = self.jobs[job]
        if row.state == "failed":
            self.jobs[job] = replace(row, is_discarded=True)
        return row.state == "failed"

    def reschedule(self, job: UUID, hours: int | None, priority: int | None, queue: str | None) -> str:
        """What becomes of it: `changed`; `state` if it does not wait, or does so in vain; `late` for such a time."""
        row = self.jobs[job]
        if not self._waits(job):
            return "state"
        if row.ends is not None and row.ends <= self.now + (hours or 0):
            return "late"
        due = _some(row.due)
        lane = row.queue if queue is None else queue, row.priority if priority is None else priority
        if lane != (row.queue, row.priority) or (hours is not None and (hours > 0 or due > self.now)):
            due = max(self.now, due if hours is None else self.now + hours)
            self.jobs[job] = replace(row, due=due, queue=lane[0], priority=lane[1])
        return "changed"

    def delete(self, job: UUID) -> bool:
        """Whether the job has finished: then nothing is left of it, and its key is free."""
        if self.jobs[job].is_live:
            return False
        del self.jobs[job]
        self.holds = {key: hold for key, hold in self.holds.items() if hold.job != job}
        self.attempts = Counter({one: count for one, count in self.attempts.items() if one[0] != job})
        return True

    # Time, and what did not happen.

    def pass_hours(self, hours: int) -> None:
        self.now += hours

    def copy(self) -> Model:
        return Model(self.now, dict(self.jobs), dict(self.holds), Counter(self.attempts), dict(self.leases))

    def become(self, other: Model) -> None:
        """What was done since the copy is undone."""
        self.now, self.jobs, self.holds = other.now, other.jobs, other.holds
        self.attempts, self.leases = other.attempts, other.leases

    def _in_hours(self, hours: float | None) -> float | None:
        return None if hours is None else self.now + hours


def _least(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def _known(worker: UUID | None) -> UUID:
    assert worker is not None, "who runs has a worker"
    return worker


def _some(time: float | None) -> float:
    return math.inf if time is None else time
