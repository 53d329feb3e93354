"""A worker's figures for monitoring: its counts, and the present state of its parts."""

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
    """One worker's figures. Counters start at zero when the worker is opened.

    `slots_used` of `slots` run an attempt now, `jobs_ahead` claimed jobs wait for a slot, `outcomes_pending` outcomes
    wait to be recorded. `lease_seconds` is the time for which the lease certainly lasts without a renewal.
    `ended_overdue` counts waiting jobs whose time was over, by the state in which they ended. `left_behind` counts how
    often the cursors missed a job. `reconnects` counts by connection, `pools` describes each pool, both by purpose.
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
