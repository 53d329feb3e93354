"""Check that no job starts before its time, or after it: delays, due times, expiries and deadlines.

All times are by the database's clock. `began` is now() of a transaction: a claim compares due times with it, and a time
that an enqueue or a retry computes with clock_timestamp() is never before it. So the comparisons need no tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.torture.checks.attempts import cause
from rowlock.torture.evidence import PAUSES, SECOND, TIMED, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.audit import Change
    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Run
    from rowlock.torture.life import Life, Step

ROUNDING_SECONDS: Final = 0.001
DELAYED_SECONDS: Final = 0.01
"""A job that is due so long after its row was written has a delay."""
START_SECONDS: Final = 2.0
"""How long after the worker's check a handler may start."""
STOPPED_SECONDS: Final = 5.0
"""How long a stopped handler may take to end."""
SOON_SECONDS: Final = 20.0
"""How soon a waiting job ends after its time, if nothing keeps everybody from the database."""
WAITED_AFTER: Final = frozenset({"error", "retried", "snoozed"})
CLOCK: Final = frozenset({"clock"})
"""Faults that set the server's clock: two of its times cannot be compared then."""
EVERYBODY: Final = CLOCK | {"server", "full", "full_wal", "locks", "failover", "rewind", "terminate", "pin", "slow"}


def early(life: Life, evidence: Evidence) -> Iterator[str]:
    """No claim takes a job before it is due, and it is due no earlier than its delay, backoff or snooze."""
    for step in life.steps:
        if step.kind == "claim":
            yield from _early_claim(step, evidence)
        elif step.kind == "enqueue" and life.wanted is not None and life.wanted.delay and not life.is_tick:
            yield from _too_short(step, life.wanted.delay, "it was to wait", evidence)
        elif step.kind == "requeue":
            delays = [run.delay for run in life.runs_of(step.change.attempt) if run.how in {"snooze", "error"}]
            if delays and delays[-1] and cause(life, step) in WAITED_AFTER:
                yield from _too_short(step, delays[-1], f"after attempt {step.change.attempt} it was to wait", evidence)


def _early_claim(step: Step, evidence: Evidence) -> Iterator[str]:
    row, claim = step.old, step.change
    if row is None or row.run_at is None:
        return
    evidence.looked["too early"] += 1
    if row.run_at > row.at + DELAYED_SECONDS:
        evidence.looked["too early: delayed jobs"] += 1
    if claim.began < row.run_at - ROUNDING_SECONDS and is_steady(row, claim, evidence):
        yield f"attempt {claim.attempt} was claimed {row.run_at - claim.began:.3f} s before the job was due"


def _too_short(step: Step, delay: float, what: str, evidence: Evidence) -> Iterator[str]:
    row = step.new
    if row is None or row.run_at is None:
        return
    evidence.looked["too early: delays"] += 1
    if row.run_at < row.began + delay - ROUNDING_SECONDS and is_steady(row, row, evidence):
        yield f"{what} {delay:.3f} s, and was due {row.run_at - row.began:.3f} s after its transaction began"


def overdue(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job is due no later than asked for: a delay, a backoff or a snooze after its row was written, or at once."""
    for step in life.steps:
        row = step.new
        if row is None or row.run_at is None or row.what != "job" or not is_steady(row, row, evidence):
            continue
        most = _longest(life, step)
        if most is None:
            continue
        evidence.looked["too late: waits between two attempts"] += step.kind == "requeue"
        if row.run_at > row.at + most + ROUNDING_SECONDS:
            waits = row.run_at - row.at
            yield f"it was to wait {most:.3f} s at most, and is due {waits:.3f} s after it was written ({step})"


def _longest(life: Life, step: Step) -> float | None:
    """How many seconds a step may make the job wait; None if unknown."""
    if step.kind == "retry":
        return 0.0
    if step.kind == "enqueue":
        wanted = life.wanted
        return None if wanted is None or wanted.queue is None or wanted.run_at is not None else wanted.delay or 0.0
    if step.kind != "requeue":
        return None
    outcome = cause(life, step)
    if outcome in {"crashed", "released"}:
        return 0.0
    runs = [run for run in life.runs_of(step.change.attempt) if run.how in {"snooze", "error"}]
    return (runs[-1].longest or None) if runs and outcome in WAITED_AFTER else None


def outlasted(life: Life, evidence: Evidence) -> Iterator[str]:
    """A handler that can be stopped ends soon after its timeout, and after its job's deadline."""
    for run in life.runs:
        claim = life.claim_of(run.attempt)
        limits: dict[str, float] = {}
        if (seconds := timeout_of(life)) is not None:
            limits["timeout"] = run.started + seconds * SECOND
        deadline = claim.old.deadline if claim is not None and claim.old is not None else None
        if deadline is not None and evidence.epochs and not _has_stepped(life, run, evidence):
            limits["deadline"] = max(evidence.history_time(deadline), float(run.started))
        for name, limit in limits.items():
            evidence.looked[f"too late: handlers with a {name}"] += 1
            until = limit + STOPPED_SECONDS * SECOND
            if run.ended > until and not run.is_stubborn and not _is_blocked(run, until, evidence):
                yield f"attempt {run.attempt} ran {(run.ended - limit) / SECOND:.2f} s past its {name}"


def _has_stepped(life: Life, run: Run, evidence: Evidence) -> bool:
    """Whether the server's clock stepped between the job's enqueue and the run's end: the deadline moves with it."""
    return evidence.clocks.stepped_between(evidence.history_time(life.changes[0].at) - 10 * SECOND, run.ended)


def timeout_of(life: Life) -> float | None:
    """The timeout of the job, or that of its task."""
    if life.wanted is None:
        return None
    return life.wanted.timeout or (TIMEOUT if life.wanted.task == TIMED else None)


def _is_blocked(run: Run, until: float, evidence: Evidence) -> bool:
    """Whether the process of a run was stalled for some time, or that is not known."""
    blocked = any(one.started <= until and one.ended >= run.started for one in evidence.blocking.get(run.pid, ()))
    return blocked or not evidence.is_calm(run.pid, run.started, until)


def late(life: Life, evidence: Evidence) -> Iterator[str]:
    """An expired job never starts; after a deadline no attempt does. Such a job ends soon, in the right state."""
    has_started = False
    row: Change | None = None
    for step in life.steps:
        if step.kind == "enqueue":
            yield from _limits_kept(life, step, evidence)
        elif step.kind == "claim" and step.old is not None:
            yield from _late_claim(step.old, step.change, evidence, has_started=has_started)
            yield from _late_starts(life, step, evidence, has_started=has_started)
            has_started = has_started or bool(life.runs_of(step.change.attempt))
        elif step.kind == "finish" and not step.ends_attempt and row is not None:
            yield from _ended(row, step.change, evidence)
        has_started = has_started or step.is_crash  # it is unknown whether the handler began
        row = step.new


def _limits_kept(life: Life, step: Step, evidence: Evidence) -> Iterator[str]:
    """The row has the requested expiry and deadline."""
    row, wanted = step.new, life.wanted
    if row is None or wanted is None or row.run_at is None or not is_steady(row, row, evidence):
        return
    for name, seconds, stored in (
        ("expiry", wanted.expires, row.expires_at),
        ("deadline", wanted.deadline, row.deadline),
    ):
        if seconds is not None and (
            stored is None or not row.began - ROUNDING_SECONDS <= stored - seconds <= row.at + ROUNDING_SECONDS
        ):
            has = "none" if stored is None else f"one {stored - row.at:.3f} s after it was written"
            yield f"it was to have an {name} after {seconds} s, and its row has {has}"


def _late_claim(row: Change, claim: Change, evidence: Evidence, *, has_started: bool) -> Iterator[str]:
    for name, limit in (("expired", None if has_started else row.expires_at), ("had its deadline", row.deadline)):
        if limit is None:
            continue
        evidence.looked["too late"] += 1
        if claim.began >= limit + ROUNDING_SECONDS and is_steady(row, claim, evidence):
            yield f"attempt {claim.attempt} was claimed {claim.began - limit:.3f} s after the job {name}"


def _late_starts(life: Life, step: Step, evidence: Evidence, *, has_started: bool) -> Iterator[str]:
    """The worker checks again before it starts a claimed job."""
    row = step.old
    limits = () if row is None else (None if has_started else row.expires_at, row.deadline)
    limit = min((one for one in limits if one is not None), default=None)
    if limit is None or not evidence.epochs:
        return
    for run in life.runs_of(step.change.attempt):
        late_by = evidence.database_time(run.started) - limit
        asleep = evidence.troubles_between(run.started - (late_by + START_SECONDS) * SECOND, run.started)
        is_known = row is not None and is_steady(row, step.change, evidence)
        if (
            late_by > START_SECONDS
            and is_known
            and not any(one.process == run.pid and one.kind in PAUSES for one in asleep)
        ):
            yield f"attempt {run.attempt} started {late_by:.3f} s after it was allowed to"


def _ended(before: Change, end: Change, evidence: Evidence) -> Iterator[str]:
    """A waiting job that the queue ended had passed its time, and not long ago."""
    if before.run_at is None or end.state not in {"expired", "failed"}:
        return
    limit = before.expires_at if end.state == "expired" else before.deadline
    evidence.looked[f"too late: jobs that ended as {end.state} while they waited"] += 1
    if limit is None or end.at < limit - ROUNDING_SECONDS:
        if is_steady(before, end, evidence):
            yield f"it ended as {end.state}, and its time was not over ({limit or 'there was no limit'})"
    elif end.began - max(limit, before.at) > SOON_SECONDS and not _was_hard(limit, end, evidence):
        yield f"it ended as {end.state} only {end.began - limit:.1f} s after its time was over"


def _was_hard(limit: float, end: Change, evidence: Evidence) -> bool:
    """Whether something kept everybody from the database meanwhile, or that is unknown."""
    if not evidence.epochs:
        return True
    between = evidence.troubles_between(evidence.history_time(limit), evidence.history_time(end.at))
    return any(one.kind in EVERYBODY and not one.process for one in between)


def is_steady(first: Change, last: Change, evidence: Evidence) -> bool:
    """Whether the server's clock did not step between the two."""
    if not any(one.kind in CLOCK for one in evidence.troubles) or not evidence.epochs:
        return True
    begin, end = evidence.history_time(min(first.began, last.began)), evidence.history_time(max(first.at, last.at))
    return not any(one.kind in CLOCK for one in evidence.troubles_between(begin - 10 * SECOND, end + 10 * SECOND))
