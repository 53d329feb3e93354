"""Oban for Python."""

from __future__ import annotations

from benchmarks.rivals.environments import Virtual
from benchmarks.rivals.system import System

OBAN = System(
    name="oban",
    title="oban-py 0.7",
    driver="oban",
    environment=Virtual(("oban==0.7.0", "psycopg[binary]", "uvloop"), (3, 12)),
    settings={"limit": 500, "connections": 10},
    why="its demand, and so its batch, is the queue's limit; jobs are acknowledged in one transaction by batch",
    for_waiting={"limit": 1000},
    remaining_sql="SELECT count(*) FROM oban_jobs WHERE state <> 'completed'",
    finished_sql="SELECT count(*) FROM oban_jobs WHERE state = 'completed'",
    keeps="the row",
    batch=1000,
    most_jobs=30_000,
)
