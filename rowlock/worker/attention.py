"""Attention: read operators' acts on one worker within a second, also while its duties are busy."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock import logs
from rowlock.errors import RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST, message
from rowlock.worker.duties.suspects import hold_suspects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.loop.orders import Orders
    from rowlock.worker.loop.suspects import Alone

log = logs.get_logger("rowlock.worker")

LOOK_EVERY: Final = 1.0
PAUSE_MOST: Final = 5.0
"""The longest pause between two looks while the database does not answer, in seconds."""


class Attention:
    """Look for cancels and orders once a second, and at once when notified. Keep the duty `suspects` meanwhile.

    `on_cancel` receives the attempts to stop, by job and number, with the reason of each. Only the ticker shares the
    connection: its statements are as short.
    """

    def __init__(
        self,
        connection: ControlConnection,
        worker: UUID,
        *,
        orders: Orders,
        alone: Alone,
        on_cancel: Callable[[Mapping[tuple[UUID, int], str]], None],
    ) -> None:
        self._connection = connection
        self._worker = worker
        self._orders = orders
        self._alone = alone
        self._on_cancel = on_cancel
        self._notified = asyncio.Event()

    def notify(self) -> None:
        """Look now: an operator has acted on one of this worker's jobs, on a queue, or on a worker."""
        self._notified.set()

    async def run(self) -> None:
        """Look again and again until cancelled. Log a failure and try again next time."""
        pause = LOOK_EVERY
        while True:
            self._notified.clear()
            try:
                await self.look()
                pause = LOOK_EVERY
            except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
                log.warning("attention_failed", error=type(error).__name__, detail=message(error))
                pause = min(pause * 2, PAUSE_MOST)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311  # jitter
                    await self._notified.wait()

    async def look(self) -> None:
        """Look once, at each part. A table that another session has locked does not delay the other parts."""
        for part in (self._find_cancelled, self._read_orders, self._keep_suspects):
            try:
                await part()
            except asyncpg.LockNotAvailableError as error:
                log.warning("attention_failed", error=type(error).__name__, detail=message(error))

    async def _find_cancelled(self) -> None:
        """Stop the jobs of this worker whose cancel is requested. Polling finds each; a notification is only faster."""
        rows = await self._connection.fetch("list_cancel_requests", self._worker)
        if rows:  # seam: cancel requests
            self._on_cancel({(row["id"], row["attempt"]): row["cancel_reason"] for row in rows})

    async def _read_orders(self) -> None:
        await self._orders.look(self._connection)

    async def _keep_suspects(self) -> None:
        if self._alone.is_wanted:
            await hold_suspects(self._connection)


__all__ = ["Attention"]
