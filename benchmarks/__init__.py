"""Benchmarks: named workloads, on a real server with its default durability, checked in the database."""
