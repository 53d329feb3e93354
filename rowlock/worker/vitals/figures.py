"""What can be read of a worker at any time, for whoever watches it: its counts, and how its parts are just now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from rowlock.queue.connect.pool import PoolUse
    from rowlock.worker.vitals.counts import Counts, Delays


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFigures:
    """One worker's figures; what counts up does so since it was opened.

    `slots_used` of `slots` run an attempt now, `jobs_ahead` are claimed and wait for one, `outcomes_pending` wait to be
    recorded. `lease_seconds`: for how long the lease certainly holds, if it is not renewed. `ended_overdue`: waiting
    jobs whose time was over, by the state in which they have ended. `left_behind`: how often the cursors had missed a
    job. `reconnects` and `pools`: of each of the worker's connections, and pools of them, by purpose.
    """

    worker: UUID
    version: str
    counts: Counts
    slots: int
    slots_used: int
    jobs_ahead: int
    outcomes_pending: int
    rescued: int
    quarantined: int
    ended_overdue: Mapping[str, int]
    left_behind: int
    lease_seconds: float
    lease_renewals: int
    lease_renewals_late: int
    lease_renewals_failed: int
    leases_lost: int
    loop_delays: Delays
    memory_bytes: int | None
    reconnects: Mapping[str, int]
    pools: Mapping[str, PoolUse]


__all__ = ["WorkerFigures"]
