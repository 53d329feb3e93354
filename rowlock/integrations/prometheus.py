"""Rowlock's metrics for Prometheus, by the library `prometheus-client` (the extra `metrics`).

`rowlock worker --metrics-port` and the HTTP API serve them. A program that runs a worker beside something else, and has
metrics of its own, registers the worker there:

>>> prometheus_client.REGISTRY.register(WorkerCollector(worker))
"""

from rowlock.metrics.worker import WorkerCollector

__all__ = ["WorkerCollector"]
