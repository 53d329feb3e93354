"""pgqueuer."""

from __future__ import annotations

from benchmarks.rivals.environments import Virtual
from benchmarks.rivals.system import System

PGQUEUER = System(
    name="pgqueuer",
    title="pgqueuer 1.6",
    driver="pgqueuer",
    environment=Virtual(("pgqueuer==1.6.0", "asyncpg", "uvloop")),
    settings={"dequeuers": 1, "batch_size": 500},
    why="asyncpg, which its documentation measures as the fastest driver; durable tables; batch sizes as tried here",
    remaining_sql="SELECT count(*) FROM pgqueuer",
    finished_sql="SELECT count(DISTINCT job_id) FROM pgqueuer_log WHERE status = 'successful'",
    keeps="log lines, without the arguments",
)
