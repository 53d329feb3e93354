"""What PostgreSQL itself does with Rowlock's table: a COPY of the bytes that Rowlock copied, and a bare INSERT."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from benchmarks.rivals.drivers.protocol import Payload, Producer, run
from benchmarks.rivals.drivers.rowlock import RowlockDriver
from rowlock.queue.jobs.identifiers import uuid7

COLUMNS = ("id", "queue", "task", "priority", "max_attempts", "args")
INSERT = f"INSERT INTO rowlock.job ({', '.join(COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6)"


class BareDriver(RowlockDriver):
    """The table of Rowlock's schema, written directly."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A connection, as asyncpg makes it."""
        connection = await asyncpg.connect(self._url)
        yield _Client(connection)
        await connection.close()


class _Client:
    """A bare client: `stage` makes the bytes of a COPY before the clock starts, and `many` sends them."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def one(self, payload: Payload) -> None:
        await self._connection.execute(INSERT, *_row(payload))

    async def stage(self, payloads: Sequence[Payload]) -> bytes:
        await self._connection.execute("CREATE TEMP TABLE IF NOT EXISTS staged (LIKE rowlock.job INCLUDING DEFAULTS)")
        records = [_row(payload) for payload in payloads]
        await self._connection.copy_records_to_table("staged", columns=COLUMNS, records=records)
        staged = io.BytesIO()
        await self._connection.copy_from_table("staged", columns=COLUMNS, output=staged, format="binary")
        await self._connection.execute("TRUNCATE staged")
        return staged.getvalue()

    async def many(self, payloads: Sequence[Payload] | bytes) -> None:
        staged = payloads if isinstance(payloads, bytes) else await self.stage(payloads)
        await self._connection.copy_to_table(
            "job", schema_name="rowlock", columns=COLUMNS, source=io.BytesIO(staged), format="binary"
        )


def _row(payload: Mapping[str, Any]) -> tuple[object, ...]:
    return (uuid7(), "default", "job", 5, 25, json.dumps(payload))


if __name__ == "__main__":
    run(BareDriver)
