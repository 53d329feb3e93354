"""pgqueuer."""

from __future__ import annotations

from benchmarks.rivals.environments import Virtual
from benchmarks.rivals.system import System

PGQUEUER = System(
    name="pgqueuer",
    title="pgqueuer 1.6",
    driver="pgqueuer",
    environment=Virtual(("pgqueuer==1.6.0", "asyncpg", "uvloop")),
    settings={"dequeuers": 2, "batch_size": 200},
    why="asyncpg, which its documentation measures as the fastest driver; durable tables. "
    "Its own benchmark uses 5 dequeuers and batches of 10: here 2 with batches of 200 were three times as fast",
    for_few={"dequeuers": 1, "batch_size": 10},
    remaining_sql="SELECT count(*) FROM pgqueuer",
    finished_sql="SELECT count(DISTINCT job_id) FROM pgqueuer_log WHERE status = 'successful'",
    keeps="log lines, without the arguments",
)
