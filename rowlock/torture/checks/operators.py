"""Check that cancels take effect: a cancelled waiting job never starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.torture.evidence import PAUSES, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Operation, Run
    from rowlock.torture.life import Life

UNHEARD: Final = "cancels not heard"
HEARD_SECONDS: Final = 5.0
"""How soon after its acknowledgement a cancel has stopped a running handler, in a calm process."""
BEFORE_SECONDS: Final = 5.0
"""How long before the cancel a fault may have ended and still keep the worker from its database."""
CLOCK_SECONDS: Final = 0.5
"""The largest difference between the two clocks."""
WAKE_SECONDS: Final = 3.0
"""How long after a freeze a process may begin a job that it had claimed before."""


def cancelled(life: Life, evidence: Evidence) -> Iterator[str]:
    """A waiting job whose cancel was acknowledged never starts; a running one starts no other attempt."""
    for operation in life.operations:
        if operation.what == "cancel" and operation.outcome == "done":
            evidence.looked["cancelled jobs that started"] += 1
            yield from _cancelled(life, operation, evidence)
        elif operation.what == "cancel" and operation.outcome == "requested" and evidence.epochs:
            yield from _requested(life, operation, evidence)


def _cancelled(life: Life, operation: Operation, evidence: Evidence) -> Iterator[str]:
    known = evidence.database_time(operation.ended) + CLOCK_SECONDS
    ends = [step for step in life.steps if step.is_cancel_of_waiting]
    if not ends:
        yield f"its cancel was acknowledged, and it is {life.state}"
        return
    end = [step for step in ends if step.change.at <= known][-1:] or ends[:1]
    claims = [evidence.history_time(claim.change.at) for claim in life.claims]
    near = CLOCK_SECONDS * SECOND
    is_race = any(operation.began - near <= at <= operation.ended + near for at in claims)
    evidence.looked["cancelled jobs that started: cancels that raced with a claim"] += is_race
    for run in life.runs:
        is_late = run.attempt <= (end[0].change.attempt or 0) and run.started > operation.ended
        if is_late and not _was_frozen(run, operation, evidence):
            yield f"attempt {run.attempt} started {(run.started - operation.ended) / SECOND:.2f} s after its cancel"


def _was_frozen(run: Run, operation: Operation, evidence: Evidence) -> bool:
    """Whether the process had claimed it long before, and was frozen during the cancel."""
    between = evidence.troubles_between(operation.began - WAKE_SECONDS * SECOND, run.started)
    return any(one.kind in PAUSES and one.process == run.pid for one in between)


def unheard(life: Life, evidence: Evidence) -> Iterator[str]:
    """A running handler that can be stopped ends soon after a cancel request, unless a fault prevents it."""
    for operation in life.operations:
        if operation.what != "cancel" or operation.outcome != "requested":
            continue
        for run in life.runs:
            limit = operation.ended + HEARD_SECONDS * SECOND
            if run.is_stubborn or not run.started <= operation.ended < run.ended:
                continue
            evidence.looked[UNHEARD] += 1
            evidence.looked[f"{UNHEARD}: handlers that had long to go"] += run.started + run.takes * SECOND > limit
            if run.ended > limit and not _is_kept(run, operation.began - BEFORE_SECONDS * SECOND, limit, evidence):
                late = (run.ended - operation.ended) / SECOND
                yield f"attempt {run.attempt} went on for {late:.2f} s after a cancel was requested"


def _is_kept(run: Run, begin: float, end: float, evidence: Evidence) -> bool:
    """Whether a fault, or a handler that blocks its loop, kept the request from the run's process."""
    blocked = any(one.started <= end and one.ended >= begin for one in evidence.blocking.get(run.pid, ()))
    return blocked or not evidence.is_calm(run.pid, begin, end)


def _requested(life: Life, operation: Operation, evidence: Evidence) -> Iterator[str]:
    evidence.looked["cancelled jobs that started: cancels of running jobs"] += 1
    asked = evidence.database_time(operation.ended) + CLOCK_SECONDS
    put_back = [step.change.at for step in life.steps if step.kind == "retry"]
    for claim in life.claims:
        at = claim.change.at
        if at > asked and not any(asked - CLOCK_SECONDS <= back <= at for back in put_back):
            yield f"attempt {claim.change.attempt} began {at - asked:.2f} s after a cancel had been requested"
            return
