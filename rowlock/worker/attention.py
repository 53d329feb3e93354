"""Attention: notice operators' acts on one worker within a second, and what is due, also while its duties are busy."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock import logs
from rowlock.errors import RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST, message
from rowlock.worker.duties.suspects import hold_suspects
from rowlock.worker.ticker import LOOK_AHEAD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.duties.runner import Duties
    from rowlock.worker.loop.orders import Orders
    from rowlock.worker.loop.slots import Slots
    from rowlock.worker.loop.suspects import Alone
    from rowlock.worker.ticker import Ticker

log = logs.get_logger("rowlock.worker")

LOOK_EVERY: Final = 1.0
IDLE_SHARE: Final = 2
"""A worker that holds no job looks this many times as rarely: no cancel concerns it. One that gets a job meanwhile does
not."""
PAUSE_MOST: Final = 5.0
"""The longest pause between two looks while the database does not answer, in seconds."""


class Attention:
    """Look once a second at what there is to do besides jobs, in one statement; and at once when notified.

    What it finds, the parts concerned do: operators' orders, the duties, the ticks, jobs that run alone. `on_cancel`
    receives the attempts to stop, by job and number, with the reason of each. Keep the duty `suspects` meanwhile. Only
    the ticker shares the connection: its statements are as short.
    """

    def __init__(
        self,
        connection: ControlConnection,
        worker: UUID,
        *,
        orders: Orders,
        claims: Claims,
        slots: Slots,
        alone: Alone,
        duties: Duties,
        ticker: Ticker,
        on_cancel: Callable[[Mapping[tuple[UUID, int], str]], None],
    ) -> None:
        self._connection = connection
        self._worker = worker
        self._orders = orders
        self._claims = claims
        self._slots = slots
        self._alone = alone
        self._duties = duties
        self._ticker = ticker
        self._on_cancel = on_cancel
        self._notified = asyncio.Event()
        self._done_before = 0
        self._news: set[str] = set()

    def notify(self) -> None:
        """Look now: an operator has acted on one of this worker's jobs, on a queue, or on a worker."""
        self._notified.set()

    async def run(self) -> None:
        """Look again and again until cancelled. Log a failure and try again next time."""
        pause = LOOK_EVERY
        while True:
            self._notified.clear()
            rests = IDLE_SHARE
            try:
                await self.look()
                pause = LOOK_EVERY
            except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
                log.warning("attention_failed", error=type(error).__name__, detail=message(error))
                pause, rests = min(pause * 2, PAUSE_MOST), 1
            for _ in range(rests):
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311  # jitter
                        await self._notified.wait()
                if self._notified.is_set() or self._has_worked:
                    break

    async def look(self) -> None:
        """Look once, and do what there is to do. A table that another session has locked does not delay the rest."""
        parts: list[Callable[[], Awaitable[None]]] = []
        if self._has_worked:
            self._news = {"statistics", "backlog"}
        self._done_before = self._slots.done
        try:
            [seen] = await self._connection.fetch(
                "look",
                self._worker,
                self._claims.queues,
                self._ticker.tasks,
                LOOK_AHEAD,
                self._duties.wanted,
                sorted(self._news),
                self._claims.last_chance,
            )
        except asyncpg.LockNotAvailableError as error:
            # Which part needs the locked table is unknown: each is tried.
            log.warning("attention_failed", error=type(error).__name__, detail=message(error))
            self._duties.notice(self._duties.wanted)
            self._ticker.notice()
            self._alone.notice()
            parts += [self._find_cancelled, partial(self._orders.look, self._connection, None)]
        else:
            self._duties.notice(seen["duties"])
            self._news -= set(seen["duties"])
            if seen["has_ticks"]:
                self._ticker.notice()
            if seen["has_suspects"]:
                self._alone.notice()
            if seen["has_cancels"]:
                parts.append(self._find_cancelled)
            if seen["orders"] is not None:  # otherwise the lease was lost
                parts.append(partial(self._orders.look, self._connection, seen["orders"]))
        for part in (*parts, self._keep_suspects):
            try:
                await part()
            except asyncpg.LockNotAvailableError as error:
                log.warning("attention_failed", error=type(error).__name__, detail=message(error))

    @property
    def _has_worked(self) -> bool:
        """Whether this worker runs jobs, or has ended some since it last looked."""
        return not self._slots.is_empty or self._slots.done != self._done_before

    async def _find_cancelled(self) -> None:
        """Stop the jobs of this worker whose cancel is requested. A look finds each; a notification is only faster."""
        rows = await self._connection.fetch("list_cancel_requests", self._worker)
        if rows:
            self._on_cancel({(row["id"], row["attempt"]): row["cancel_reason"] for row in rows})

    async def _keep_suspects(self) -> None:
        if self._alone.is_wanted:
            await hold_suspects(self._connection)


__all__ = ["Attention"]
