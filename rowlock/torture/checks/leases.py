"""Check leases: a healthy worker's jobs are not rescued, and no job runs twice at a time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from rowlock.torture.evidence import PAUSES, SECOND, SLOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.audit import Change
    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Run, Trouble, Worker
    from rowlock.torture.life import Life, Step

COMMIT_SECONDS: Final = 0.25
"""How long a renewal may take to become visible: a rescue before that has not seen it."""
WAKE_SECONDS: Final = 3.0
"""How long a process may need to stop its handlers after it was frozen or its event loop blocked."""
CLOCK_SECONDS: Final = 2.0
"""How long a worker may not know that its lease has run out, after the server's clock stepped ahead."""
NETWORK: Final = frozenset({"cut", "delay", "black_hole", "half_open", "pgbouncer"})
"""Faults that also hit the process that replaces one that has ended: both use the same link to the server."""
STARVED_SHARE: Final = 0.25
"""The share of a lease for which a stall of the machine or the server explains the loss of the lease."""
LOST_CONNECTION: Final = frozenset(
    {
        "AdminShutdownError",
        "BrokenPipeError",
        "CannotConnectNowError",
        "ConnectionDoesNotExistError",
        "ConnectionFailureError",
        "ConnectionRefusedError",
        "ConnectionResetError",
        "CrashShutdownError",
        "DatabaseUnavailable",
        "InterfaceError",
    }
)
"""Log texts of a renewal that failed. Not a timeout: a defect could be the cause of that."""
HITS_ONE: Final = NETWORK | {"kill", "freeze", "stall", "stop", "terminate"}
HITS_ALL: Final = NETWORK | {"server", "full", "full_wal", "terminate", "locks", "failover", "rewind", "clock"}
"""Faults that may prevent a worker from renewing its lease. A wrong clock of the worker itself, or an old transaction,
does not excuse it."""


def rescues(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job is rescued from a worker whose lease has run out, and no lease runs out without a reason."""
    for step in life.steps:
        if step.is_crash and step.old is not None and (worker := evidence.workers.get(step.old.worker)):  # type: ignore[arg-type]  # None is in no dict
            evidence.looked["unjustified rescues"] += 1
            if wrong := _not_expired(step, worker, evidence):
                yield f"{step}: {wrong}"
            elif reason := _reason(step, worker, evidence):
                evidence.looked[f"unjustified rescues: after {reason}"] += 1
            else:
                yield f"{step}: nothing kept process {worker.pid} from renewing its lease"


def _not_expired(step: Step, worker: Worker, evidence: Evidence) -> str:
    """Return the proof that the lease was valid at the rescue, by the database's clock; empty if it had run out.

    It is unknown if that clock stepped in between.
    """
    at = step.change.at
    seen = [mark for mark in worker.marks if mark[0] <= at - COMMIT_SECONDS] or worker.marks[:1]
    written, until = seen[-1]
    if until is None or until <= at:
        return ""
    if _has_stepped(written, at, evidence):
        return ""
    return f"process {worker.pid} had renewed its lease {at - written:.2f} s before, for another {until - at:.2f} s"


def _reason(step: Step, worker: Worker, evidence: Evidence) -> str:
    """Why the worker lost its lease, by the evidence; empty if the evidence shows no reason.

    A fault hit it, or everybody, during its last lease or the one before; or its own log reports that the connection of
    the renewals was lost; or the runner, which no fault hits, saw a stall of the machine or the server.
    """
    if not evidence.epochs:
        return "an unknown cause"
    at = step.change.at
    renewed = [(written, until) for written, until in worker.marks if until is not None and until > written]
    if not renewed:
        return "an unknown cause"
    lease = max(until - written for written, until in renewed)
    begin = max((written for written, _ in renewed if written <= at), default=at) - lease
    end = evidence.history_time(at)
    if evidence.death(worker.pid, evidence.history_time(worker.marks[0][0])) <= end + lease * SECOND:
        return "the end of the process"
    troubles = list(evidence.troubles_between(evidence.history_time(begin), end))
    if kinds := sorted({one.kind for one in troubles if _hits(one, worker.pid, evidence)}):
        return kinds[0]
    said = evidence.said.get(step.old.worker) if step.old is not None and step.old.worker is not None else None
    if said is not None and LOST_CONNECTION & said.errors.keys():
        return "a lost connection"
    slow = sum(min(one.ends, end) - one.begins for one in troubles if one.kind == SLOW) / SECOND
    return "a slow machine or server" if slow >= STARVED_SHARE * lease else ""


def _hits(trouble: Trouble, pid: int, evidence: Evidence) -> bool:
    """Whether a fault may prevent the worker in this process from renewing its lease."""
    if trouble.process == pid:
        return trouble.kind in HITS_ONE
    if not trouble.process:
        return trouble.kind in HITS_ALL
    name = evidence.names.get(pid)
    return trouble.kind in NETWORK and name is not None and evidence.names.get(trouble.process) == name


def _has_stepped(begin: float, end: float, evidence: Evidence) -> bool:
    """Whether the server's clock stepped between two of its times, or just before or after: a lease has no age then."""
    return evidence.clocks.stepped_between(evidence.history_time(begin) - SECOND, evidence.history_time(end) + SECOND)


def lapsed(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A lease that has run out is not renewed: others may have the jobs.

    Except when the clock stepped since it was written: any worker's upkeep cuts a lease that is in the future then.
    """
    for id_, worker in evidence.workers.items():
        evidence.looked["lapsed leases"] += 1
        for (begun, ended), (written, until) in pairwise(worker.marks):
            if ended is None or until is None or not ended < written - COMMIT_SECONDS < until:
                continue
            if not _has_stepped(begun, written, evidence):
                yield str(id_), f"process {worker.pid} renewed a lease that had run out {written - ended:.2f} s before"


def unleased(life: Life, evidence: Evidence) -> Iterator[str]:
    """A worker claims only while its lease holds, by the database's clock."""
    for step in life.claims:
        worker = evidence.workers.get(step.change.worker)  # type: ignore[arg-type]  # None is in no dict
        if worker is not None and step.change.began:
            evidence.looked["claims without a lease"] += 1
            if over := _without_lease(step.change, worker, evidence):
                yield f"attempt {step.change.attempt} was claimed by process {worker.pid} {over:.3f} s after its lease"


def uncrashed(life: Life, evidence: Evidence) -> Iterator[str]:
    """A crash counts against an attempt that began, or that a worker claimed while its lease was valid."""
    claim: Step | None = None
    for step in life.steps:
        if step.kind == "claim":
            claim = step
        elif step.is_crash and claim is not None and claim.change.began:
            worker = evidence.workers.get(claim.change.worker)  # type: ignore[arg-type]  # None is in no dict
            has_begun = bool(life.runs_of(claim.change.attempt))
            evidence.looked["crashes without a crash"] += 1
            evidence.looked["crashes without a crash: of attempts that never began"] += not has_begun
            if worker is not None and not has_begun and (over := _without_lease(claim.change, worker, evidence)):
                yield f"{step}: it never began, and was claimed {over:.3f} s after the lease of its worker"


def _without_lease(claim: Change, worker: Worker, evidence: Evidence) -> float:
    """How long the lease had ended when the claim began; 0 if it was valid, or if the clock stepped meanwhile."""
    if evidence.epochs and _has_stepped(claim.began, claim.at, evidence):
        return 0.0
    seen = [mark for mark in worker.marks if mark[0] <= claim.began]
    if not seen:
        return 0.0  # its registration is not older than the claim: another transaction at the same moment
    _, until = seen[-1]
    return max(0.0, claim.began - (until or 0.0))


def overlaps(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job runs once at a time, unless the process of the earlier attempt could not stop it."""
    evidence.looked["overlaps"] += len(life.runs) > 1
    evidence.looked["overlaps: handlers that had long to go when another attempt began"] += _count_cut(life, evidence)
    for stale, fresh, seconds in overlapping(life):
        evidence.looked["overlaps: runs at the same time"] += 1
        if not is_excused(stale, fresh, evidence):
            yield (
                f"attempt {stale.attempt} in process {stale.pid} and attempt {fresh.attempt} in process {fresh.pid} "
                f"ran at the same time for {seconds:.2f} s"
            )


def _count_cut(life: Life, evidence: Evidence) -> int:
    """Count the handlers of jobs rescued from a live process that would still run beside the next attempt."""
    crashed = {step.old.attempt for step in life.steps if step.is_crash and step.old is not None}
    count = 0
    for run, following in pairwise(life.runs):
        goes_on = run.started + run.takes * SECOND > following.started + SECOND
        lives_on = evidence.death(run.pid, run.started) > following.started + SECOND
        count += run.attempt in crashed and following.attempt != run.attempt and goes_on and lives_on
    return count


def overlapping(life: Life) -> Iterator[tuple[Run, Run, float]]:
    """The pairs of runs that overlapped: the earlier attempt's run, the other one, and for how long."""
    for index, one in enumerate(life.runs):
        for other in life.runs[index + 1 :]:
            if other.started >= one.ended:
                break
            stale, fresh = (one, other) if one.attempt <= other.attempt else (other, one)
            yield stale, fresh, (min(one.ended, other.ended) - other.started) / SECOND


def is_excused(stale: Run, fresh: Run, evidence: Evidence) -> bool:
    """Whether the earlier attempt could not be stopped: its process was frozen or blocked, its handler is stubborn, or
    a step of the server's clock had just ended its lease.
    """
    if stale.is_stubborn:
        return True
    frozen = [(one.begins, one.ends) for one in evidence.troubles if one.kind in PAUSES and one.process == stale.pid]
    blocked = [(float(run.started), run.ended) for run in evidence.blocking.get(stale.pid, ())]
    stepped = [(one.at, one.at + CLOCK_SECONDS * SECOND) for one in evidence.clocks.steps if one.new > one.old]
    return any(
        begins <= fresh.started and stale.ended <= ends + WAKE_SECONDS * SECOND
        for begins, ends in frozen + blocked + stepped
    )
