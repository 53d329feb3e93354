"""The promises that still hold for a job with an event in a window that the database has lost.

A failover to an asynchronous standby, and a restore to a moment, undo the commits since: an acknowledged job may
be gone, a job that succeeded may run again, and a job that a worker runs may wait in the database. All of this is
limited to the jobs with an event in a window. For these jobs this still holds, as for all others:

- a job that was acknowledged before the window exists, and an existing job finishes, once;
- each of its steps is an edge of the life cycle, its key is held once, its effects are those of its final success;
- it does not run twice at once in one process, unless the earlier run cannot be stopped;
- a wait for its result ends in time, with a result that one of its handler's calls returned.

A call of the operating program in a window, or on such a job, is excused from checks that compare its answer with the
database (`of_deed`). The answer itself must be consistent all the same.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from rowlock.queue.jobs.lifecycle import FINAL
from rowlock.torture.checks import (
    attempts,
    executors,
    existence,
    keys,
    leases,
    operators,
    progress,
    releases,
    results,
    times,
)
from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Deed
    from rowlock.torture.life import Life
    from rowlock.torture.rewinds import Window

LAG_SECONDS: Final = 1.0
"""How long before the moment a commit may have been acknowledged without having reached the standby."""
MARGIN_SECONDS: Final = 5.0
"""How long after a run's end its outcome may be recorded, and how much older than its start its claim may be."""

EXCUSED: Final[frozenset[Callable[[Life, Evidence], Iterator[str]]]] = frozenset(
    {
        existence.lost,  # replaced by `lost` below
        attempts.duplicates,  # a run whose claim is forgotten has no cause in the database
        attempts.starts,  # such a run has no claim, or its attempt's number is used again
        attempts.limits,  # forgotten runs do not count
        attempts.outcomes,  # the number of an attempt may name two
        leases.overlaps,  # replaced by `overlaps` below
        keys.refused,  # by a forgotten job
        keys.contents,  # the replacement is forgotten
        keys.unfollowed,  # the start that followed is forgotten
        operators.cancelled,  # the cancel is forgotten
        releases.releases,  # a worker releases a job that it runs already
        results.answers,  # replaced by `answers` below
        progress.checkpoints,  # the last saved ones are forgotten
        progress.progress,
        executors.crashes,  # the recorded attempt is forgotten
        times.early,  # a snooze, or a retry, is forgotten
        times.late,
    }
)
"""The checks that do not apply to such a job."""


def window_of(life: Life, evidence: Evidence) -> Window | None:
    """Return the first window with an event of the job that the processes know of."""
    return next((window for window in evidence.rewinds.windows if _is_touched(life, window, evidence)), None)


def of_deed(deed: Deed, evidence: Evidence) -> Window | None:
    """Return the first window in which a call of the operating program, or one of its jobs, may have lost changes."""
    if not evidence.rewinds.windows:
        return None
    ended = _end_of(deed, evidence)
    for window in evidence.rewinds.windows:
        begin, end = _bounds(window)
        if deed.began <= end and ended >= begin:
            return window
    lives = (evidence.kept[job] for job in deed.jobs if job in evidence.kept)
    return next((found for found in (window_of(life, evidence) for life in lives) if found is not None), None)


def _end_of(deed: Deed, evidence: Evidence) -> float:
    return min(deed.ended, evidence.death(deed.pid, deed.began))


def _bounds(window: Window) -> tuple[float, float]:
    return window.begins - MARGIN_SECONDS * SECOND, window.ends + MARGIN_SECONDS * SECOND


def _is_touched(life: Life, window: Window, evidence: Evidence) -> bool:
    begin, end = _bounds(window)
    acknowledged = inf if life.answers is None else life.answers.first_stored
    return (
        begin <= acknowledged <= end
        or any(run.started <= end and run.ended >= begin for run in life.runs)
        or any(one.began <= end and one.ended >= begin for one in life.operations)
        or any(one.began <= end and one.ended >= begin for one in evidence.refusals.get(life.id, ()))
        or any(one.began <= end and _end_of(one, evidence) >= begin for one in evidence.deeds_on.get(life.id, ()))
    )


def lost(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job that was acknowledged before the window exists; and an existing job finishes."""
    window = window_of(life, evidence)
    if window is None or life.answers is None or not life.answers.stored:
        return
    before = (window.begins - life.answers.first_stored) / SECOND
    if not life.changes:
        if before > LAG_SECONDS:
            yield f"its enqueue was acknowledged {before:.2f} s before the moment gone back to, and it is gone"
    elif life.state not in FINAL:
        yield f"its enqueue was acknowledged, it is there after the rewind, and in the end it is {life.state or 'gone'}"


def overlaps(life: Life, evidence: Evidence) -> Iterator[str]:
    """A process does not start a job that it already runs, whatever the database contains."""
    for stale, fresh, seconds in leases.overlapping(life):
        if stale.pid == fresh.pid and not leases.is_excused(stale, fresh, evidence):
            yield (
                f"process {stale.pid} ran attempt {stale.attempt} and attempt {fresh.attempt} at the same time "
                f"for {seconds:.2f} s"
            )


def answers(life: Life, evidence: Evidence) -> Iterator[str]:
    """A wait returns a result of one of the handler's calls, even if the database has forgotten that call."""
    known = {run.run for run in life.runs}
    for deed in evidence.deeds_on.get(life.id, ()):
        result = deed.said.get("result") if deed.what in {"result", "http result"} else None
        if result is None:
            continue
        if result.get("run") not in known:
            yield f"a wait returned the result {result}, which no call of its handler returned"
        elif "square" in deed.about and result.get("square") != deed.about["square"]:
            yield f"a wait returned {result.get('square')}, and its handler returned {deed.about['square']}"


ONLY: Final[frozenset[Callable[[Life, Evidence], Iterator[str]]]] = frozenset({lost, overlaps, answers})
"""The checks for such a job only."""

__all__ = ["EXCUSED", "ONLY", "answers", "lost", "of_deed", "overlaps", "window_of"]
