"""The public `Queues`: read, pause, resume, drain and scale queues."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from rowlock import logs
from rowlock.errors import DatabaseUnavailable, DrainTimeout
from rowlock.queue.connect.asking import ask
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.operate.act import ActOnQueue, acting
from rowlock.queue.read.queues import MANY, Queue
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rowlock.queue.connect.database import Database

log = logs.get_logger("rowlock.client")

T = TypeVar("T")

LOOK_EVERY: Final = 0.2
_LAST_LOOK: Final = 0.5
"""A query of a drain that has begun in time may take this much longer."""


class Queues:
    """The queues of the database: `app.queues`.

    The settings of a queue are stored, and apply to all workers, also to those that start later, until the next change.
    Each change is one transaction, with a row in the table `operation` that records the act and its actor (`by`); an
    act that changes nothing is not recorded.

    >>> await app.queues.pause("email", by="ada")
    """

    def __init__(self, database: Database, origin: Origin | None = None) -> None:
        self._database = database
        self._origin = Origin() if origin is None else origin

    def through(self, origin: Origin) -> Queues:
        """The same queues, for acts of another origin, which the table `operation` records."""
        return Queues(self._database, origin)

    async def list(self, *, exact: bool = True) -> list[Queue]:
        """All known queues, by name: those set by an operator, of a task, of a worker, or with live jobs.

        This counts all live jobs: a good tenth of a second for each million. Without `exact`, counts above 100,000 come
        from the workers' last sample.
        """
        return [
            Queue(**row)
            for row in await self._database.run("list_queues", None, None if checks.flag("exact", exact) else MANY)
        ]

    async def get(self, name: str, *, exact: bool = True) -> Queue:
        """One queue, of any name: a queue that is not known yet has no jobs and no workers."""
        (row,) = await self._database.run(
            "list_queues", checks.queue_name(name), None if checks.flag("exact", exact) else MANY
        )
        return Queue(**row)

    async def pause(self, name: str, *, by: str | None = None) -> Queue:
        """Start no job of the queue until `resume`. Running jobs and enqueuing go on.

        Once this returns, no new claim takes a job of the queue. Workers release jobs that they had claimed ahead, and
        that did not start yet, within a second or so. Pausing a paused queue changes nothing.
        """
        return await self.get(await self._pause("pause", name, by))

    async def resume(self, name: str, *, by: str | None = None) -> Queue:
        """Start the queue's jobs again, at once."""
        wanted = checks.queue_name(name)
        async with acting(self._database, ActOnQueue, self._origin.acted_by(by)) as act:
            if rows := await act.run("resume", wanted):
                await act.record("resume", wanted, {"paused_at": rows[0]["paused_at"]})
        return await self.get(wanted)

    async def drain(self, name: str, *, timeout: timedelta | float | None = None, by: str | None = None) -> Queue:
        """Pause the queue, and wait until none of its jobs runs, or will: before maintenance, for example.

        It stays paused: `resume` it afterwards. Raises `DrainTimeout` if jobs still run after `timeout` (seconds or a
        `timedelta`; None waits for ever); it stays paused then, too. The wait continues while the database is away.
        """
        limit = checks.timeout(timeout)
        clock = asyncio.get_running_loop().time
        deadline = None if limit is None else clock() + limit.total_seconds()
        wanted = await self._pause("drain", name, by)
        try:
            under_way = await self._patiently(wanted, deadline, self._claiming)
            while True:
                # First the claims, then the jobs: the jobs of a claim that began before the pause are counted once it
                # has ended.
                if under_way:
                    under_way &= await self._patiently(wanted, deadline, self._claiming)
                (row,) = await self._patiently(wanted, deadline, lambda: self._database.run("count_running", wanted))
                if not under_way and row["running"] == 0:  # seam: drained
                    return await self._patiently(wanted, deadline, lambda: self.get(wanted))
                if deadline is not None and clock() >= deadline:
                    raise DrainTimeout(
                        f"queue {quoted(wanted)} still has {row['running']} running jobs after {limit}. It stays "
                        "paused; drain it again to continue waiting, or resume it."
                    )
                await asyncio.sleep(LOOK_EVERY)
        except DatabaseUnavailable as error:
            if deadline is None or clock() < deadline:
                raise  # it is not away
            raise DrainTimeout(
                f"queue {quoted(wanted)} may still have running jobs: the database did not answer after {limit}. It "
                "stays paused; drain it again to continue waiting, or resume it."
            ) from error

    async def scale(self, name: str, concurrency: int | None, *, by: str | None = None) -> Queue:
        """Set how many jobs of the queue each worker runs at once at most, instead of its own limit at the start.

        None: the worker's own limit again. Workers apply it at once; running jobs go on, so a lower limit is reached as
        jobs end. Raises `InvalidOption`.
        """
        wanted = checks.queue_name(name)
        most = None if concurrency is None else checks.concurrency(concurrency)
        async with acting(self._database, ActOnQueue, self._origin.acted_by(by)) as act:
            (row,) = await act.run("scale_queue", wanted, most)
            if row["before"] != most:
                await act.record("scale", wanted, {"concurrency": most, "before": row["before"]})
        return await self.get(wanted)

    async def _pause(self, verb: str, name: str, by: str | None) -> str:
        wanted = checks.queue_name(name)
        async with acting(self._database, ActOnQueue, self._origin.acted_by(by)) as act:
            if rows := await act.run("pause", wanted):
                await act.record(verb, wanted, {"paused_at": rows[0]["paused_at"]})
        return wanted

    async def _patiently(self, queue: str, deadline: float | None, question: Callable[[], Awaitable[T]]) -> T:
        def say(error: BaseException) -> None:
            log.warning("drain_waits_for_database", queue=queue, error=type(error).__name__)

        limit = None if deadline is None else deadline + _LAST_LOOK
        return await ask(self._database, question, deadline=deadline, limit=limit, on_away=say)

    async def _claiming(self) -> set[str]:
        return {row["transaction"] for row in await self._database.run("list_claiming")}


__all__ = ["Queue", "Queues"]
