"""DBOS."""

from __future__ import annotations

from benchmarks.rivals.environments import Virtual
from benchmarks.rivals.system import System

DBOS = System(
    name="dbos",
    title="DBOS 3.4",
    driver="dbos",
    environment=Virtual(("dbos==3.4.0", "psycopg[binary]", "uvloop")),
    settings={"connections": 20, "queue": {"worker_concurrency": 1000, "polling_interval_sec": 0.01}},
    why="async workflows without steps; a poll each 10 ms instead of each second, with room for 1,000 at once (50 to "
    "1,000, and no limit, were tried)",
    for_few={"queue": {"worker_concurrency": 1000, "polling_interval_sec": 1.0}},
    remaining_sql="SELECT count(*) FROM dbos.workflow_status WHERE status <> 'SUCCESS'",
    finished_sql="SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'",
    keeps="the row",
    batch=1000,
    most_jobs=10_000,
)
