"""Rowlock's metrics for Prometheus, by the library `prometheus-client` (the extra `metrics`).

`rowlock worker --metrics-port` and the HTTP API serve them. A program with metrics of its own that runs a worker
registers the worker:

>>> prometheus_client.REGISTRY.register(WorkerCollector(worker))
"""

from rowlock.metrics.worker import WorkerCollector

__all__ = ["WorkerCollector"]
