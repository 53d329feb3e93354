"""What operators have said of one worker and its queues, and which queues its wildcards mean: read, and put to work."""

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
"""A queue that a wildcard has found is served for so long after its last job was seen waiting."""
SPLIT: Final = "claims take longer with each queue: divide the queues among workers, or have fewer"
DISCOVER_EVERY: Final = 1.0
DISCOVER_SHARE: Final = 20
"""A search for queues that took t seconds is not repeated for this many times t."""
_TOLD: Final = {
    "running": ("claims_resumed", "an operator has resumed this worker"),
    "quiet": ("claims_paused", "an operator has quieted this worker"),
    "stopping": ("claims_paused", "an operator has stopped this worker"),
}
"""What is logged when an operator's order is heeded."""


class Orders:
    """Reads them once a second, and puts changes to work. A pause itself is up to the claim, which asks by itself.

    `state`: whether this worker is to take jobs (`running`), to take none (`quiet`), or to stop (`stopping`). Each
    shift begins with that of the one before. `stop` is called once it is to stop.
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
    ) -> None:
        self._served = served
        self._claims = claims
        self._slots = slots
        self._worker = worker
        self._give_back = give_back
        self._stop = stop
        self.state = state
        self._limits = served.limits_of(served.names)
        self._seen_at: dict[str, float] = {}
        self._has_warned = False
        self._discover_at = 0.0

    async def look(self, connection: ControlConnection) -> None:
        """Find out what is new."""
        if self._served.wildcards and time.monotonic() >= self._discover_at and await self.discover(connection):
            await connection.fetch("serve", self._worker, self._claims.queues)
        await self.read(connection)

    async def read(self, connection: ControlConnection) -> None:
        """Read what was said, and do it: what a queue was given beats what the worker was started with."""
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
        paused = {row["queue"] for row in rows if row["is_paused"]}
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
        """Whether an operator wants the worker to take no jobs."""
        return self.state != "running"

    def _heed(self, state: str) -> None:
        """Take jobs again, take none from now on, or stop."""
        if state == self.state:
            return
        self.state = state
        event, why = _TOLD[state]
        log.info(event, worker=str(self._worker), why=why)
        if self.is_quiet:
            self._give_back(self._slots.take_ready())
            self._slots.stop_waiting()
        if state == "stopping":
            self._stop()

    async def discover(self, connection: ControlConnection) -> bool:
        """Find the queues that the wildcards mean now. Returns whether they are others than before."""
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
