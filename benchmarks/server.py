"""The server that all systems share, and a fresh database for each run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.machine import cpu_seconds
from benchmarks.redis import Redis, redis
from benchmarks.usage import Usage
from rowlock.embedded import temporary_server

SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "max_connections": "1000"}
COUNTING = {"shared_preload_libraries": "pg_stat_statements"}
SHOWN = (
    *SETTINGS,
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "checkpoint_timeout",
    "autovacuum",
    "work_mem",
    "jit",
)
TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1"
STATEMENTS = """
SELECT coalesce(sum(calls), 0)::bigint
  FROM pg_stat_statements
  JOIN pg_database ON pg_database.oid = dbid
 WHERE datname = $1
"""
"""What clients sent, BEGIN and COMMIT among them, and not what functions run."""


@dataclass(slots=True)
class Server:
    """A running server."""

    url: str
    pid: int | None
    counts_statements: bool = False
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def store(self, kind: str) -> AbstractAsyncContextManager[Database | Redis]:
        """An empty store for one run: a database of this server, or a Redis of its own."""
        return redis() if kind == "redis" else self.database()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """A new, empty database, for the time of the block."""
        name = f"benchmark_{next(self._numbers)}"
        admin = await asyncpg.connect(self.url)
        if self.counts_statements:
            await admin.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        await admin.execute(f"CREATE DATABASE {name}")
        url = urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
        connection = await asyncpg.connect(url)
        try:
            yield Database(self, name, url, connection, admin)
        finally:
            await connection.close()
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await admin.close()

    async def describe(self) -> dict[str, str]:
        """Its version, and the settings that matter."""
        connection = await asyncpg.connect(self.url)
        found = {name: str(await connection.fetchval(f"SHOW {name}")) for name in ("server_version", *SHOWN)}
        await connection.close()
        return found


@dataclass(slots=True)
class Database:
    """The database of one run. What it uses is read through `admin`, a connection to another one: that adds nothing."""

    server: Server
    name: str
    url: str
    connection: asyncpg.Connection[asyncpg.Record]
    admin: asyncpg.Connection[asyncpg.Record]

    async def settle(self) -> None:
        """Before the clock starts: statistics as fresh as autovacuum would have made them, and no checkpoint due."""
        await self.connection.execute("VACUUM (ANALYZE)")
        await self.connection.execute("CHECKPOINT")

    async def number(self, sql: str) -> int:
        """What a statement counts."""
        return int(await self.connection.fetchval(sql))

    async def usage(self) -> Usage:
        """CPU seconds, WAL bytes, transactions and statements so far."""
        wal = int(await self.admin.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))
        transactions = await self.admin.fetchval(TRANSACTIONS, self.name)
        statements = await self.admin.fetchval(STATEMENTS, self.name) if self.server.counts_statements else 0
        return Usage(cpu_seconds(self.server.pid), wal, transactions, statements)


@contextmanager
def counting_server() -> Iterator[Server]:
    """A server of its own, with the same settings, that also counts statements."""
    with temporary_server(durable=True, settings={**SETTINGS, **COUNTING}) as running:
        yield Server(running.url, running.pid, counts_statements=True)
