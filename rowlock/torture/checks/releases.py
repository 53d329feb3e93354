"""Check that a worker releases claimed jobs that have not begun only for a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.torture.checks.attempts import cause
from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Worker
    from rowlock.torture.life import Life, Step

STALE_SECONDS: Final = 1.9
"""After so long a wait for a slot a job is released: another worker may be free."""
LEASE_SECONDS: Final = 0.5
"""A worker counts its lease from before it sends the renewal: its lease may end so much earlier for it."""
STEP_SECONDS: Final = 5.0
"""How long after a step of the server's clock a worker's lease may be over by the new time."""
STOP_SECONDS: Final = 120
LAST_CHANCE: Final = 2


def releases(life: Life, evidence: Evidence) -> Iterator[str]:
    """An attempt that never began is released only for a known reason.

    The process stops; the job waited for a slot for two seconds; the lease was over when the attempt was to begin; the
    job's own time was over; or the worker made room: for a job that runs alone, or on an operator's order.
    """
    claim: Step | None = None
    for step in life.steps:
        if step.kind == "claim":
            claim = step
        elif step.kind == "requeue" and claim is not None and cause(life, step) == "released":
            attempt = claim.change.attempt
            worker = evidence.workers.get(claim.change.worker)  # type: ignore[arg-type]  # None is in no dict
            if life.runs_of(attempt) or worker is None or not evidence.epochs:
                continue
            evidence.looked["needless releases"] += 1
            if reason := _reason(claim, step, worker, evidence):
                evidence.looked[f"needless releases: {reason}"] += 1
            else:
                waited = step.change.at - claim.change.began
                yield f"process {worker.pid} released attempt {attempt} after {waited:.3f} s, and nothing explains it"


def _reason(claim: Step, step: Step, worker: Worker, evidence: Evidence) -> str:
    at, row = step.change.at, claim.old
    if at - claim.change.began >= STALE_SECONDS:
        return "it waited for a slot"
    if _is_over(claim, at, worker, evidence):
        return "its lease was over"
    if row is not None and ((row.crashes or 0) >= LAST_CHANCE or worker.pid in evidence.makers_of_room):
        return "its worker made room"
    if row is not None and row.ends_at is not None and row.ends_at <= at:
        return "its time was over"
    late = evidence.history_time(at) + STOP_SECONDS * SECOND
    asked = (one for one in evidence.troubles_between(0, late) if one.kind == "stop" and one.process == worker.pid)
    if any(asked) or evidence.death(worker.pid, evidence.history_time(worker.marks[0][0])) <= late:
        return "its process stopped"
    return ""


def _is_over(claim: Step, at: float, worker: Worker, evidence: Evidence) -> bool:
    """Whether the lease was over, or may have been because the server's clock stepped."""
    until = [until or 0.0 for written, until in worker.marks if written <= at]
    before = evidence.history_time(claim.change.at - STEP_SECONDS)
    has_ended = bool(until) and until[-1] <= at + LEASE_SECONDS
    return has_ended or evidence.clocks.stepped_between(before, evidence.history_time(at))
