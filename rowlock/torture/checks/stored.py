"""Check that a job is stored with its options, by each way to enqueue, and keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.torture.checks.times import ROUNDING_SECONDS, is_steady

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rowlock.torture.audit import Change
    from rowlock.torture.evidence import Evidence
    from rowlock.torture.history import Wanted
    from rowlock.torture.life import Life

RULE: Final = "stored otherwise"
OVER_HTTP: Final = "torture.http"


def stored(life: Life, evidence: Evidence) -> Iterator[str]:
    """Each row of the waiting job has the options of its call, or of the last call that replaced it."""
    if life.wanted is None or life.wanted.queue is None or life.is_tick:
        return
    by_content = {one.wanted[0].content: one.wanted[0] for one in evidence.refusals.get(life.id, ())}
    by_content[life.wanted.content] = life.wanted
    said: set[str] = set()
    for step in life.steps:
        row = step.new
        if row is None or row.what != "job" or row.run_at is None:
            continue
        wanted = by_content.get(row.content) if life.wanted.replaces else life.wanted
        if wanted is None:
            continue  # from a call without an answer
        if step.kind in {"enqueue", "touch"}:
            _count(wanted, evidence, is_replaced=wanted is not life.wanted)
            if wanted.run_at is not None or (step.kind == "touch" and wanted.replaces):
                said |= set(_wrong_time(wanted, row, evidence))
        said |= set(_differences(wanted, row))
    yield from sorted(said)


def _count(wanted: Wanted, evidence: Evidence, *, is_replaced: bool) -> None:
    evidence.looked[RULE] += 1
    evidence.looked["stored otherwise: tags"] += bool(wanted.tags)
    evidence.looked["stored otherwise: metadata"] += bool(wanted.metadata)
    evidence.looked["stored otherwise: timeouts"] += wanted.timeout is not None
    evidence.looked["stored otherwise: times that were given"] += wanted.run_at is not None
    evidence.looked["stored otherwise: later versions of the arguments"] += wanted.args_version > 1
    evidence.looked["stored otherwise: over HTTP"] += wanted.task.startswith(OVER_HTTP)
    evidence.looked["stored otherwise: replaced jobs"] += is_replaced


def _differences(wanted: Wanted, row: Change) -> Iterator[str]:
    asked, has = _asked(wanted), _has(row)
    for name, value in asked.items():
        if has[name] != value:
            yield f"its {name} was to be {value!r}, and its row has {has[name]!r}"


def _asked(wanted: Wanted) -> Mapping[str, object]:
    return {
        "task": wanted.task,
        "queue": wanted.queue,
        "priority": wanted.priority,
        "max_attempts": wanted.max_attempts,
        "timeout": _rounded(wanted.timeout),
        "tags": wanted.tags,
        "metadata": wanted.metadata,
        "args_version": wanted.args_version,
    }


def _has(row: Change) -> Mapping[str, object]:
    return {
        "task": row.task,
        "queue": row.queue,
        "priority": row.priority,
        "max_attempts": row.max_attempts,
        "timeout": _rounded(row.timeout),
        "tags": row.tags or [],
        "metadata": row.metadata or {},
        "args_version": row.args_version,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _wrong_time(wanted: Wanted, row: Change, evidence: Evidence) -> Iterator[str]:
    """What is wrong with the due time of a row that was just written; a moment in the past means at once."""
    if row.run_at is None or not is_steady(row, row, evidence):
        return
    if wanted.run_at is not None and evidence.clocks.stepped_between(0, evidence.history_time(row.at)):
        return  # the moment is by the machine's clock
    if wanted.run_at is not None:
        least = most = wanted.run_at
    else:
        least, most = row.began + (wanted.delay or 0.0), row.at + (wanted.delay or 0.0)
    if least - ROUNDING_SECONDS <= row.run_at <= max(most, row.at) + ROUNDING_SECONDS:
        return
    asked = f"{least - row.at:.3f} s" if wanted.run_at is not None else f"{wanted.delay or 0.0:.3f} s"
    yield f"it was to be due {asked} after it was written, and is due {row.run_at - row.at:.3f} s after it"
