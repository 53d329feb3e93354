"""Metrics for Prometheus, with the library `prometheus-client` (the extra `metrics`), independent of HTTP."""
