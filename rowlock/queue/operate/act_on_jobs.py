"""The transaction of an act on one job, or on many, and its statements."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.operate.act import Act

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from rowlock.queue.enqueue.store import Store
    from rowlock.queue.jobs.rescheduling import Change

RETRYABLE: Final = ("failed", "cancelled", "expired")


class ActOnJobs(Act):
    """An act on one job, or on many."""

    kind = "job"
    field = "job_id"

    async def enqueue(self, store: Store, job: NewJob[Any]) -> None:
        """Enqueue a job in this transaction."""
        await store.enqueue(job, self._connection)

    async def take_keys(self, rows: Sequence[Record]) -> dict[UUID, UUID]:
        """Take the unique keys of finished jobs again. Returns the holder for each job whose key another job holds."""
        keyed = [row for row in rows if row["unique_key"] is not None and row["state"] in RETRYABLE]
        if not keyed:
            return {}
        held = await self.run("retake_keys", [row["unique_key"] for row in keyed], [row["id"] for row in keyed])
        return {row["id"]: row["holder"] for row in held}

    async def cancel(self, ids: Sequence[UUID], reason: str | None, states: Sequence[str | None]) -> list[Record]:
        """Cancel the jobs, and notify those who wait for them. Rows of cancel.sql."""
        rows = await self.run("cancel", ids, reason, self._origin.by, states)
        await self.run("tell_waiters", ids)
        return rows

    async def reschedule(self, ids: Sequence[UUID], change: Change, within: frozenset[str] | None) -> list[Record]:
        """Change the waiting jobs, and wake the workers that sleep on their queues. Rows of reschedule.sql."""
        queues = None if within is None else sorted(within)
        rows = await self.run("reschedule", ids, *change.parameters, queues)
        if changed := sorted({row["queue"] for row in rows if row["fits"]}):
            await self.run("wake", changed)
        return rows

    async def delete(self, job_id: UUID) -> Record | None:
        """Delete a finished job, with all its archive rows. A row of delete.sql; None while it is live."""
        gone: list[Record] = []
        while locked := await self.lock_finished(job_id):
            traces = (await self.run("find_traces", job_id))[0]
            # seam: traces
            for name, times in (("delete_attempts", traces["attempts"]), ("delete_logs", traces["logs"])):
                if times:  # an empty list would name no partitions, and lock all of them
                    await self.run(name, job_id, times)
            gone = await self.run("delete", job_id, [row["finished_at"] for row in locked])
        return gone[0] if gone else None

    async def when_finished(self, job_id: UUID) -> list[datetime]:
        """The times at which the job ended; an empty list while it is live, or if it does not exist."""
        return [row["finished_at"] for row in await self.run("get_job", job_id) if row["finished_at"] is not None]

    async def lock_finished(self, job_id: UUID) -> list[Record]:
        """Lock a finished job. A row of lock_finished.sql, or none."""
        ended = await self.when_finished(job_id)
        return await self.run("lock_finished", [job_id], ended) if ended else []

    async def retry(self, locked: Sequence[Record], args: str | None = None, version: int | None = None) -> int:
        """Put the locked jobs back, and wake the workers that sleep on their queues."""
        if not locked:
            return 0  # an empty list would name no partitions, and lock all of them
        ids, ended = named(locked)
        rows = await self.run("retry", ids, args, version, ended)
        await self.run("wake", sorted({row["queue"] for row in rows}))
        return len(rows)


def named(rows: Sequence[Record]) -> tuple[list[UUID], list[datetime]]:
    """The ids of finished jobs, and their end times, which name their partitions."""
    return [row["id"] for row in rows], [row["finished_at"] for row in rows]


__all__ = ["RETRYABLE", "ActOnJobs", "named"]
