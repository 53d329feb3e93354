"""What an application reads of the whole: what nobody takes, the audit, statistics and the overview."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rowlock.queue.read.operations import list_operations
from rowlock.queue.read.overview import Overview, read_overview
from rowlock.queue.read.statistics import Statistics, read_statistics
from rowlock.queue.read.unclaimed import list_unclaimed

if TYPE_CHECKING:
    from uuid import UUID

    from rowlock.queue.connect.database import Database
    from rowlock.queue.read.operations import Operation
    from rowlock.queue.read.unclaimed import Unclaimed


class Reading:
    """The audit, the statistics, the overview, and the jobs that nobody takes. `Rowlock` has them all."""

    database: Database

    async def unclaimed(self, *, limit: int = 50) -> list[Unclaimed]:
        """Due jobs that no live worker would take, by task, version of the arguments and queue, and why.

        They wait, and are taken as soon as a worker comes that can. Of each queue and priority the 1,000 jobs that
        have been due longest are counted.
        """
        return await list_unclaimed(self.database, limit=limit)

    async def operations(
        self,
        *,
        verb: str | None = None,
        target_kind: str | None = None,
        target: str | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> list[Operation]:
        """A page of what people did (cancel, retry, discard, …), newest first: what to, who, when and from where.

        `target` is a job's id, or the name of a queue or a schedule; an act on many has none.
        """
        return await list_operations(
            self.database, verb=verb, target_kind=target_kind, target=target, before=before, limit=limit
        )

    async def statistics(self, window: str = "1h", *, queue: str | None = None, task: str | None = None) -> Statistics:
        """What ended within the last "1h", "6h", "24h", "7d" or "30d", how long it took, and how long the queues were.

        In all, in 60 to 120 points, and for each of the 50 busiest queues and tasks; of one queue or task alone, if
        they are given. Workers count every ten seconds what has ended; percentiles are right to a factor of 1.42.
        Reads added-up rows, never the jobs. Raises `InvalidOption`.

        >>> (await app.statistics(window="24h", queue="email")).total.duration_p95
        """
        return await read_statistics(self.database, window, queue=queue, task=task)

    async def overview(self) -> Overview:
        """How it stands: live jobs, dead letters, queues, workers, and what ended within the last minute."""
        return await read_overview(self.database)
