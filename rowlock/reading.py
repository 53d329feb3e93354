"""Read the queue as a whole: unclaimed jobs, the audit, statistics and the overview."""

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
    """Unclaimed jobs, the audit, statistics and the overview, as methods of `Rowlock`."""

    database: Database

    async def unclaimed(self, *, limit: int = 50) -> list[Unclaimed]:
        """Count due jobs that no live worker can claim, by task, version of the arguments and queue, with the reason.

        They wait until a worker starts that can claim them. Of each queue and priority the 1,000 jobs that have been
        due longest are counted.
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
        """Return a page of the audit, newest first: who did what (cancel, retry, discard, …), when and from where.

        `target` is a job's id, or the name of a queue or a schedule; a bulk act has none.
        """
        return await list_operations(
            self.database, verb=verb, target_kind=target_kind, target=target, before=before, limit=limit
        )

    async def statistics(self, window: str = "1h", *, queue: str | None = None, task: str | None = None) -> Statistics:
        """Count the jobs that ended in the last "1h", "6h", "24h", "7d" or "30d", with durations and queue lengths.

        In total, in 60 to 120 points, and for each of the 50 busiest queues and tasks; `queue` or `task` narrows it to
        one. Workers record every ten seconds which jobs ended; percentiles are right to a factor of 1.42. Reads
        aggregated rows, never the jobs. Raises `InvalidOption`.

        >>> (await app.statistics(window="24h", queue="email")).total.duration_p95
        """
        return await read_statistics(self.database, window, queue=queue, task=task)

    async def overview(self) -> Overview:
        """Return a snapshot: live jobs, dead letters, queues, workers, and the jobs that ended in the last minute."""
        return await read_overview(self.database)
