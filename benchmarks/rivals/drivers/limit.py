"""Drives Rowlock's own claim and finish statements, in batches and without handlers: the limit of this design.

Claims on one connection and finishes on another go on at the same time, as in the worker, which can be as fast as
this only if its handlers, and all that it does around them, cost nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import uuid4

from asyncpg import Record

from benchmarks.rivals.drivers.protocol import Tally, run
from benchmarks.rivals.drivers.rowlock import RowlockDriver
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.worker.process import settle_in

IDLE_SECONDS = 0.005
IN_FLIGHT = 2


class LimitDriver(RowlockDriver):
    """The statements of one worker, back to back."""

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Claim and finish until told to stop."""
        settings = self._app.settings
        claiming = ControlConnection(settings, self._url, purpose="claim")
        finishing = ControlConnection(settings, self._url, purpose="finish")
        claims, worker, batch = Claims(claiming, ["default"], ["job"]), uuid4(), self._settings["batch"]
        claimed: asyncio.Queue[Sequence[Record]] = asyncio.Queue(IN_FLIGHT)

        async def finish() -> None:
            while True:
                rows = await claimed.get()
                ids, attempts = [row["id"] for row in rows], [row["attempt"] for row in rows]
                await finishing.fetch("succeed", worker, ids, attempts, [None] * len(rows), [0.0] * len(rows))
                claims.holdings.ended(rows)
                tally.handled += len(rows)
                claimed.task_done()

        settle_in()
        finisher = asyncio.create_task(finish())
        ready()
        while not stop.is_set():
            rows = await claims.claim(worker, batch, {})
            if not rows:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            if not tally.first:
                tally.count()
                tally.handled = 0
            await claimed.put(rows)
        await claimed.join()
        finisher.cancel()
        await claiming.close()
        await finishing.close()


if __name__ == "__main__":
    run(LimitDriver)
