"""The metrics of the HTTP API: its process, and the database's last snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rowlock.metrics.families import Families, exposition

if TYPE_CHECKING:
    from rowlock.metrics.requests import Requests
    from rowlock.metrics.snapshot import Snapshot
    from rowlock.queue.connect.pool import PoolUse
    from rowlock.queue.read.overview import Overview

MOST_QUEUES: Final = 200
"""How many queues have samples of their own, those with the most jobs; `other` sums up the rest."""
OTHER: Final = "other"


class ApiCollector(Collector):
    """The metrics of the HTTP API's process, and those of the database's last snapshot."""

    def __init__(self, requests: Requests, pool: PoolUse, snapshot: Snapshot) -> None:
        self._requests = requests
        self._pool = pool
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """Collect the current values."""
        families = Families()
        families.give("rowlock_database_up", self._snapshot.is_up)
        for part, errors in self._snapshot.errors.items():
            families.give("rowlock_scrape_errors", errors, part)
        if self._snapshot.overview is not None:
            _add_overview(families, self._snapshot.overview)
        if self._snapshot.horizon is not None:
            families.give("rowlock_horizon_age_seconds", self._snapshot.horizon)
        for table in self._snapshot.tables or ():
            families.give("rowlock_table_live_rows", table.live, table.name)
            families.give("rowlock_table_dead_rows", table.dead, table.name)
            families.give("rowlock_table_bytes", table.bytes, table.name)
        for (method, route), kind in self._requests.kinds.items():
            for status, count in kind.statuses.items():
                families.give("rowlock_http_requests", count, method, route, status)
            name = "rowlock_http_request_duration_seconds"
            families.give_histogram(name, self._requests.bounds, kind.durations, kind.seconds, method, route)
        families.give_pool("client", self._pool)
        return families


def _add_overview(families: Families, overview: Overview) -> None:
    jobs: Counter[tuple[str, str]] = Counter()
    workers: Counter[str] = Counter()
    paused: dict[str, bool] = {}
    oldest: dict[str, float] = {}
    by_jobs = sorted(overview.queues, key=lambda queue: -(queue.waiting + queue.scheduled + queue.running))
    for place, queue in enumerate(by_jobs):
        name = queue.name if place < MOST_QUEUES else OTHER
        for state in ("waiting", "scheduled", "running", "blocked"):
            jobs[name, state] += getattr(queue, state)
        workers[name] = max(workers[name], queue.workers)
        paused[name] = paused.get(name, False) or queue.paused_at is not None
        age = 0.0 if queue.oldest_due_at is None else max((overview.at - queue.oldest_due_at).total_seconds(), 0.0)
        oldest[name] = max(oldest.get(name, 0.0), age)
    for (name, state), count in jobs.items():
        families.give("rowlock_queue_jobs", count, name, state)
    for name, age in oldest.items():
        families.give("rowlock_queue_oldest_waiting_seconds", age, name)
        families.give("rowlock_queue_paused", paused[name], name)
        families.give("rowlock_queue_workers", workers[name], name)
    families.give("rowlock_workers", overview.workers)
    families.give("rowlock_dead_letters", overview.dead_letters)
    families.give("rowlock_jobs_unclaimed", overview.unclaimed)
    for outcome in ("succeeded", "failed", "cancelled", "expired", "errors"):
        families.give("rowlock_last_minute_jobs", getattr(overview.last_minute, outcome), outcome)


__all__ = ["MOST_QUEUES", "ApiCollector", "exposition"]
