"""Rowlock itself, its limit, and the bare table."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.rivals.environments import Own
from benchmarks.rivals.system import System

ROWLOCK = System(
    name="rowlock",
    title="Rowlock",
    driver="rowlock",
    environment=Own(),
    settings={"concurrency": 100, "through": "connection"},
    why="concurrency for short jobs, all else by default; single enqueue on each client's own asyncpg connection, "
    "bulk enqueue by `enqueue_many`",
    for_waiting={"concurrency": 1000},
    remaining_sql="SELECT count(*) FROM rowlock.job",
    finished_sql="SELECT count(DISTINCT id) FROM rowlock.finished_job WHERE state = 'succeeded' AND attempt = 1",
    keeps="the whole row, in a partitioned archive",
    batch=20_000,
    spread_sql="SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM rowlock.finished_job",
)

POOLED = replace(
    ROWLOCK,
    name="rowlock-pool",
    title="Rowlock (its own pool)",
    settings={"concurrency": 100, "through": "pool"},
    why="as Rowlock, but single enqueue takes a connection from Rowlock's own pool of ten for each job",
)

LIMIT = replace(
    ROWLOCK,
    name="limit",
    title="Limit (Rowlock's statements alone)",
    driver="limit",
    settings={"batch": 500, "through": "connection"},
    for_waiting={},
    why="the claim and finish statements, in batches of 500, on two connections at once, with no handler between",
)

BARE = replace(
    ROWLOCK,
    name="bare",
    title="Bare table (COPY or INSERT)",
    driver="bare",
    settings={"through": "connection"},
    for_waiting={},
    why="Rowlock's own table with all its indexes: a binary COPY of bytes that were made before, or a plain INSERT",
    finished_sql=None,
    spread_sql=None,
    keeps="–",
    can_work=False,
)
