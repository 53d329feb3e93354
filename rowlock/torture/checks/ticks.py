"""Check that each tick of a schedule makes one job, and that no tick is missing."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from rowlock.torture.audit import Tick
    from rowlock.torture.evidence import Evidence


def ticks(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A tick makes one job, not before its time; a schedule that makes up for missed ticks misses none."""
    made_by: dict[UUID, Tick] = {}
    schedules: dict[str, list[float]] = defaultdict(list)
    for tick in evidence.ticks:
        evidence.looked["schedule ticks"] += 1
        schedules[tick.schedule].append(tick.tick_at)
        other = made_by.setdefault(tick.job, tick)
        if other is not tick:
            yield tick.schedule, f"the ticks at {other.tick_at} and {tick.tick_at} have made the same job {tick.job}"
        if tick.job not in evidence.last:
            yield tick.schedule, f"the tick at {tick.tick_at} has made job {tick.job}, which does not exist"
        if tick.fired_at < tick.tick_at and not _fired_at_a_step(tick, evidence):
            yield tick.schedule, f"the tick at {tick.tick_at} fired {tick.tick_at - tick.fired_at:.3f} s early"
    for schedule in evidence.periods.keys() - schedules.keys():
        yield schedule, "it has not made a single job"
    for schedule, times in schedules.items():
        yield from ((schedule, sentence) for sentence in _gaps(sorted(times), evidence.periods.get(schedule)))


def _fired_at_a_step(tick: Tick, evidence: Evidence) -> bool:
    """Whether the server's clock stepped while the tick fired: it was due by the clock of before."""
    life = evidence.kept.get(tick.job)
    if life is None or not life.steps:
        return False
    at = evidence.history_time(life.steps[0].change.at)
    return evidence.clocks.stepped_between(at - SECOND, at + SECOND)


def _gaps(times: list[float], period: float | None) -> Iterator[str]:
    for last, at in pairwise(times):
        if at == last:
            yield f"the tick at {at} has made two jobs"
        elif period is not None and at - last > 1.5 * period:
            yield f"between the ticks at {last} and {at} there are {round((at - last) / period) - 1} missing"
        elif period is not None and at - last < 0.5 * period:
            yield f"the ticks at {last} and {at} are less than {period} s apart"
