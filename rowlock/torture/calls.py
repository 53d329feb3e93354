"""Shared by the routines of the operating program: calls, which are logged before and after, and pauses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID, uuid4

import asyncpg
import structlog

from rowlock.errors import RowlockError
from rowlock.queue.enqueue.errors import EnqueueUnknown
from rowlock.torture.application import app
from rowlock.torture.history import Answer, Call, Enqueue, Enqueued
from rowlock.torture.jobs import wanted
from rowlock.torture.workload import history

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from rowlock.app import Rowlock
    from rowlock.queue.jobs.new_job import NewJob
    from rowlock.queue.read.handle import JobHandle

LOST: Final = (
    RowlockError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""The exceptions of a call that loses its connection in the middle, or that gets none."""
INSIST_TIMES: Final = 60
Said = dict[str, Any]


class Calls:
    """The calls of one process. `rng` decides the next action."""

    def __init__(self, rng: random.Random) -> None:
        self.app: Rowlock = app
        self.rng = rng
        self.stopping = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the program's end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    async def enqueue(self, jobs: Sequence[NewJob[Any]]) -> list[JobHandle[Any]]:
        """Enqueue jobs. Returns their handles; none if it is unknown whether they are stored."""
        op = uuid4().hex
        history().write(Enqueue(op=op, how="operator", jobs=[wanted(job) for job in jobs]))
        handles: list[JobHandle[Any]] = []
        outcome: Literal["stored", "nothing", "unknown"]
        try:
            handles = await self.app.enqueue_many(jobs)
        except EnqueueUnknown:
            outcome = "unknown"
        except LOST:
            outcome = "nothing"
        else:
            outcome = "stored"
        history().write(Enqueued(op=op, outcome=outcome))
        return handles

    async def call(
        self,
        what: str,
        do: Callable[[], Awaitable[Said | None]],
        *,
        jobs: Sequence[UUID] = (),
        refused: tuple[type[Exception], ...] = (),
        about: Said | None = None,
    ) -> Said | None:
        """Make the call and log its answer. None if it was refused, or if the answer was lost."""
        op = uuid4().hex
        history().write(Call(op=op, what=what, jobs=list(jobs), about=about or {}))
        outcome: Literal["done", "refused", "unknown"] = "unknown"
        said: Said = {}
        try:
            said = await do() or {}
        except refused as error:
            outcome, said = "refused", {"error": type(error).__name__, "text": str(error)[:200]}
        except LOST as error:
            said = {"error": type(error).__name__, "text": str(error)[:200]}
            structlog.get_logger().info("call_lost", what=what, **said)
        else:
            outcome = "done"
        history().write(Answer(op=op, outcome=outcome, said=said))
        return said if outcome == "done" else None

    async def insist(self, what: str, do: Callable[[], Awaitable[Said | None]], about: Said) -> Said | None:
        """Repeat the call until there is an answer, many times, also beyond the program's end."""
        for _ in range(INSIST_TIMES):
            if (said := await self.call(what, do, about=about)) is not None:
                return said
            await asyncio.sleep(0.3)
        return None
