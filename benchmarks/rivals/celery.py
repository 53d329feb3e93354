"""Celery on Redis, for orientation."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from benchmarks.rivals.environments import Unavailable, Virtual
from benchmarks.rivals.system import System


@dataclass(frozen=True, slots=True)
class WithRedis(Virtual):
    """A virtual environment that is of use only where a Redis server is installed."""

    def ready(self) -> Virtual:
        """Look for `redis-server` first."""
        if shutil.which("redis-server") is None:
            raise Unavailable("redis-server is not installed")
        return Virtual.ready(self)


CELERY = System(
    name="celery",
    title="Celery 5.7 on Redis (not durable)",
    driver="celery",
    environment=WithRedis(("celery[redis]==5.7.0",)),
    store="redis",
    settings={"concurrency": 2, "prefetch": 100},
    why="prefork, a process a core, plain functions, acks_late, no results, no gossip; Redis with an append-only file "
    "that is synced once a second: up to a second of jobs is lost with the machine",
    remaining_sql="return redis.call('llen', 'celery') + redis.call('hlen', 'unacked')",
    finished_sql=None,
    keeps="nothing",
    batch=1000,
    most_jobs=10_000,
    only=frozenset({"drain", "enqueue_bulk"}),
)
