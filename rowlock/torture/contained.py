"""Count the cases of a run for the rules that do not count them while they check.

`rowlock.torture.cases` has the table of all cases.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from rowlock.torture.evidence import Evidence
    from rowlock.torture.life import Life, Step

BEHIND_SECONDS: Final = 60.0
"""The lag of a clock that would end every lease at once, if the clock counted."""


def count(life: Life, evidence: Evidence) -> None:
    """Count the cases of one job."""
    evidence.looked["unjustified duplicates: recorded as crashes"] += sum(
        row.outcome == "crashed" for row in life.recorded
    )
    for step in life.steps:
        evidence.looked["starts past the limit: used up its attempts"] += _is_last_error(life, step)


def _is_last_error(life: Life, step: Step) -> bool:
    most = life.wanted.max_attempts if life.wanted is not None else inf
    return step.kind == "finish" and step.change.state == "failed" and (step.change.errors or 0) >= most


def count_all(evidence: Evidence) -> None:
    """Count the cases of the workers. Call it after the rescues are noted."""
    behind = sum(epoch < evidence.epoch - BEHIND_SECONDS for epoch in evidence.epochs)
    evidence.looked["unjustified rescues: processes whose clock is behind"] += behind
    for id_, worker in evidence.workers.items():
        ends = [until for _, until in worker.marks if until is not None]
        if not ends or not evidence.epochs:
            continue
        has_run_out = id_ in evidence.rescues or ends[-1] <= max(written for written, _ in worker.marks)
        death = evidence.death(worker.pid, evidence.history_time(worker.marks[0][0]) - SECOND)
        evidence.looked["lapsed leases: ran out in a process that lived on"] += (
            has_run_out and death > evidence.history_time(ends[-1])
        )


__all__ = ["count", "count_all"]
