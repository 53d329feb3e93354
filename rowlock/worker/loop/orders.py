"""Apply operators' orders for one worker and its queues, and find the queues that its wildcards match."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rowlock import logs
from rowlock.queue.claim.claims import MANY_QUEUES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.claim.served import Served
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.attempt.attempt import Attempt
    from rowlock.worker.loop.slots import Slots

log = logs.get_logger("rowlock.worker")

KEEP_SECONDS: Final = 60.0
"""How long a queue that a wildcard matches is served after its last waiting job was seen."""
SPLIT: Final = "claims take longer with each queue: divide the queues among workers, or use fewer queues"
DISCOVER_EVERY: Final = 1.0
DISCOVER_SHARE: Final = 20
"""A search for queues that took t seconds is not repeated for this many times t."""
_EVENTS: Final = {
    "running": ("claims_resumed", "an operator has resumed this worker"),
    "quiet": ("claims_paused", "an operator has quieted this worker"),
    "stopping": ("claims_paused", "an operator has stopped this worker"),
}
"""The event and the reason that are logged for each new state."""


class Orders:
    """Read operators' orders, and apply changes. A queue's pause needs no order: each claim checks it.

    `state` is whether this worker claims jobs (`running`), claims none (`quiet`), or stops (`stopping`). Each shift
    begins with the state of the shift before. An order to stop calls `stop`. After each change `wake` is called.
    """

    def __init__(
        self,
        served: Served,
        claims: Claims,
        slots: Slots,
        *,
        worker: UUID,
        state: str,
        give_back: Callable[[Sequence[Attempt]], None],
        stop: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._served = served
        self._claims = claims
        self._slots = slots
        self._worker = worker
        self._give_back = give_back
        self._stop = stop
        self._wake = wake
        self.state = state
        self._limits = served.limits_of(served.names)
        self._seen_at: dict[str, float] = {}
        self._has_warned = False
        self._discover_at = 0.0
        self._told: str | None = None
        self._paused: set[str] = set()

    async def look(self, connection: ControlConnection, told: str | None) -> None:
        """Discover queues for the wildcards if that is due. Read the orders if they have changed.

        `told` is the text of look.sql, which is another one after each change, or None if it is unknown.
        """
        if self._served.wildcards and time.monotonic() >= self._discover_at and await self.discover(connection):
            await connection.fetch("serve", self._worker, self._claims.queues)
            told = None
        if told is None or told != self._told:
            await self.read(connection)
            self._told = told
            self._wake()  # a queue may be new, or resumed
        elif self._paused:  # a claim that was answered late, or an adopted job
            self._give_back(self._slots.take_surplus(self._paused))

    async def read(self, connection: ControlConnection) -> None:
        """Read and apply the orders. A limit that an operator gave a queue overrides the worker's own option."""
        rows = await connection.fetch("read_orders", self._worker, self._claims.queues)
        if not rows:
            return  # the lease was lost
        self._heed(rows[0]["state"])
        queues = self._claims.queues
        if len(queues) > MANY_QUEUES and not self._has_warned:
            log.warning("many_queues_served", queues=len(queues), most=MANY_QUEUES, what=SPLIT)
        self._has_warned = len(queues) > MANY_QUEUES
        limits = self._served.limits_of(queues)
        # seam: scale
        limits |= {row["queue"]: row["queue_concurrency"] for row in rows if row["queue_concurrency"] is not None}
        paused = self._paused = {row["queue"] for row in rows if row["is_paused"]}
        concurrency: int = rows[0]["concurrency"]
        if (concurrency, limits) != (self._slots.concurrency, self._limits):
            if concurrency != self._slots.concurrency:
                log.info("concurrency_changed", worker=str(self._worker), concurrency=concurrency)
            self._limits = limits
            self._give_back(self._slots.resize(concurrency, limits, paused))
        elif paused:
            self._give_back(self._slots.take_surplus(paused))

    @property
    def is_quiet(self) -> bool:
        """Whether an operator has quieted or stopped the worker: it must not claim jobs."""
        return self.state != "running"

    def _heed(self, state: str) -> None:
        """Apply a new state: claim jobs again, claim none, or stop."""
        if state == self.state:
            return
        self.state = state
        event, why = _EVENTS[state]
        log.info(event, worker=str(self._worker), why=why)
        if self.is_quiet:
            self._give_back(self._slots.take_ready())
            self._slots.stop_waiting()
        if state == "stopping":
            self._stop()

    async def discover(self, connection: ControlConnection) -> bool:
        """Find the queues that the wildcards match now. Return whether they have changed."""
        if not self._served.wildcards:
            return False
        began = time.monotonic()
        rows = await connection.fetch("discover_queues")
        now = time.monotonic()
        self._discover_at = now + max(DISCOVER_EVERY, DISCOVER_SHARE * (now - began)) - DISCOVER_EVERY / 2
        self._seen_at |= {row["queue"]: now for row in rows if self._served.fits(row["queue"])}
        self._seen_at = {queue: at for queue, at in self._seen_at.items() if now - at < KEEP_SECONDS}
        queues = self._seen_at.keys() | self._served.names
        if queues == set(self._claims.queues):
            return False
        self._claims.serve(queues)
        return True


__all__ = ["Orders"]
