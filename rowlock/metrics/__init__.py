"""Metrics for Prometheus, by the library `prometheus-client` (the extra `metrics`). It knows no HTTP."""
