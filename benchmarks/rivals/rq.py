"""RQ on Redis, for orientation."""

from __future__ import annotations

from benchmarks.rivals.environments import WithRedis
from benchmarks.rivals.system import System

RQ = System(
    name="rq",
    title="RQ 3.0 on Redis (not durable)",
    driver="rq",
    environment=WithRedis(("rq==3.0.0", "hiredis")),
    store="redis",
    settings={"worker_class": "rq.SimpleWorker", "result_ttl": 0},
    why="the worker that does not fork, which its notes on performance measure as the fastest, and hiredis, which "
    "reads answers faster; plain functions, no results; Redis with an append-only file that is synced once a "
    "second: up to a second of jobs is lost with the machine",
    remaining_sql="return redis.call('llen', 'rq:queue:default') + redis.call('llen', 'rq:queue:default:intermediate') "
    "+ redis.call('zcard', 'rq:wip:default') + redis.call('zcard', 'rq:failed:default')",
    finished_sql=None,
    keeps="nothing",
    batch=1000,
    most_jobs=10_000,
    only=frozenset({"drain", "enqueue_bulk"}),
)
