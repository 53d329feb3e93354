"""The shifts of one worker, from its start to its stop: one after the other, each under a lease of its own."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rowlock import logs
from rowlock.queue.connect.server_errors import message
from rowlock.worker.loop.main_loop import PAUSE_FIRST, PAUSE_MOST, TRANSIENT
from rowlock.worker.shift import Shift
from rowlock.worker.timeouts import to_the_end

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence
    from uuid import UUID

    from rowlock.queue.schedules.schedule import Declared
    from rowlock.worker.terms import Terms

log = logs.get_logger("rowlock.worker")


class Shifts:
    """Opens a shift, and the next one each time that a lease is lost. A retiring shift ends beside the next.

    `current` is the shift that works now, or the last one.
    """

    def __init__(self, terms: Terms, *, concurrency: int, has_duties: bool, has_ticks: bool) -> None:
        self._terms = terms
        self.watchdog = terms.watchdog
        self._has_duties = has_duties
        self._has_ticks = has_ticks
        self.current = Shift(terms, concurrency=concurrency, state="running")
        self.retiring = set[asyncio.Task[None]]()
        """Shifts whose lease was lost, until their last handler has ended."""
        self._retired: list[Shift] = []  # those that retire, or have left a thread running
        self._attempts_of_retired = 0
        self._is_closed = False

    @property
    def attempts(self) -> int:
        """How many attempts have ended, once no shift is retiring."""
        return self._attempts_of_retired + (0 if self.current.is_retired else self.current.slots.done)

    @property
    def has_leftover_threads(self) -> bool:
        """Whether a plain function still runs in a thread although its shift is over."""
        return any(shift.has_leftover_threads for shift in (*self._retired, self.current))

    async def open(self, schedules: Sequence[Declared]) -> None:
        """Open the first shift, which declares the schedules, unless the worker is asked to stop meanwhile.

        Raises `DatabaseUnavailable`.
        """
        first = self.current
        try:
            await self._unless_stopped(first.open(schedules, has_duties=self._has_duties, has_ticks=self._has_ticks))
        except BaseException:
            if first.is_open:  # the cancel came when it had just opened
                await self.close()
            raise
        if first.is_open:
            self.watchdog.start()

    async def work(self) -> None:
        """Work shift after shift, until the worker is to stop."""
        while not self._terms.stopping.is_set():
            await self.current.work()
            if not self._terms.stopping.is_set():
                await self._open_next()

    async def drain(self) -> None:
        """Do all that is due now, or falls due meanwhile, over lost leases: also what a retiring shift releases."""
        while not self._terms.stopping.is_set():
            retiring = set(self.retiring)
            await self.current.drain()
            if self.current.lease.is_lost:
                await self._open_next()
            elif retiring:  # one may have released a job after the last claim: drain again once it has ended
                await self._unless_stopped(_first_of(retiring))
            else:
                return

    async def _open_next(self) -> None:
        """Retire the shift whose lease was lost, and open the next one. Retries until it opens or the worker stops."""
        lost, pause = self.current, PAUSE_FIRST
        follows = [lost.id]
        self._retire(lost)
        while not self._terms.stopping.is_set():
            shift = Shift(self._terms, concurrency=lost.slots.concurrency, state=lost.orders.state)
            try:
                await self._unless_stopped(self._begin(shift, lost, follows))
            except TRANSIENT as error:
                follows.append(shift.id)  # it may have begun its lease, and only the answer was lost
                log.warning("claim_failed", error=type(error).__name__, detail=message(error), retry_in=round(pause, 1))
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):  # noqa: S311  # jitter
                        await self._terms.stopping.wait()
                pause = min(pause * 2, PAUSE_MOST)
            else:
                return

    async def _begin(self, shift: Shift, lost: Shift, follows: Sequence[UUID]) -> None:
        await shift.open(
            has_duties=self._has_duties,
            has_ticks=self._has_ticks,
            follows=follows,
            is_after_outage=lost.has_seen_outage,
        )
        self.current = shift

    async def _unless_stopped(self, waited: Coroutine[Any, Any, None]) -> None:
        """Await the coroutine. Cancel it when the worker is asked to stop: the link may be frozen."""
        begun = asyncio.create_task(waited)
        stopped = asyncio.create_task(self._terms.stopping.wait())
        try:
            await asyncio.wait({begun, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            begun.cancel()
            await to_the_end(_ended(begun))
        if not begun.cancelled():
            begun.result()

    def _retire(self, lost: Shift) -> None:
        """Let a shift end beside the next one. The next one starts no job that still runs in this one."""
        earlier = self._terms.earlier
        earlier.append(lost.slots)
        self._retired.append(lost)

        def end(retired: asyncio.Task[None]) -> None:
            self.retiring.discard(retired)
            earlier.remove(lost.slots)
            self._attempts_of_retired += lost.slots.done
            self._retired = [each for each in self._retired if not each.is_over or each.has_leftover_threads]
            report_defect(retired)

        retiring = asyncio.create_task(lost.retire())
        self.retiring.add(retiring)
        retiring.add_done_callback(end)

    async def close(self) -> None:
        """Close the current shift, and those that still retire: their handlers get a few seconds more."""
        if self._is_closed:
            return
        self._is_closed = True
        if running := self.current.slots.running:
            log.info(
                "worker_stopping",
                waits_for=dict(Counter(attempt.claimed["task"] for attempt in running)),
                seconds=self._terms.grace(),
                what="a second signal releases these jobs at once",
            )
        for retiring in self.retiring:
            retiring.cancel()
        try:
            await self.current.close()
        finally:
            await to_the_end(self._end())

    async def _end(self) -> None:
        await asyncio.gather(*self.retiring, return_exceptions=True)
        self.watchdog.stop()
        log.info("worker_stopped", worker=str(self.current.id), attempts=self.attempts)


async def _first_of(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.wait(list(tasks), return_when=asyncio.FIRST_COMPLETED)


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})


def report_defect(ended: asyncio.Task[None]) -> None:
    """Log the error that ended a background task at once. It may be awaited much later."""
    if not ended.cancelled() and (error := ended.exception()) is not None:
        log.critical("worker_failed", exc_info=error)


__all__ = ["Shifts", "report_defect"]
