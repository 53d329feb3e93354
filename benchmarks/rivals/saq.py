"""SAQ on PostgreSQL."""

from __future__ import annotations

from benchmarks.rivals.environments import Virtual
from benchmarks.rivals.system import System

SAQ = System(
    name="saq",
    title="SAQ 0.26 on PostgreSQL",
    driver="saq",
    environment=Virtual(("saq[postgres]==0.26.4", "psycopg[binary]", "uvloop")),
    settings={"concurrency": 500, "connections": 20},
    why="many waiting coroutines, since it dequeues as many jobs at once as wait for one; its largest default pool",
    for_waiting={"concurrency": 5000},
    for_few={"concurrency": 10, "connections": 4},
    remaining_sql="SELECT count(*) FROM saq_jobs WHERE status <> 'complete'",
    finished_sql="SELECT count(*) FROM saq_jobs WHERE status = 'complete'",
    keeps="the row, ten minutes by default",
    batch=1000,
    most_jobs=5000,
)
