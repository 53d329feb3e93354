"""Samples of the metrics, and the text that Prometheus reads."""

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
