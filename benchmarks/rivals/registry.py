"""All systems, by name."""

from __future__ import annotations

from benchmarks.rivals.awa import AWA
from benchmarks.rivals.celery import CELERY
from benchmarks.rivals.chancy import CHANCY
from benchmarks.rivals.dbos import DBOS
from benchmarks.rivals.graphile import GRAPHILE
from benchmarks.rivals.oban import OBAN
from benchmarks.rivals.pgboss import PGBOSS
from benchmarks.rivals.pgqueuer import PGQUEUER
from benchmarks.rivals.procrastinate import PROCRASTINATE
from benchmarks.rivals.rowlock import BARE, LIMIT, POOLED, ROWLOCK
from benchmarks.rivals.rq import RQ
from benchmarks.rivals.saq import SAQ

SYSTEMS = {
    system.name: system
    for system in (
        ROWLOCK,
        LIMIT,
        BARE,
        POOLED,
        GRAPHILE,
        PGBOSS,
        PGQUEUER,
        AWA,
        OBAN,
        CHANCY,
        SAQ,
        PROCRASTINATE,
        DBOS,
        CELERY,
        RQ,
    )
}
