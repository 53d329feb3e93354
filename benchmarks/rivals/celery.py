"""Celery on Redis, for orientation."""

from __future__ import annotations

from benchmarks.rivals.environments import WithRedis
from benchmarks.rivals.system import System

CELERY = System(
    name="celery",
    title="Celery 5.7 on Redis (not durable)",
    driver="celery",
    environment=WithRedis(("celery[redis]==5.7.0", "hiredis")),
    store="redis",
    settings={"concurrency": 2, "prefetch": 100},
    why="prefork, a process a core, plain functions, acks_late, no results, no gossip, and hiredis, which reads "
    "answers faster; Redis with an append-only file that is synced once a second: up to a second of jobs is lost with "
    "the machine",
    remaining_sql="return redis.call('llen', 'celery') + redis.call('hlen', 'unacked')",
    finished_sql=None,
    keeps="nothing",
    batch=1000,
    most_jobs=10_000,
    only=frozenset({"drain", "enqueue_bulk"}),
)
