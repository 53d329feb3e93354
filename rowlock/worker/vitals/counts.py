"""The counts of one worker since it was opened, as plain numbers: nearly free while nothing reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final

from rowlock.queue.finish.finishes import Unsuccess
from rowlock.queue.jobs.lifecycle import Ended, State

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from asyncpg import Record

    from rowlock.queue.finish.finishes import Success

MOST_TOLD_APART: Final = 200
"""How many pairs of a queue and a task are counted apart; the others are counted together, as `OTHERS`."""
OTHERS: Final = ("other", "other")

BOUNDS: Final = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0)
"""The upper bounds of the histograms' buckets, in seconds; one more bucket counts longer times."""

DELAY_BOUNDS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0)
"""The upper bounds of the buckets for delays of the event loop, likewise."""


class Delays:
    """A histogram of the event loop's delays, one for each probe."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(DELAY_BOUNDS) + 1)
        self.seconds = 0.0

    def note(self, delay: float) -> None:
        """Count one delay, in seconds."""
        self.buckets[bisect_left(DELAY_BOUNDS, delay)] += 1
        self.seconds += delay


class KindCounts:
    """The jobs of one task in one queue: their outcomes, the durations of their last attempts, and their waits between
    being due and being claimed.

    `errors` counts attempts that ended in an error of their own, whether or not the job was retried. `retried`,
    `snoozed` and `released` count attempts that put the job back into its queue. `refused` counts attempts whose
    outcome came too late.
    """

    __slots__ = (
        *(
            "cancelled",
            "duration_seconds",
            "durations",
            "errors",
            "failed",
            "refused",
            "released",
            "retried",
            "snoozed",
        ),
        *("succeeded", "wait_seconds", "waits"),
    )

    def __init__(self) -> None:
        self.succeeded = self.failed = self.cancelled = self.errors = 0
        self.retried = self.snoozed = self.released = self.refused = 0
        self.durations = [0] * (len(BOUNDS) + 1)
        self.waits = [0] * (len(BOUNDS) + 1)
        self.duration_seconds = self.wait_seconds = 0.0


class Counts:
    """The counts of one worker. Its parts keep the other figures, which are read on demand.

    `claims` counts claims, `empty_claims` those that found no job; all claims together took `claim_seconds`. `kinds`
    counts jobs by queue and task once `has_kinds` is set, at a microsecond or two a job. `rescued` counts rescued jobs,
    `quarantined` those of them that were quarantined. `ended_overdue` counts, by state, waiting jobs whose time was
    over. `left_behind` counts how often the cursors missed a job; it should stay at zero. `connects` counts connects,
    by purpose.
    """

    def __init__(self, *, has_kinds: bool) -> None:
        self.has_kinds = has_kinds
        self.kinds: dict[tuple[str, str], KindCounts] = {}
        self.claims = self.empty_claims = self.claimed = self.adopted = 0
        self.claim_seconds = 0.0
        self.rescued = self.quarantined = self.left_behind = 0
        self.ended_overdue = Counter[str]()
        self.connects = Counter[str]()

    def note_claim(self, rows: Sequence[Record], looked_until: datetime, took: float) -> None:
        """Count a claim and its jobs."""
        self.claims += 1
        self.claim_seconds += took
        if not rows:
            self.empty_claims += 1
            return
        self.claimed += len(rows)
        if not self.has_kinds:
            return
        kinds = self.kinds
        for row in rows:
            kind = kinds.get((row["queue"], row["task"])) or self._kind(row["queue"], row["task"])
            waited = (looked_until - row["run_at"]).total_seconds()
            kind.waits[bisect_left(BOUNDS, waited)] += 1
            kind.wait_seconds += waited

    def note_outcomes(
        self, outcomes: Sequence[Success | Unsuccess], refused: Collection[UUID], ended_at: float
    ) -> None:
        """Count the outcomes that were recorded, and those that were refused. `ended_at` is by the clock of leases."""
        if not self.has_kinds:
            return
        kinds = self.kinds
        for outcome in outcomes:
            row = outcome.claimed
            kind = kinds.get((row["queue"], row["task"])) or self._kind(row["queue"], row["task"])
            if refused and row["id"] in refused:
                kind.refused += 1
                continue
            if isinstance(outcome, Unsuccess):
                decision = outcome.decision
                kind.errors += decision.counts
                if not isinstance(decision, Ended):
                    kind.released += decision.outcome == "released"
                    kind.snoozed += decision.outcome == "snoozed"
                    kind.retried += decision.counts
                    continue
                if decision.state is State.FAILED:
                    kind.failed += 1
                else:
                    kind.cancelled += 1
            else:
                kind.succeeded += 1
            took = ended_at - outcome.began
            kind.durations[bisect_left(BOUNDS, took)] += 1
            kind.duration_seconds += took

    def _kind(self, queue: str, task: str) -> KindCounts:
        """The counts of a pair that has none yet."""
        pair = (queue, task) if len(self.kinds) < MOST_TOLD_APART else OTHERS
        kind = self.kinds.get(pair)
        if kind is None:
            kind = self.kinds[pair] = KindCounts()
        return kind


__all__ = ["BOUNDS", "DELAY_BOUNDS", "MOST_TOLD_APART", "OTHERS", "Counts", "Delays", "KindCounts"]
