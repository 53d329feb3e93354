"""awa."""

from __future__ import annotations

from benchmarks.rivals.environments import Virtual
from benchmarks.rivals.system import System

AWA = System(
    name="awa",
    title="awa-pg 0.6.9",
    driver="awa",
    environment=Virtual(("awa-pg==0.6.9", "uvloop")),
    settings={"workers": 1000, "connections": 10},
    why="async handlers on its Rust core, enqueued by its COPY into queue storage; 1,000 workers (256, as in "
    "its own benchmark, were slower here)",
    remaining_sql="SELECT count(*) FROM awa.jobs WHERE state <> 'completed'",
    finished_sql="SELECT count(*) FROM awa.jobs WHERE state = 'completed'",
    keeps="the row, in rotated partitions",
    most_jobs=50_000,
)
