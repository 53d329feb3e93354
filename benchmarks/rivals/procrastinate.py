"""procrastinate."""

from __future__ import annotations

from benchmarks.rivals.environments import Virtual
from benchmarks.rivals.system import System

PROCRASTINATE = System(
    name="procrastinate",
    title="procrastinate 3.10",
    driver="procrastinate",
    environment=Virtual(("procrastinate==3.10.0", "psycopg[binary]", "uvloop")),
    settings={"concurrency": 20, "connections": 10},
    why="async psycopg with its binary speed-ups, a pool beside the concurrency; it fetches one job a call by design",
    for_waiting={"concurrency": 1000, "connections": 20},
    remaining_sql="SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'",
    finished_sql="SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'",
    keeps="the row, and its events",
    batch=1000,
    most_jobs=5000,
)
