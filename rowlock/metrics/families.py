"""Samples of the metrics, and Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from rowlock.metrics.described import DESCRIBED

if TYPE_CHECKING:
    from rowlock.queue.connect.pool import PoolUse


class Families:
    """Collects samples: each metric is described once, and has any number of samples."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def give(self, name: str, value: float, *labels: str) -> None:
        """Add a sample of a counter or a gauge."""
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
        """Add a histogram: the count of each bucket, the last one without an upper bound."""
        described = DESCRIBED[name]
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = HistogramMetricFamily(name, described.text, labels=described.labels)
        assert isinstance(family, HistogramMetricFamily)  # noqa: S101  # for the type checker
        ends = [*(f"{bound:g}" for bound in bounds), "+Inf"]
        buckets = list(zip(ends, map(float, accumulate(counts)), strict=True))
        family.add_metric(labels, buckets=buckets, sum_value=total)

    def give_pool(self, pool: str, use: PoolUse) -> None:
        """Add the samples of a connection pool."""
        self.give("rowlock_pool_connections", use.size - use.idle, pool, "used")
        self.give("rowlock_pool_connections", use.idle, pool, "idle")
        self.give("rowlock_pool_limit", use.limit, pool)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())


class _OfProcess:
    """Python's and the process's own collectors, created once: they inspect the process when they are created."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.collectors: tuple[Collector, ...] = (
            ProcessCollector(registry=registry),
            PlatformCollector(registry=registry),
        )


_process: Final = _OfProcess()


def exposition(*collectors: Collector) -> bytes:
    """Write the metrics of these collectors and of the process in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in (*collectors, *_process.collectors):
        registry.register(collector)
    return generate_latest(registry)
