"""The metrics of one worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rowlock.metrics.families import Families
from rowlock.worker.vitals.counts import BOUNDS, DELAY_BOUNDS

if TYPE_CHECKING:
    from rowlock.worker.vitals.figures import WorkerFigures
    from rowlock.worker.worker import Worker


class WorkerCollector(Collector):
    """The metrics of one worker, read on each scrape; none before the worker has started.

    Creating it makes the worker count its jobs by queue and task.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        worker.count_kinds()

    def collect(self) -> Iterable[Metric]:
        """Collect the current values."""
        families = Families()
        figures = self._worker.figures
        if figures is not None:
            _add_worker(families, figures)
        return families


def _add_worker(families: Families, figures: WorkerFigures) -> None:
    counts = figures.counts
    for labels, kind in list(counts.kinds.items()):
        families.give("rowlock_jobs_succeeded", kind.succeeded, *labels)
        families.give("rowlock_jobs_failed", kind.failed, *labels)
        families.give("rowlock_jobs_cancelled", kind.cancelled, *labels)
        families.give("rowlock_attempts_failed", kind.errors, *labels)
        families.give("rowlock_jobs_retried", kind.retried, *labels)
        families.give("rowlock_jobs_snoozed", kind.snoozed, *labels)
        families.give("rowlock_jobs_released", kind.released, *labels)
        families.give("rowlock_finishes_refused", kind.refused, *labels)
        families.give_histogram("rowlock_job_duration_seconds", BOUNDS, kind.durations, kind.duration_seconds, *labels)
        families.give_histogram("rowlock_job_wait_seconds", BOUNDS, kind.waits, kind.wait_seconds, *labels)
    families.give("rowlock_claims", counts.claims)
    families.give("rowlock_claims_empty", counts.empty_claims)
    families.give("rowlock_claim_seconds", counts.claim_seconds)
    families.give("rowlock_jobs_claimed", counts.claimed)
    families.give("rowlock_jobs_adopted", counts.adopted)
    families.give("rowlock_jobs_rescued", figures.rescued)
    families.give("rowlock_jobs_quarantined", figures.quarantined)
    for state in ("cancelled", "expired", "failed"):
        families.give("rowlock_jobs_ended_overdue", figures.ended_overdue.get(state, 0), state)
    families.give("rowlock_jobs_left_behind", figures.left_behind)
    families.give("rowlock_lease_renewals", figures.lease_renewals)
    families.give("rowlock_lease_renewals_late", figures.lease_renewals_late)
    families.give("rowlock_lease_renewals_failed", figures.lease_renewals_failed)
    families.give("rowlock_leases_lost", figures.leases_lost)
    for connection, reconnects in figures.reconnects.items():
        families.give("rowlock_reconnects", reconnects, connection)
    families.give("rowlock_worker_info", 1, str(figures.worker), figures.version)
    families.give("rowlock_worker_slots", figures.slots)
    families.give("rowlock_worker_slots_used", figures.slots_used)
    families.give("rowlock_worker_jobs_ahead", figures.jobs_ahead)
    families.give("rowlock_worker_outcomes_pending", figures.outcomes_pending)
    families.give("rowlock_worker_lease_seconds", figures.lease_seconds)
    delays = figures.loop_delays
    families.give_histogram("rowlock_worker_loop_delay_seconds", DELAY_BOUNDS, delays.buckets, delays.seconds)
    if figures.memory_bytes is not None:
        families.give("rowlock_worker_memory_bytes", figures.memory_bytes)
    for pool, use in figures.pools.items():
        families.give_pool(pool, use)
