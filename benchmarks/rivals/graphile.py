"""graphile-worker."""

from __future__ import annotations

from benchmarks.rivals.environments import Npm
from benchmarks.rivals.system import System

GRAPHILE = System(
    name="graphile",
    title="graphile-worker 0.18",
    driver="graphile",
    environment=Npm("graphile-worker@0.18.0"),
    settings={
        "concurrentJobs": 24,
        "maxPoolSize": 25,
        "localQueue": {"size": 500},
        "completeJobBatchDelay": 0,
        "failJobBatchDelay": 0,
    },
    why="the configuration of its own performance page: a local queue of 500, completions in batches",
    for_waiting={"concurrentJobs": 1000, "localQueue": {"size": 1000}},
    remaining_sql="SELECT count(*) FROM graphile_worker._private_jobs",
    finished_sql=None,
    keeps="nothing",
)
