"""Check that each job follows the edges of the state machine, with correct counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.queue.jobs.lifecycle import EDGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.audit import Change
    from rowlock.torture.evidence import Evidence
    from rowlock.torture.life import Life, Step

_PAIRS: Final = frozenset((None if old is None else str(old), str(new)) for old, _, new in EDGES)
_Counters = tuple[int | None, int | None, int | None]


def transitions(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job follows only edges of the life cycle; each claim, and nothing else, increments its attempt."""
    row: Change | None = None
    evidence.looked["illegal transitions"] += len(life.steps)
    for step in life.steps:
        if wrong := _wrong(step, row):
            yield f"{step}: {wrong}"
        row = step.new


def _wrong(step: Step, row: Change | None) -> str:
    """What is wrong with a step of a job whose row the step before left like this."""
    if step.kind == "broken" or step.new is None:
        return f"this change of {step.change.what} is not a step of its own"
    before = None if row is None else row.state
    if step.kind != "touch" and (before, step.new.state) not in _PAIRS:
        return f"there is no edge from {before} to {step.new.state}"
    if (
        step.old is not None
        and row is not None
        and (_counters(step.old), step.old.worker) != (_counters(row), row.worker)
    ):
        return f"the row was changed from {_shown(row)} to {_shown(step.old)} unseen"
    if step.new.what == "job" and (step.new.state == "running") != (step.new.worker is not None):
        return f"a {step.new.state} job has the worker {step.new.worker}"
    if _counters(step.new) not in _allowed(step, row):
        return f"the counters went from {_shown(row)} to {_shown(step.new)}"
    return ""


def _allowed(step: Step, row: Change | None) -> tuple[_Counters, ...]:
    """The allowed values of attempt, errors and crashes after a step."""
    if row is None:
        return ((0, 0, 0),)
    attempt, errors, crashes = row.attempt or 0, row.errors or 0, row.crashes or 0
    same, error, crash = (attempt, errors, crashes), (attempt, errors + 1, crashes), (attempt, errors, crashes + 1)
    match step.kind:
        case "claim":
            return ((attempt + 1, errors, crashes),)
        case "retry":
            return ((attempt, 0, 0),)
        case "requeue":
            return (same, error, crash)
        case "finish" if step.change.state == "failed" and row.state == "running":
            return (error, crash)
        case _:
            return (same,)


def _counters(change: Change) -> _Counters:
    return change.attempt, change.errors, change.crashes


def _shown(change: Change | None) -> str:
    if change is None:
        return "nothing"
    return f"(attempt {change.attempt}, errors {change.errors}, crashes {change.crashes})"
