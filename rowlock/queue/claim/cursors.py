"""The cursors of one worker's claims: they begin behind the claimed jobs, and never behind a job that they could miss.

A position is the (run_at, id) up to which everything of one (queue, priority) has been scanned. A job that can still
appear behind it comes from a transaction that was open when it was reached: an enqueue not yet committed, or another
worker's claim that may roll back. So a position is remembered with the transaction id of the worker's *next* claim:
every id in use while it was reached is older. Once the oldest id in use (the snapshot's xmin) has reached that id,
and a scan that began further back has seen what those transactions left, the position is *settled*: nothing can
appear behind it any more, since whatever makes a job claimable first takes its transaction id and then sets run_at by
the clock. See docs/claiming.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE: Final = 0.1
"""Seconds for which claims begin at the settled position although newer ones wait to be settled. Usually it is
milliseconds; past it a long writing transaction is open, claims begin at the newest position, and the settled one is
rescanned now and then."""

RESCAN_SHARE: Final = 20
"""A rescan that took t seconds is not repeated for this many times t: at most 5 % of the worker's time."""


class Lane(NamedTuple):
    """One queue at one priority: the unit of which a claim reads an index range."""

    queue: str
    priority: int


class Position(NamedTuple):
    """A place in a lane's order."""

    run_at: datetime
    id: UUID


BEGINNING: Final = Position(datetime(1, 1, 2, tzinfo=UTC), UUID(int=0))
_LAST_ID: Final = UUID(int=2**128 - 1)

Positions = dict[Lane, Position]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The result of a claim: its end in each lane, its transaction's id if it has one, the oldest id in use."""

    reached: Mapping[Lane, Position]
    xid: int | None
    xmin: int


def everything_until(looked_until: datetime) -> Position:
    """The position of a lane that was scanned to its end: all jobs due by then."""
    return Position(looked_until, _LAST_ID)


class Cursors:
    """The positions of one worker's claims, over all its lanes. Pure but for the monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Start from the beginning: scan everything again."""
        self._settled: Positions = {}
        self._newest: Positions = {}
        self._untagged: Positions | None = None
        self._waiting: tuple[Positions, int] | None = None
        self._waiting_since = 0.0
        self._rescan_at = 0.0

    @property
    def settled(self) -> Positions:
        """No claimable job can remain behind these positions, and none can appear there."""
        return self._settled

    @property
    def is_untagged(self) -> bool:
        """Whether positions wait for a claim that has a transaction id, so that they can begin to settle."""
        return self._untagged is not None and self._waiting is None

    def should_rescan(self) -> bool:
        """Whether the next claim begins at the settled positions: as a rule, less often while a long writer is open."""
        now = self._clock()
        is_lagging = self._waiting is not None and now - self._waiting_since > PATIENCE
        return not is_lagging or now >= self._rescan_at  # seam: rescan

    def rescan(self) -> None:
        """Begin the next claim at the settled positions."""
        self._rescan_at = 0.0

    def start(self, lane: Lane, *, rescan: bool) -> Position:
        """Where a claim begins in this lane."""
        return (self._settled if rescan else self._newest).get(lane, BEGINNING)

    def record(self, scan: Scan, *, rescan: bool, took: float) -> None:
        """Record a claim's result. `rescan`: it began at the settled positions; `took`: its duration in seconds."""
        if rescan:
            self._settle(scan, took)
        elif self._waiting is not None and self._waiting[1] <= scan.xmin:
            self._rescan_at = 0.0  # the transactions that held the positions back have ended: rescan now
        if scan.xid is not None and self._waiting is None and self._untagged is not None:
            self._waiting, self._untagged = (self._untagged, scan.xid), None
            self._waiting_since = self._clock()
        newest = self._newest | {
            lane: position for lane, position in scan.reached.items() if position > self._newest.get(lane, BEGINNING)
        }
        if newest != self._newest:
            self._newest = self._untagged = newest  # seam: settle

    def forget(self, queue: str) -> None:
        """Forget this queue, which is no longer served: if it comes back, it starts from the beginning."""

        def without(positions: Positions) -> Positions:
            return {lane: position for lane, position in positions.items() if lane.queue != queue}

        self._settled, self._newest = without(self._settled), without(self._newest)
        if self._untagged is not None:
            self._untagged = without(self._untagged)
        if self._waiting is not None:
            self._waiting = without(self._waiting[0]), self._waiting[1]

    def _settle(self, scan: Scan, took: float) -> None:
        """Move the settled positions up to the waiting ones, as far as this scan has covered them."""
        is_complete = all(reached >= self._newest.get(lane, BEGINNING) for lane, reached in scan.reached.items())
        self._rescan_at = self._clock() + RESCAN_SHARE * took if is_complete else 0.0
        if self._waiting is None or self._waiting[1] > scan.xmin:
            return
        waiting, _ = self._waiting
        self._settled = {
            lane: min(waiting[lane], scan.reached.get(lane, self._settled.get(lane, BEGINNING))) for lane in waiting
        }
        self._waiting = None
