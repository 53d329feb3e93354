"""Check that the statistics equal the ends of jobs, after the workers' count: docs/statistics.md, 'How exact it is'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.life import Life

RULE: Final = "statistics"
STATES: Final = ("succeeded", "failed", "cancelled", "expired")
ERRORS: Final = frozenset({"error", "timeout", "crashed", "failed"})
"""The outcomes of attempts that count as errors."""
CLOCKS: Final = frozenset({"clock", "failover", "rewind"})
"""Faults that change the server's clock, or its data: ends in the clock's future are not counted yet."""


def note_ends(life: Life, evidence: Evidence) -> None:
    """Count the ends of a job, and its errors, by its task."""
    if not life.last:
        return
    task, ends = life.last[-1].task, evidence.ends
    ends.last[task, life.last[-1].state] += 1
    for step in life.steps:
        if step.kind == "finish" and step.change.state is not None:
            ends.ever[task, step.change.state] += 1
        ends.undone[task] += step.kind == "retry"
    ends.errors[task] += sum(row.outcome in ERRORS for row in life.recorded)


def statistics(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Each end and each error counts once, also after a retry. An end retried before the count may be missed."""
    if not evidence.closing.settled:
        return
    if not evidence.closing.settled[0].is_counted:
        yield "all", "no worker counted the ends, though nothing prevented it"
        return
    if any(trouble.kind.partition(" ")[0] in CLOCKS for trouble in evidence.troubles):
        return
    ends = evidence.ends
    for step in sorted({one.step for one in evidence.closing.counted}):
        counted = {one.task: one for one in evidence.closing.counted if one.step == step}
        for task in sorted({task for task, _ in ends.last}):
            one, undone = counted.get(task), ends.undone[task]
            for state in (*STATES, "errors"):
                evidence.looked[RULE] += 1
                known = 0 if one is None else int(getattr(one, state))
                last = ends.errors[task] if state == "errors" else ends.last[task, state]
                ever = ends.errors[task] if state == "errors" else ends.ever[task, state]
                if not last - undone <= known <= ever:
                    yield task, f"in slots of {step} s, {known} are counted as {state}, and there were {last} to {ever}"
    evidence.looked[f"{RULE}: ends that were undone"] += sum(ends.undone.values())
