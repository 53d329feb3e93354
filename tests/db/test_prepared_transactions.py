"""Enqueuing in a transaction that is prepared: two-phase commit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.mark.parametrize("listens", [True, False], ids=["a worker listens", "ROWLOCK_LISTEN=false"])
async def test_a_transaction_that_enqueues_can_be_prepared_where_no_worker_listens(
    listens: bool, settings: Settings, connection: Connection, direct_url: str
) -> None:
    brief = replace(settings, database_url=direct_url, listen=listens, poll_interval=timedelta(seconds=0.1))
    async with Rowlock(settings=brief) as app:

        @app.task
        async def work() -> int:
            return 7

        async with app.worker():
            if listens:
                await eventually(lambda: connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.idle_worker)"))
            await connection.execute("BEGIN")
            handle = await work.using(connection=connection).enqueue()
            if listens:
                with pytest.raises(asyncpg.PostgresError, match="NOTIFY"):
                    await connection.execute("PREPARE TRANSACTION 'shop'")
                return
            await connection.execute("PREPARE TRANSACTION 'shop'")
            await connection.execute("COMMIT PREPARED 'shop'")
            assert await handle.result(timeout=10) == 7
