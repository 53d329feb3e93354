"""Check that each attempt begins with a claim, has a cause if it is not the first, and ends with its own outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.torture.evidence import SECOND, TIMED, TIMEOUT
from rowlock.torture.facts import Rescue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.audit import Recorded
    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Run
    from rowlock.torture.life import Life, Step

MAX_CRASHES: Final = 3
"""After so many crashes a job becomes failed, if it was alone when its worker died."""
MOST_CRASHES: Final = 2 * MAX_CRASHES
"""The most crashes beside other jobs: from the third crash on the job runs alone."""
PROCESS_TASKS: Final = frozenset({"torture.process", "operate.compute", "operate.crash"})
SHORT_SECONDS: Final = 0.2
"""The longest time from the start of a handler's timeout to the handler's own start."""
STOP_SECONDS: Final = 120
"""A worker that releases jobs has ended after this time."""


def starts(life: Life, evidence: Evidence) -> Iterator[str]:
    """A handler is called at most once for each attempt, by the worker that has claimed it."""
    seen: set[int] = set()
    for run in life.runs:
        evidence.looked["starts without a claim"] += 1
        claim = life.claim_of(run.attempt)
        if claim is None:
            yield f"attempt {run.attempt} started in process {run.pid} (run {run.run}) without a claim"
        elif (worker := evidence.workers.get(claim.change.worker)) and worker.pid != run.pid:  # type: ignore[arg-type]  # None is in no dict
            yield f"attempt {run.attempt} was claimed by process {worker.pid}, and started in {run.pid}"
        if run.attempt in seen:
            yield f"attempt {run.attempt} started twice (again as run {run.run})"
        seen.add(run.attempt)


def duplicates(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job starts again only for a cause: an error, a directive, a release, a crash, or an operator."""
    asked = len(life.asked("retry"))
    for step in life.steps:
        evidence.looked["unjustified duplicates"] += step.kind in {"retry", "requeue"}
        if step.kind == "retry":
            asked -= 1
            if asked < 0:
                yield f"it was put back after attempt {step.change.attempt}, and no operator had asked for it"
        elif step.kind == "requeue" and (wrong := _unjustified(life, step, evidence)):
            yield f"attempt {step.change.attempt} was not the last one: {wrong}"


def cause(life: Life, step: Step) -> str:
    """The recorded outcome of an attempt that was not the last one; empty if none is recorded."""
    return next((row.outcome for row in life.recorded if row.attempt == step.change.attempt), "")


def _unjustified(life: Life, step: Step, evidence: Evidence) -> str:
    """What is wrong with the recorded cause of another attempt."""
    outcome = cause(life, step)
    if not outcome:
        return "no cause is recorded"
    if step.is_crash != (outcome == "crashed"):
        return f"the cause is recorded as {outcome}, and crashes is {step.change.crashes}"
    if outcome in {"failed", "cancelled"}:
        return f"its outcome is {outcome}, and it went back to the queue"
    if outcome == "released" and (begun := life.runs_of(step.change.attempt)):
        ended = evidence.history_time(step.change.at)
        if not _was_cut_off(step, evidence) and not any(_was_stopped(run, ended, evidence) for run in begun):
            return f"process {begun[0].pid} released it, and that process was not asked to stop"
    return ""


def _was_cut_off(step: Step, evidence: Evidence) -> bool:
    """Whether the worker logged that it lost the attempt's lease: it releases the jobs that it stopped."""
    worker = None if step.old is None else step.old.worker
    said = None if worker is None else evidence.said.get(worker)
    return said is not None and "lease_lost" in said.events


def _was_stopped(run: Run, at: float, evidence: Evidence) -> bool:
    """Whether the run's process was asked to stop, or ended soon after."""
    late = at + STOP_SECONDS * SECOND
    asked = (one for one in evidence.troubles_between(0, late) if one.kind == "stop" and one.process == run.pid)
    return any(asked) or evidence.death(run.pid, run.started) <= late


def outcomes(life: Life, evidence: Evidence) -> Iterator[str]:
    """The recorded outcome of an attempt is its handler's."""
    for row in life.recorded:
        evidence.looked["false outcomes"] += 1
        runs = life.runs_of(row.attempt)
        said = [run.how for run in runs]
        match row.outcome:
            case "error" | "retried":
                has_died = any(run.how is None and _has_died(run, evidence) for run in runs)
                is_true = "error" in said or has_died or (not runs and _runs_apart(life))
            case "snoozed":
                is_true = "snooze" in said
            case "failed":
                is_true = "fail" in said
            case "cancelled":
                is_true = "cancel" in said or bool(life.asked("cancel"))
            case "timeout":
                evidence.looked["false outcomes: timeouts"] += 1
                is_true = _may_time_out(life, runs)
            case _:  # no handler decides a release or a crash
                is_true = True
        if not is_true:
            yield f"attempt {row.attempt} is recorded as {row.outcome}, and its handler ended with {said or 'nothing'}"
    if any(step.is_cancel_of_waiting for step in life.steps) and not (
        any(operation.what == "cancel" for operation in life.operations) or _has_aged_by_a_step(life, evidence)
    ):
        yield "it was cancelled while it waited, and no operator had asked for it"


def _has_aged_by_a_step(life: Life, evidence: Evidence) -> bool:
    """Whether an act on many jobs, by their age, named this one after a step of the server's clock."""
    return bool(evidence.clocks.steps) and any(
        deed.about.get("by") == "age" and str(life.id) in deed.said["first_ids"]
        for deed in evidence.deeds_of("cancel_many")
        if deed.outcome == "done"
    )


def _may_time_out(life: Life, runs: list[Run]) -> bool:
    """Whether the job has a deadline, or a timeout that its handler reached, or that passed before its start."""
    wanted = life.wanted
    if wanted is None or wanted.queue is None:
        return True
    seconds = wanted.timeout or (TIMEOUT if wanted.task == TIMED else None)
    if wanted.deadline is not None or (seconds is not None and not runs):
        return True
    return seconds is not None and any(run.ended - run.started >= (seconds - SHORT_SECONDS) * SECOND for run in runs)


def _runs_apart(life: Life) -> bool:
    """Whether the handler runs in its own process, which can end before it logs its start."""
    return life.wanted is not None and life.wanted.task in PROCESS_TASKS


def _has_died(run: Run, evidence: Evidence) -> bool:
    return evidence.death_of(run) != float("inf")


def stale(life: Life, evidence: Evidence) -> Iterator[str]:
    """An outcome is accepted only from the running attempt and its worker, once for each attempt."""
    claim: Step | None = None
    ends: dict[int | None, Step] = {}
    for step in life.steps:
        if step.kind == "claim":
            claim = step
        elif step.ends_attempt:
            evidence.looked["stale outcomes accepted"] += 1
            ends[step.change.attempt] = step
            if step.kind == "finish":
                yield from _stale_finish(life, step, claim)
    yield from _stale_rows(life, ends)
    for run in life.runs:
        end = ends.get(run.attempt)
        if run.how is not None and end is not None and end.is_crash:
            evidence.looked["stale outcomes accepted: handlers that ended after a rescue"] += (
                run.ended > evidence.history_time(end.change.at)
            )


def _stale_finish(life: Life, step: Step, claim: Step | None) -> Iterator[str]:
    """A finish names the attempt and the worker of the last claim, and a success the run of that attempt."""
    change = step.change
    if claim is None or (change.attempt, change.worker) != (claim.change.attempt, claim.change.worker):
        last = "nothing" if claim is None else f"attempt {claim.change.attempt} of worker {claim.change.worker}"
        yield f"{change.state} by attempt {change.attempt} of worker {change.worker}, when {last} was running"
    if change.state == "succeeded" and all(run.run != change.run for run in life.runs_of(change.attempt)):
        whose = [f"attempt {run.attempt}" for run in life.runs if run.run == change.run] or ["no run of its handler"]
        yield f"the success of attempt {change.attempt} has the result {change.run}, which is of {whose[0]}"


def _stale_rows(life: Life, ends: dict[int | None, Step]) -> Iterator[str]:
    """A row of the table `attempt` belongs to an attempt that ended this way, and to the worker that claimed it."""
    told: dict[int, Recorded] = {}
    for row in life.recorded:
        if (other := told.setdefault(row.attempt, row)) is not row:
            yield f"attempt {row.attempt} has two outcomes: {other.outcome} and {row.outcome}"
        end, claim = ends.get(row.attempt), life.claim_of(row.attempt)
        if end is None or end.change.state == "succeeded":
            became = "did not end" if end is None else "succeeded"
            yield f"attempt {row.attempt} is recorded as {row.outcome}, and {became}"
        elif claim is not None and row.worker != claim.change.worker:
            yield (
                f"attempt {row.attempt} is recorded as {row.outcome} by worker {row.worker}, "
                f"and was claimed by {claim.change.worker}"
            )


def limits(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job starts as often as max_attempts, its crashes and uncounted attempts allow, and not more often."""
    evidence.looked["starts past the limit"] += len(life.runs) > 1
    most_errors = life.wanted.max_attempts if life.wanted is not None else 10
    for step in life.steps:
        errors, crashes = step.change.errors or 0, step.change.crashes or 0
        if step.kind == "requeue" and crashes >= MOST_CRASHES:
            yield f"it went back to the queue after {crashes} crashes, of at most {MOST_CRASHES} ({step})"
        if step.kind == "requeue" and errors >= most_errors:
            yield f"it went back to the queue after {errors} errors, of at most {most_errors} ({step})"
    lives = 1 + len(life.asked("retry"))
    free = sum(row.outcome in {"snoozed", "released"} for row in life.recorded)
    most = lives * (most_errors + MOST_CRASHES) + free
    if len(life.runs) > most:
        yield f"its handler was called {len(life.runs)} times, of at most {most}"


def note_rescues(life: Life, evidence: Evidence) -> None:
    """Note which jobs were rescued from which worker."""
    claimed = 0
    for step in life.steps:
        if step.kind == "claim":
            claimed = step.change.number
        elif step.is_crash and step.old is not None and step.old.worker is not None:
            rescue = Rescue(
                job=life.id,
                claimed=claimed,
                number=step.change.number,
                xid=step.change.xid,
                crashes=step.change.crashes or 0,
                at=step.change.at,
                is_quarantine=step.kind == "finish",
            )
            evidence.rescues[step.old.worker].append(rescue)


def chances(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A job that was alone at its third crash becomes failed: docs/worker.md, 'Jobs that take their worker down'.

    It was alone if no other job was rescued from the worker that the worker held at the same time. Only workers that
    had ended before are judged: they finished nothing meanwhile.
    """
    for worker, rescues in evidence.rescues.items():
        for one in rescues:
            at = evidence.history_time(one.at)
            pid = evidence.workers[worker].pid if worker in evidence.workers else 0
            if one.crashes < MAX_CRASHES or evidence.death(pid, 0.0) > at or not evidence.epochs:
                continue
            if any(other.job != one.job and other.number > one.claimed for other in rescues):
                continue
            evidence.looked["starts past the limit: crashes alone"] += 1
            if not one.is_quarantine:
                yield str(one.job), f"it was alone at its crash number {one.crashes}, and went back to the queue"


def quarantines(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A job becomes failed for its crashes only after three of them, and only if its worker held no other job."""
    for worker, rescues in evidence.rescues.items():
        for one in rescues:
            evidence.looked["unjustified quarantines"] += one.is_quarantine
            if one.is_quarantine and one.crashes < MAX_CRASHES:
                yield str(one.job), f"it failed as a crasher after {one.crashes} crashes"
            beside = [
                other
                for other in rescues
                if other.job != one.job
                and other.claimed < one.number
                and (other.number > one.number or other.xid == one.xid)
            ]
            if one.is_quarantine and beside:
                yield str(one.job), f"it failed as a crasher, and worker {worker} held job {beside[0].job} too"
