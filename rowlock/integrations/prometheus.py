"""Rowlock's metrics for Prometheus, by the library `prometheus-client` (the extra `metrics`).

`rowlock worker --metrics-port` and the HTTP API serve them. A program that runs a worker beside something else, and has
metrics of its own, registers the worker there:

>>> prometheus_client.REGISTRY.register(WorkerCollector(worker))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from rowlock.worker.vitals.counts import BOUNDS, DELAY_BOUNDS

if TYPE_CHECKING:
    from rowlock.api.http.observing import Requests
    from rowlock.api.resources.metrics import Snapshot
    from rowlock.queue.connect.pool import PoolUse
    from rowlock.queue.read.overview import Overview
    from rowlock.worker.vitals.figures import Figures
    from rowlock.worker.worker import Worker

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

MOST_QUEUES: Final = 200
"""How many queues are told apart, those with the most jobs; the others are added up as `other`."""
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: what docs/metrics.md says of it, too. A counter's name ends in `_total` where it is read."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    text: str

    @property
    def shown_name(self) -> str:
        """The name in queries; that of a histogram gets `_bucket`, `_sum` and `_count` besides."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


_JOB: Final = ("queue", "task")

OF_WORKERS: Final = (
    Described("rowlock_jobs_succeeded", "counter", _JOB, "Jobs that have succeeded here."),
    Described("rowlock_jobs_failed", "counter", _JOB, "Jobs that have failed here for good."),
    Described(
        "rowlock_jobs_cancelled", "counter", _JOB, "Running jobs that were cancelled, by themselves or an operator."
    ),
    Described("rowlock_attempts_failed", "counter", _JOB, "Attempts that ended in an error or a timeout of their own."),
    Described("rowlock_jobs_retried", "counter", _JOB, "Attempts after whose error the job is tried again."),
    Described("rowlock_jobs_snoozed", "counter", _JOB, "Attempts after which the job asked to be run later."),
    Described("rowlock_jobs_released", "counter", _JOB, "Jobs given back unfinished, because the worker stopped."),
    Described(
        "rowlock_finishes_refused", "counter", _JOB, "Outcomes that came too late: the job was another's by then."
    ),
    Described("rowlock_job_duration_seconds", "histogram", _JOB, "How long the attempts took that ended jobs."),
    Described("rowlock_job_wait_seconds", "histogram", _JOB, "How long jobs had been due when they were claimed."),
    Described("rowlock_claims", "counter", (), "Claims: statements that ask for jobs."),
    Described("rowlock_claims_empty", "counter", (), "Claims that found no job."),
    Described("rowlock_claim_seconds", "counter", (), "How long all claims took together."),
    Described("rowlock_jobs_claimed", "counter", (), "Jobs that were claimed."),
    Described("rowlock_jobs_adopted", "counter", (), "Jobs taken on of claims whose answer was lost."),
    Described("rowlock_jobs_rescued", "counter", (), "Jobs of dead workers that this worker's upkeep has taken back."),
    Described("rowlock_jobs_quarantined", "counter", (), "Rescued jobs that were set aside: they took workers down."),
    Described(
        "rowlock_jobs_ended_overdue", "counter", ("state",), "Waiting jobs that were ended because their time was over."
    ),
    Described(
        "rowlock_jobs_left_behind", "counter", (), "How often the claims' cursors had missed a job: never, we hope."
    ),
    Described("rowlock_lease_renewals", "counter", (), "Renewals of the lease."),
    Described("rowlock_lease_renewals_late", "counter", (), "Renewals that came when another one was due already."),
    Described("rowlock_lease_renewals_failed", "counter", (), "Renewals that failed, and were tried again."),
    Described("rowlock_leases_lost", "counter", (), "How often the lease was lost, and all jobs with it."),
    Described("rowlock_reconnects", "counter", ("connection",), "How often a connection was made anew."),
    Described("rowlock_worker_info", "gauge", ("worker", "version"), "1, with the worker's id and Rowlock's version."),
    Described("rowlock_worker_slots", "gauge", (), "How many jobs the worker runs at once at most."),
    Described("rowlock_worker_slots_used", "gauge", (), "How many it runs."),
    Described("rowlock_worker_jobs_ahead", "gauge", (), "Jobs that it has claimed, and that wait for a slot."),
    Described("rowlock_worker_outcomes_pending", "gauge", (), "Outcomes that wait to be recorded."),
    Described("rowlock_worker_lease_seconds", "gauge", (), "For how long the lease holds if it is not renewed."),
    Described(
        "rowlock_worker_loop_delay_seconds", "histogram", (), "How late the event loop was, asked four times a second."
    ),
    Described("rowlock_worker_memory_bytes", "gauge", (), "Memory of the worker's process in RAM."),
)

OF_THE_API: Final = (
    Described("rowlock_database_up", "gauge", (), "Whether the database answers."),
    Described("rowlock_scrape_errors", "counter", ("part",), "How often a part of these metrics could not be read."),
    Described("rowlock_queue_jobs", "gauge", ("queue", "state"), "Live jobs: waiting, scheduled, running, blocked."),
    Described(
        "rowlock_queue_oldest_waiting_seconds", "gauge", ("queue",), "How long the oldest waiting job has been due."
    ),
    Described("rowlock_queue_paused", "gauge", ("queue",), "1 while the queue is paused."),
    Described("rowlock_queue_workers", "gauge", ("queue",), "Live workers that take jobs of the queue."),
    Described("rowlock_workers", "gauge", (), "Live workers."),
    Described("rowlock_dead_letters", "gauge", (), "Jobs that have failed and were not discarded."),
    Described("rowlock_jobs_unclaimed", "gauge", (), "Due jobs that no live worker would take."),
    Described(
        "rowlock_last_minute_jobs", "gauge", ("outcome",), "Jobs that ended in the last minute that was counted."
    ),
    Described("rowlock_horizon_age_seconds", "gauge", (), "Age of the oldest open transaction of the whole server."),
    Described("rowlock_table_live_rows", "gauge", ("table",), "Rows of a table, as vacuum counts them."),
    Described("rowlock_table_dead_rows", "gauge", ("table",), "Dead rows of a table that vacuum has not cleaned yet."),
    Described("rowlock_table_bytes", "gauge", ("table",), "Size of a table with its indexes."),
    Described("rowlock_http_requests", "counter", ("method", "route", "status"), "Requests to the API: 2xx, 4xx, …"),
    Described("rowlock_http_request_duration_seconds", "histogram", ("method", "route"), "How long they took."),
)

OF_BOTH: Final = (
    Described("rowlock_pool_connections", "gauge", ("pool", "state"), "Connections of a pool: used, idle."),
    Described("rowlock_pool_limit", "gauge", ("pool",), "How many connections a pool may have."),
)

DESCRIBED: Final[Mapping[str, Described]] = {one.name: one for one in (*OF_WORKERS, *OF_THE_API, *OF_BOTH)}


class _Families:
    """Metrics in the making: each is described once, and has as many samples as are given."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def give(self, name: str, value: float, *labels: str) -> None:
        """Give a counter's or a gauge's value."""
        described = DESCRIBED[name]
        family = self._families.get(name)
        if family is None:
            made = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
            family = self._families[name] = made(name, described.text, labels=described.labels)
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)  # noqa: S101  # for the type checker
        family.add_metric(labels, value)

    def give_histogram(
        self, name: str, bounds: Sequence[float], counts: Sequence[int], total: float, *labels: str
    ) -> None:
        """Give a histogram: how much fell into each bucket, of which the last one has no end."""
        described = DESCRIBED[name]
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = HistogramMetricFamily(name, described.text, labels=described.labels)
        assert isinstance(family, HistogramMetricFamily)  # noqa: S101  # for the type checker
        ends = [*(f"{bound:g}" for bound in bounds), "+Inf"]
        buckets = list(zip(ends, map(float, accumulate(counts)), strict=True))
        family.add_metric(labels, buckets=buckets, sum_value=total)

    def give_pool(self, pool: str, use: PoolUse) -> None:
        """Give what is said of a pool of connections."""
        self.give("rowlock_pool_connections", use.size - use.idle, pool, "used")
        self.give("rowlock_pool_connections", use.idle, pool, "idle")
        self.give("rowlock_pool_limit", use.limit, pool)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())


class WorkerCollector(Collector):
    """The metrics of one worker, read when somebody asks; none before it has started.

    From now on the worker counts its jobs by queue and task.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        worker.count_kinds()

    def collect(self) -> Iterable[Metric]:
        """All of them, as they are now."""
        families = _Families()
        figures = self._worker.figures
        if figures is not None:
            _add_worker(families, figures)
        return families


class ApiCollector(Collector):
    """The metrics of the HTTP API's process, and those of the database as they were read last."""

    def __init__(self, requests: Requests, pool: PoolUse, snapshot: Snapshot) -> None:
        self._requests = requests
        self._pool = pool
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """All of them, as they are now."""
        families = _Families()
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


class _OfProcess:
    """What Python's and the process's own collectors say: made once, since they look about when they are made."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.collectors: tuple[Collector, ...] = (
            ProcessCollector(registry=registry),
            PlatformCollector(registry=registry),
        )


_process: Final = _OfProcess()


def exposition(*collectors: Collector) -> bytes:
    """What Prometheus reads: these collectors' metrics, and those of the process."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in (*collectors, *_process.collectors):
        registry.register(collector)
    return generate_latest(registry)


def _add_worker(families: _Families, figures: Figures) -> None:
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


def _add_overview(families: _Families, overview: Overview) -> None:
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


__all__ = ["DESCRIBED", "ApiCollector", "Described", "WorkerCollector", "exposition"]
