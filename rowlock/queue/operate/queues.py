"""What operators do with queues: look at them, pause, resume, drain and scale them."""

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
"""A look of a drain that has begun in time may take so much longer."""


class Queues:
    """The queues of the database: `app.queues`.

    What is said of a queue is stored, and holds for all workers, also for those that start later, until somebody says
    otherwise. Each change is one transaction, with a row in the table `operation` that says what was done, and `by`
    whom; what changes nothing is not recorded.

    >>> await app.queues.pause("email", by="ada")
    """

    def __init__(self, database: Database, origin: Origin | None = None) -> None:
        self._database = database
        self._origin = Origin() if origin is None else origin

    def through(self, origin: Origin) -> Queues:
        """The same, for acts that come from elsewhere: `origin` is what the table `operation` keeps of them."""
        return Queues(self._database, origin)

    async def list(self, *, exact: bool = True) -> list[Queue]:
        """All queues that anybody knows of, by name: of an operator's word, a task's, a worker's, or with live jobs.

        This counts all live jobs: a good tenth of a second for each million. Not `exact`, the counts come from the last
        sample of the workers' where there are more than 100,000.
        """
        return [Queue(**row) for row in await self._database.run("list_queues", None, None if exact else MANY)]

    async def get(self, name: str, *, exact: bool = True) -> Queue:
        """One queue. Any name will do: a queue that nobody knows yet has no jobs and no workers."""
        (row,) = await self._database.run("list_queues", checks.queue_name(name), None if exact else MANY)
        return Queue(**row)

    async def pause(self, name: str, *, by: str | None = None) -> Queue:
        """Let no job of the queue start until `resume`. What runs goes on, and enqueuing goes on.

        Once this returns, no claim that begins takes a job of it. Jobs that a worker had claimed ahead, and that did
        not start yet, are given back within a second or so. Pausing a paused queue changes nothing.
        """
        return await self.get(await self._pause("pause", name, by))

    async def resume(self, name: str, *, by: str | None = None) -> Queue:
        """Let the queue's jobs start again, at once."""
        wanted = checks.queue_name(name)
        async with acting(self._database, ActOnQueue, self._origin.acted_by(by)) as act:
            if rows := await act.run("resume", wanted):
                await act.record("resume", wanted, {"paused_at": rows[0]["paused_at"]})
        return await self.get(wanted)

    async def drain(self, name: str, *, timeout: timedelta | float | None = None, by: str | None = None) -> Queue:
        """Pause the queue, and wait until none of its jobs runs, or will: before maintenance, say.

        It stays paused: `resume` it afterwards. Raises `DrainTimeout` if jobs still run after `timeout` (seconds or a
        `timedelta`; None waits for ever); it stays paused then, too. The waiting outlives the database: while it is
        away, it goes on.
        """
        limit = checks.timeout(timeout)
        clock = asyncio.get_running_loop().time
        deadline = None if limit is None else clock() + limit.total_seconds()
        wanted = await self._pause("drain", name, by)
        try:
            under_way = await self._patiently(wanted, deadline, self._claiming)
            while True:
                # First the claims, then the jobs: what a claim takes that began before the pause is counted once it
                # ended.
                if under_way:
                    under_way &= await self._patiently(wanted, deadline, self._claiming)
                (row,) = await self._patiently(wanted, deadline, lambda: self._database.run("count_running", wanted))
                if not under_way and row["running"] == 0:  # seam: drained
                    return await self._patiently(wanted, deadline, lambda: self.get(wanted))
                if deadline is not None and clock() >= deadline:
                    raise DrainTimeout(
                        f"queue {quoted(wanted)} still has {row['running']} running jobs after {limit}: it stays "
                        "paused; drain it again to wait on, or resume it."
                    )
                await asyncio.sleep(LOOK_EVERY)
        except DatabaseUnavailable as error:
            if deadline is None or clock() < deadline:
                raise  # it is not away
            raise DrainTimeout(
                f"queue {quoted(wanted)} may still have running jobs: the database did not answer after {limit}. It "
                "stays paused; drain it again to wait on, or resume it."
            ) from error

    async def scale(self, name: str, concurrency: int | None, *, by: str | None = None) -> Queue:
        """Say how many jobs of the queue each worker runs at once at most, instead of what it was started with.

        None: as many as it was started with. Workers heed it at once; what runs goes on, so fewer come about as jobs
        end. Raises `InvalidOption`.
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
