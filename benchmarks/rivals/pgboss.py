"""pg-boss."""

from __future__ import annotations

from benchmarks.rivals.environments import Npm
from benchmarks.rivals.system import System

PGBOSS = System(
    name="pgboss",
    title="pg-boss 12.38",
    driver="pgboss",
    environment=Npm("pg-boss@12.38.0"),
    settings={
        "connections": 10,
        "queue": {"notify": True, "partition": True},
        "work": {"batchSize": 2000, "localConcurrency": 2, "burstWhenBatchFull": True, "pollingIntervalSeconds": 0.5},
    },
    why="two loops of batches of 2,000 that one call completes, fetched without a pause while they are full, a table "
    "of its own for the queue, LISTEN/NOTIFY",
    for_large={
        "work": {"batchSize": 200, "localConcurrency": 2, "burstWhenBatchFull": True, "pollingIntervalSeconds": 0.5}
    },
    for_few={"work": {}},
    remaining_sql="SELECT count(*) FROM pgboss.job WHERE state <> 'completed'",
    finished_sql="SELECT count(*) FROM pgboss.job WHERE state = 'completed'",
    keeps="the row, seven days by default",
)
