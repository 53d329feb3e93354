"""Count what a run contained for the rules to look at: a rule without a case has shown nothing.

`rowlock.torture.cases` has the table. Rules that count for themselves, while they look, are not here.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from rowlock.torture.checks import leases
from rowlock.torture.checks.existence import EXACTLY_ONCE
from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections import Counter

    from rowlock.torture.evidence import Evidence, Operation
    from rowlock.torture.life import Life, Step

RACE_SECONDS: Final = 0.25
"""A claim so near to a cancel has raced it."""


def count(life: Life, evidence: Evidence) -> None:
    """Count the cases of one job."""
    looked = evidence.looked
    _count_existence(life, evidence, looked)
    looked["illegal transitions"] += len(life.steps)
    looked["starts without a claim"] += len(life.runs)
    looked["starts past the limit"] += bool(life.runs)
    looked["false outcomes"] += len(life.recorded)
    for step in life.steps:
        looked["unjustified duplicates"] += step.kind in {"requeue", "retry"}
        looked["more than one final state"] += step.kind == "finish"
        looked["stale outcomes accepted"] += step.kind == "finish" and step.ends_attempt
        looked["starts past the limit: used up its attempts"] += _is_last_error(life, step)
        if step.is_crash:
            _count_rescue(step, evidence, looked)
    if len(life.runs) > 1:
        looked["overlaps"] += 1
        looked["overlaps: ran at the same time"] += any(leases.overlapping(life))
    for operation in life.operations:
        if operation.what == "cancel" and operation.outcome in {"done", "requested"}:
            looked["cancelled jobs that started"] += 1
            looked["cancelled jobs that started: raced a claim"] += _raced(life, operation, evidence)


def _count_existence(life: Life, evidence: Evidence, looked: Counter[str]) -> None:
    answers = life.answers
    is_stored = answers is not None and answers.stored > 0
    looked["lost"] += is_stored
    looked["unfinished"] += bool(life.changes) and not is_stored
    looked["unexpected"] += bool(life.changes) and not life.is_tick
    looked["inconsistencies"] += bool(life.changes)
    if answers is not None and not is_stored:
        looked["lost: unknown and stored"] += answers.unknown > 0 and bool(life.changes)
        looked["unexpected: told that nothing was stored"] += not answers.unknown
    if life.wanted is not None and life.wanted.key is not None:
        looked["unique violations"] += 1
        looked["unique violations: refused because of another job"] += len(evidence.refusals.get(life.id, ()))
    if life.wanted is not None and life.wanted.task == EXACTLY_ONCE:
        looked["effects"] += life.state == "succeeded"
        looked["effects: ran more than once"] += len(life.runs) > 1


def _is_last_error(life: Life, step: Step) -> bool:
    most = life.wanted.max_attempts if life.wanted is not None else inf
    return step.kind == "finish" and step.change.state == "failed" and (step.change.errors or 0) >= most


def _count_rescue(step: Step, evidence: Evidence, looked: Counter[str]) -> None:
    looked["unjustified rescues"] += 1
    worker = evidence.workers.get(step.old.worker) if step.old and step.old.worker else None
    if worker is None or not evidence.epochs:
        return
    at = evidence.history_time(step.change.at)
    began = evidence.history_time(worker.marks[0][0]) - SECOND
    looked["stale outcomes accepted: rescued from a process that lived on"] += evidence.death(worker.pid, began) > at
    frozen = any(one.kind == "freeze" and one.process == worker.pid for one in evidence.troubles_between(began, at))
    looked["unjustified rescues: after a freeze"] += frozen


def _raced(life: Life, operation: Operation, evidence: Evidence) -> bool:
    """Whether a claim took the job at about the time of the call."""
    if not evidence.epochs:
        return False
    began = evidence.database_time(operation.began) - RACE_SECONDS
    ended = evidence.database_time(operation.ended) + RACE_SECONDS
    return any(began <= claim.change.at <= ended for claim in life.claims)


def count_all(evidence: Evidence) -> None:
    """Count the cases that are not of one job."""
    looked = evidence.looked
    looked["schedule ticks"] += len(evidence.ticks)
    for rescues in evidence.rescues.values():
        looked["unjustified quarantines"] += sum(one.is_quarantine for one in rescues)
    for id_, worker in evidence.workers.items():
        ends = [until for _, until in worker.marks if until is not None]
        looked["lapsed leases"] += len(ends)
        if not ends or not evidence.epochs:
            continue
        has_run_out = id_ in evidence.rescues or ends[-1] <= max(written for written, _ in worker.marks)
        death = evidence.death(worker.pid, evidence.history_time(worker.marks[0][0]) - SECOND)
        looked["lapsed leases: ran out in a process that lived on"] += has_run_out and death > evidence.history_time(
            ends[-1]
        )


__all__ = ["count", "count_all"]
