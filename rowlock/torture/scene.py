"""The targets of faults: the database, its disks, the links, the pooler, the programs, and the history for the log."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rowlock.torture import testimony
from rowlock.torture.enqueuer import LOST
from rowlock.torture.history import Enqueue, Enqueued, Fault, History
from rowlock.torture.jobs import wanted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rowlock.queue.enqueue.store import Store
    from rowlock.queue.jobs.new_job import NewJob
    from rowlock.torture.database import Database
    from rowlock.torture.disk import Disk
    from rowlock.torture.pooler import Pooler
    from rowlock.torture.proxy import Link
    from rowlock.torture.stage import Programs


class NotDone(Exception):
    """The fault could not be injected: something that it needs was missing at the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All targets. `pooler` is on the way of the first link, if there is one."""

    database: Database
    disk: Disk
    links: Sequence[Link]
    programs: Programs
    store: Store
    history: History
    pooler: Pooler | None = None

    @contextmanager
    def fault(self, kind: str, *processes: int, note: str = "") -> Iterator[None]:
        """Log the fault before the block, and its end after it; for each process that it hits, or for all."""
        hit = processes or (0,)
        for process in hit:
            self.history.write(Fault(kind=kind, process=process, note=note))
        try:
            yield
        finally:
            for process in hit:
                self.history.write(Fault(kind=kind, process=process, note=note, is_over=True))

    async def enqueue(self, job: NewJob[Any]) -> None:
        """Enqueue a job, and repeat it until there is an answer."""
        for number in range(100):
            op = f"{job.id}-{number}"
            testimony.note("asked", [job.id])
            self.history.write(Enqueue(op=op, how="runner", jobs=[wanted(job)], is_again=number > 0))
            try:
                await self.store.enqueue_many([job])
            except LOST:
                self.history.write(Enqueued(op=op, outcome="unknown"))
                await asyncio.sleep(0.5)
            else:
                self.history.write(Enqueued(op=op, outcome="stored"))
                testimony.note("stored", [job.id])
                return


__all__ = ["NotDone", "Scene"]
