"""chancy."""

from __future__ import annotations

from benchmarks.rivals.environments import Virtual
from benchmarks.rivals.system import System

CHANCY = System(
    name="chancy",
    title="chancy 0.26",
    driver="chancy",
    environment=Virtual(("chancy==0.26.0", "psycopg[binary]", "uvloop")),
    settings={"concurrency": 500, "eager_polling": True, "polling_interval": 1, "send_outgoing_interval": 0.01},
    why="the asyncio executor, eager polling (a new fetch as soon as a job ends), outcomes sent every 10 ms instead of "
    "every second",
    for_waiting={"concurrency": 1000},
    for_few={"eager_polling": False, "polling_interval": 5, "send_outgoing_interval": 1},
    remaining_sql="SELECT count(*) FROM chancy_jobs WHERE state <> 'succeeded'",
    finished_sql="SELECT count(*) FROM chancy_jobs WHERE state = 'succeeded'",
    keeps="the row",
    batch=1000,
    most_jobs=30_000,
)
