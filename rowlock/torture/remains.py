"""The leftovers of a run after all its programs have stopped: queried once, saved in the run's folder."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import asyncpg
    from asyncpg import Record

FILE: Final = "remains.json"
SETTLE_SECONDS: Final = 15.0
"""How long the server may take to notice that its clients are gone."""

QUERIES: Final = {
    "session": """
        SELECT format('process %s, %s, %s', pid, application_name, state) FROM pg_stat_activity
         WHERE application_name LIKE 'rowlock%' AND pid <> pg_backend_pid()""",
    "open transaction": """
        SELECT format('process %s, %s, %s', pid, application_name, left(query, 100)) FROM pg_stat_activity
         WHERE state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()""",
    "lock": """
        SELECT format('%s on %s by process %s', lock.mode, lock.relation::regclass, lock.pid)
          FROM pg_locks AS lock
          JOIN pg_class AS relation ON relation.oid = lock.relation
          JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace AND namespace.nspname = 'rowlock'
          LEFT JOIN pg_stat_activity AS session ON session.pid = lock.pid
         WHERE lock.pid IS DISTINCT FROM pg_backend_pid()
           AND coalesce(session.backend_type, 'client backend') = 'client backend'""",
    "advisory lock": """
        SELECT format('%s %s by process %s', classid, objid, pid) FROM pg_locks
         WHERE locktype = 'advisory' AND pid IS DISTINCT FROM pg_backend_pid()""",
    "prepared transaction": "SELECT gid FROM pg_prepared_xacts",
    "worker": """
        SELECT format('%s of process %s, lease until %s', id, pid, expires_at) FROM rowlock.worker
         WHERE expires_at > clock_timestamp()
            OR expires_at > '-infinity' AND expires_at < clock_timestamp() - interval '70 seconds'""",
    "idle mark": "SELECT worker::text FROM rowlock.idle_worker",
    "waiter": """
        SELECT format('of job %s until %s', job_id, expires_at) FROM rowlock.waiter
         WHERE expires_at < clock_timestamp() - interval '3 minutes'""",
    "unique key": """
        SELECT format('%s of job %s', key, job_id) FROM rowlock.unique_key
         WHERE expires_at IS NULL AND NOT until_start
           AND NOT EXISTS (SELECT FROM rowlock.job WHERE job.id = unique_key.job_id)""",
    "table": """
        SELECT relation.relname FROM pg_class AS relation
          JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
         WHERE namespace.nspname = 'rowlock' AND relation.relname LIKE '%\\_kept'""",
}
"""The possible leftovers in the database, by name; each row is one. Three are left by design until a worker's upkeep
runs: the row of a worker that has released its lease, that of a lease that ran out in the last minute, and a key held
until its job's start.
"""
STALE_WORKERS: Final = """
    SELECT count(*) FROM rowlock.worker WHERE expires_at < clock_timestamp() - interval '70 seconds'"""


class Vital(msgspec.Struct, kw_only=True, frozen=True):
    """The resources of a process that lives for the whole run, at a moment. `at` is in seconds, `resident` in bytes."""

    name: str
    pid: int
    at: float
    resident: int
    threads: int
    descriptors: int


class Remains(msgspec.Struct, kw_only=True, frozen=True):
    """The leftovers by kind: each kind that was checked has a list, empty if nothing is left."""

    left: dict[str, list[str]]
    vitals: list[Vital] = []


async def look(
    connection: asyncpg.Connection[Record], outside: dict[str, Callable[[], list[str]]], vitals: list[Vital]
) -> Remains:
    """Search the database and the machine for leftovers, until there are none or the time is up."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        left = {kind: [row[0] for row in await connection.fetch(query)] for kind, query in QUERIES.items()}
        left |= {kind: find() for kind, find in outside.items()}
        if not any(left.values()) or time.monotonic() > deadline:
            return Remains(left=left, vitals=vitals)
        await asyncio.sleep(0.5)


def write_remains(folder: Path, remains: Remains) -> None:
    """Save the leftovers in the run's folder."""
    (folder / FILE).write_bytes(msgspec.json.encode(remains))


def read_remains(folder: Path) -> Remains | None:
    """Read the saved leftovers; None for a run that did not search."""
    file = folder / FILE
    return msgspec.json.decode(file.read_bytes(), type=Remains) if file.exists() else None


__all__ = ["QUERIES", "Remains", "Vital", "look", "read_remains", "write_remains"]
