"""Check that work continues when the server's clock steps, and that a dead worker's jobs are rescued in time."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from rowlock.torture.checks.leases import HITS_ALL
from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.life import Life

STOPPED_SECONDS: Final = 10
"""The longest time without a claim after a step of the clock, while jobs are enqueued."""
RESCUE_SECONDS: Final = 30.0
"""The longest time that a dead worker may hold a job: its lease of 4 s, and a duty that is late under load."""


def note_claims(life: Life, evidence: Evidence) -> None:
    """Note when the job was claimed, and when it was acknowledged."""
    for claim in life.claims:
        evidence.claims[int(evidence.history_time(claim.change.at) / SECOND)] += 1
    if life.answers is not None and life.answers.first_stored < float("inf"):
        evidence.stored[int(life.answers.first_stored / SECOND)] += 1


def stoppages(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """After a step of the server's clock, jobs are claimed as before."""
    for step in evidence.clocks.steps:
        begin = int(step.at / SECOND) + 1
        seconds = range(begin, begin + STOPPED_SECONDS)
        half = seconds[: STOPPED_SECONDS // 2]
        ends = step.at + (STOPPED_SECONDS + 1) * SECOND
        is_disturbed = any(
            not one.process and one.kind in HITS_ALL and not (one.kind == "clock" and one.ends <= step.at)
            for one in evidence.troubles_between(step.at + 1, ends)
        )
        if is_disturbed or not sum(evidence.stored[second] for second in half):
            continue
        evidence.looked["stops by the clock"] += 1
        if not any(evidence.claims[second] for second in seconds):
            yield (
                f"the clock's step from {step.old:+d} s to {step.new:+d} s",
                f"no job was claimed in the {STOPPED_SECONDS} s after it",
            )


def rescued_late(life: Life, evidence: Evidence) -> Iterator[str]:
    """A dead worker's jobs are rescued within seconds, whatever the clock shows."""
    if not evidence.epochs:
        return
    for claim, after in zip(life.steps, chain(life.steps[1:], (None,)), strict=False):
        worker = evidence.workers.get(claim.change.worker) if claim.kind == "claim" else None  # type: ignore[arg-type]  # None is in no dict
        if worker is None or after is None:
            continue
        death = evidence.death(worker.pid, evidence.history_time(claim.change.at))
        ended = evidence.history_time(after.change.at)
        late = (ended - death) / SECOND
        if late <= 1:
            continue
        evidence.looked["late rescues"] += 1
        if late > RESCUE_SECONDS and not _is_disturbed(death, ended, evidence):
            yield f"process {worker.pid} was dead for {late:.1f} s when the job was taken from it ({after})"


def _is_disturbed(begin: float, end: float, evidence: Evidence) -> bool:
    troubles = evidence.troubles_between(begin, end)
    return any(not one.process and one.kind in HITS_ALL - {"clock"} for one in troubles)


__all__ = ["note_claims", "rescued_late", "stoppages"]
