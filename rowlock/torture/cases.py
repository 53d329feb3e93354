"""The cases that a run must contain to prove anything: the input of each rule, and the faults that cause it.

A rule without a case finds no violation, whatever is broken. Each case has a row here, the checks count the cases in
`Evidence.looked`, and a report names the cases that its run did not contain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

WORKLOAD: Final = "the workload"
"""Causes a case in each run, whatever its faults are."""
_KILLS: Final = ("kill", "poison")
_LOST_LEASES: Final = ("freeze", "black_hole", "half_open")
_LOST_ANSWERS: Final = ("kill", "terminate", "server", "backend", "cut")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case of a rule. `faults`: each of these causes it; empty if the workload does."""

    rule: str
    case: str = ""
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its counter in `Evidence.looked`."""
        return f"{self.rule}: {self.case}" if self.case else self.rule

    @property
    def made_by(self) -> str:
        """The cause of the case, for the report."""
        return " or ".join(self.faults) or WORKLOAD


CASES: Final = (
    Case(rule="lost"),
    Case(rule="lost", case="jobs that were put back"),
    Case(rule="unfinished"),
    Case(rule="unfinished", case="unknown enqueues that were stored", faults=_LOST_ANSWERS),
    Case(rule="unexpected"),
    Case(rule="unexpected", case="enqueues that stored nothing"),
    Case(rule="unjustified duplicates"),
    Case(rule="unjustified duplicates", case="recorded as crashes", faults=(*_KILLS, *_LOST_LEASES)),
    Case(rule="unjustified rescues", faults=(*_KILLS, *_LOST_LEASES)),
    Case(rule="unjustified rescues", case="after the end of the process", faults=_KILLS),
    Case(rule="unjustified rescues", case="after freeze", faults=("freeze",)),
    Case(rule="unjustified rescues", case="processes whose clock is behind"),
    Case(rule="claims without a lease"),
    Case(rule="crashes without a crash", faults=(*_KILLS, *_LOST_LEASES)),
    Case(rule="crashes without a crash", case="of attempts that never began", faults=(*_KILLS, *_LOST_LEASES)),
    Case(rule="needless releases", faults=("stop", *_LOST_LEASES)),
    Case(rule="overlaps"),
    Case(rule="overlaps", case="runs at the same time", faults=("freeze", "block")),
    Case(
        rule="overlaps",
        case="handlers that had long to go when another attempt began",
        faults=_LOST_LEASES,
    ),
    Case(rule="stale outcomes accepted"),
    Case(rule="stale outcomes accepted", case="handlers that ended after a rescue", faults=_LOST_LEASES),
    Case(rule="false outcomes"),
    Case(rule="false outcomes", case="timeouts"),
    Case(rule="more than one final state"),
    Case(rule="illegal transitions"),
    Case(rule="unique violations"),
    Case(rule="unique violations", case="refused enqueues"),
    Case(rule="unique violations", case="duplicates that raise"),
    Case(rule="unique violations", case="keys of jobs that were cancelled while they waited"),
    Case(rule="unique violations", case="keys of jobs that expired"),
    Case(rule="unique violations", case="keys of jobs that failed"),
    Case(rule="unique violations", case="keys that were taken again"),
    Case(rule="unique violations", case="keys of jobs that waited for their next attempt"),
    Case(rule="unique violations", case="keys for a period"),
    Case(rule="unique violations", case="keys across tasks"),
    Case(rule="stale content"),
    Case(rule="stale content", case="replaced jobs"),
    Case(rule="unfollowed"),
    Case(rule="cancelled jobs that started"),
    Case(rule="cancelled jobs that started", case="cancels that raced with a claim"),
    Case(rule="cancelled jobs that started", case="cancels of running jobs"),
    Case(rule="cancels not heard"),
    Case(rule="cancels not heard", case="handlers that had long to go"),
    Case(rule="starts without a claim"),
    Case(rule="starts past the limit"),
    Case(rule="starts past the limit", case="crashes alone", faults=("poison",)),
    Case(rule="starts past the limit", case="used up its attempts"),
    Case(rule="too early"),
    Case(rule="too early", case="delayed jobs"),
    Case(rule="too early", case="delays"),
    Case(rule="too late"),
    Case(rule="too late", case="jobs that ended as expired while they waited"),
    Case(rule="stored otherwise"),
    Case(rule="stored otherwise", case="tags"),
    Case(rule="stored otherwise", case="metadata"),
    Case(rule="stored otherwise", case="timeouts"),
    Case(rule="stored otherwise", case="times that were given"),
    Case(rule="stored otherwise", case="later versions of the arguments"),
    Case(rule="stored otherwise", case="over HTTP"),
    Case(rule="stored otherwise", case="replaced jobs"),
    Case(rule="too late", case="handlers with a timeout"),
    Case(rule="too late", case="handlers with a deadline"),
    Case(rule="too late", case="waits between two attempts"),
    Case(rule="effects"),
    Case(rule="effects", case="after several attempts", faults=_KILLS),
    Case(rule="inconsistencies"),
    Case(rule="lapsed leases"),
    Case(rule="lapsed leases", case="ran out in a process that lived on", faults=_LOST_LEASES),
    Case(rule="unjustified quarantines", faults=("poison",)),
    Case(rule="half stored"),
    Case(rule="half stored", case="unknown calls, stored", faults=_LOST_ANSWERS),
    Case(rule="half stored", case="unknown calls", faults=_LOST_ANSWERS),
    Case(rule="out of order"),
    Case(rule="out of order", case="beside other priorities"),
    Case(rule="schedule ticks"),
    Case(rule="late rescues", faults=(*_KILLS, *_LOST_LEASES)),
    Case(rule="stops by the clock", faults=("clock",)),
    Case(rule="leftovers"),
    Case(rule="leftovers", case="growth"),
    Case(rule="false results"),
    Case(rule="false results", case="results of a later attempt"),
    Case(rule="false results", case="errors of a later attempt"),
    Case(rule="false results", case="not finished in time"),
    Case(rule="false results", case="waited over a restart of the server", faults=("server", "backend", "failover")),
    Case(rule="false results", case="waited over a broken network", faults=("cut", "black_hole", "half_open")),
    Case(rule="starts while paused"),
    Case(rule="starts while paused", case="in the moment of the pause"),
    Case(rule="starts while paused", case="enqueued after a drain"),
    Case(rule="starts while paused", case="drained while it ran"),
    Case(rule="starts while paused", case="waited for after the resume"),
    Case(rule="starts past a scale"),
    Case(rule="starts past a scale", case="as many as there may be"),
    Case(rule="checkpoints"),
    Case(rule="checkpoints", case="found by a later attempt"),
    Case(rule="checkpoints", case="refused to a stale attempt", faults=_LOST_LEASES),
    Case(rule="progress"),
    Case(rule="progress", case="several attempts told some"),
    Case(rule="process tasks"),
    Case(rule="process tasks", case="exit"),
    Case(rule="process tasks", case="kill"),
    Case(rule="process tasks", case="memory"),
    Case(rule="process tasks", case="their worker died", faults=("kill", "group")),
    Case(rule="acts on many jobs"),
    Case(rule="acts on many jobs", case="by tag"),
    Case(rule="acts on many jobs", case="by task"),
    Case(rule="acts on many jobs", case="by age"),
    Case(rule="acts on many jobs", case="by args"),
    Case(rule="acts on many jobs", case="a dry run"),
    Case(rule="acts on many jobs", case="cancels of jobs that ran"),
    Case(rule="acts on many jobs", case="dead letters to put back"),
    Case(rule="acts on many jobs", case="the answer was lost", faults=_LOST_ANSWERS),
    Case(rule="jobs run again"),
    Case(rule="jobs run again", case="schedules run by hand"),
    Case(rule="overlapping ticks"),
    Case(rule="missed ticks"),
    Case(rule="missed ticks", case="all"),
    Case(rule="missed ticks", case="latest"),
    Case(rule="missed ticks", case="skip"),
    Case(rule="statistics"),
    Case(rule="statistics", case="ends that were undone"),
    Case(rule="retention"),
    Case(rule="answers of the APIs"),
    Case(rule="answers of the APIs", case="an Idempotency-Key at each"),
)
"""Every rule of the checker has a row here; a rule has more rows if a run may lack a case that matters. The rules of
the witness and of the audit have none: each is a single case.
"""


def missing(looked: Mapping[str, int], rules: Iterable[str] = ()) -> Iterator[Case]:
    """Return the cases that a run did not contain, by its counters; also the `rules` without a row that had no case."""
    known = {case.rule for case in CASES}
    others = (Case(rule=rule) for rule in rules if rule not in known)
    return (case for case in (*CASES, *others) if not looked.get(case.name))


__all__ = ["CASES", "WORKLOAD", "Case", "missing"]
