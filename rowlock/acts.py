"""What operators do to jobs and queues, and look at: the part of the application that is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rowlock.queue.jobs.actor import Origin
from rowlock.queue.jobs.filter import JobFilter
from rowlock.queue.jobs.rescheduling import Change
from rowlock.queue.operate import retention
from rowlock.queue.read.dead_letters import group_dead_letters, list_dead_letters
from rowlock.queue.read.operations import list_operations
from rowlock.queue.read.overview import Overview, read_overview
from rowlock.queue.read.pages import list_jobs
from rowlock.queue.read.statistics import Statistics, read_statistics
from rowlock.queue.read.unclaimed import list_unclaimed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from uuid import UUID

    from rowlock.queue.connect.database import Database
    from rowlock.queue.jobs.job import Job
    from rowlock.queue.operate.jobs import BulkResult, CancelAnswer, Operators
    from rowlock.queue.operate.retention import Keep, QueueRetention, Retention
    from rowlock.queue.read.dead_letters import GroupedDeadLetters
    from rowlock.queue.read.operations import Operation
    from rowlock.queue.read.pages import JobPage
    from rowlock.queue.read.unclaimed import Unclaimed


class Acts:
    """Cancelling, rescheduling, retrying, discarding, deleting; dead letters and the record of who did what.

    `Rowlock` has them all.
    """

    database: Database
    operators: Operators

    async def cancel(self, job_id: UUID | str, *, reason: str | None = None, by: str | None = None) -> CancelAnswer:
        """Cancel a job: "cancelled" if it was still waiting, and then it never starts; "requested" if it runs.

        A running one is told to stop: an `async` function is cancelled, a process is killed, a plain function in a
        thread can ask `job.is_cancelled`. What it returns all the same stands as its success; otherwise the job ends as
        cancelled, and never runs again.
        `by` (who) and `reason` are kept in the table `operation`. Raises `JobNotFound`, `JobAlreadyFinished`.

        >>> await app.cancel(job.id, reason="the customer has left", by="ada")
        """
        return await self.operators.cancel(job_id, reason=reason, origin=Origin(by=by))

    async def reschedule(
        self,
        job_id: UUID | str,
        *,
        delay: timedelta | float | None = None,
        run_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        by: str | None = None,
    ) -> Job:
        """Change when a waiting job is due, its priority or its queue, and return it as it is now.

        `delay` (seconds, or a `timedelta`) counts from now on; a `run_at` that is over means now. What is left out
        stays as it was, and so do its attempts, its unique key and its limits in time. A job that is due and
        comes to another queue or priority lines up there, behind the others. Once a worker has claimed the job, nothing
        is changed.

        Raises `JobNotFound`; `WrongState` for a job that runs or has finished, whose time is over, or whose cancel was
        requested; `InvalidOption`, also for a time after the job's `expires` or `deadline`; and `LockTimeout`.

        >>> await app.reschedule(job.id, delay=3600, queue="bulk", by="ada")
        """
        change = Change.of(delay=delay, run_at=run_at, priority=priority, queue=queue)
        return await self.operators.reschedule(job_id, change, origin=Origin(by=by))

    async def run_now(self, job_id: UUID | str, *, by: str | None = None) -> Job:
        """Make a waiting job due now: `reschedule` with a delay of zero. Of a paused queue it waits all the same.

        >>> await app.run_now(job.id, by="ada")
        """
        return await self.operators.reschedule(
            job_id, Change.of(delay=0, run_at=None, priority=None, queue=None), origin=Origin(by=by)
        )

    async def delete(self, job_id: UUID | str, *, by: str | None = None) -> None:
        """Delete a finished job for good: it, its attempts, logs, result, progress, checkpoint, and the key it holds.

        All of it goes in one transaction, or nothing. The statistics still count it, and `operation` says who deleted
        it. A `result()` that is asked for afterwards raises `JobNotFound`. Retention removes many; `delete` is for one.
        Raises `JobNotFound`, `WrongState` for a job that has not finished (cancel it first), and `LockTimeout`.

        >>> await app.delete(job.id, by="ada")
        """
        await self.operators.delete(job_id, origin=Origin(by=by))

    async def retry(
        self, job_id: UUID | str, *, args: Mapping[str, object] | None = None, by: str | None = None
    ) -> Job:
        """Put a job back that has failed, was cancelled or has expired: the same job, due now, with all its attempts.

        Its `attempt` goes on counting, its errors and crashes begin at zero, its limits in time are gone. `args`
        replaces its arguments, and is checked if this application has the task. Raises `JobNotFound`, `WrongState`,
        `InvalidArguments`, and `KeyHeld` if another job holds its unique key by now.
        """
        return await self.operators.retry(job_id, args=args, origin=Origin(by=by))

    async def run_again(
        self, job_id: UUID | str, *, args: Mapping[str, object] | None = None, by: str | None = None
    ) -> Job:
        """Enqueue a new job like one that has finished, however it ended, and return the new one, due now.

        It has the same task, arguments, queue, priority, tags, metadata, timeout and number of attempts; no unique key,
        and no limit in time. The old one stays as it is. `args` replaces the arguments, as in `retry`. Raises
        `JobNotFound`, `WrongState` for a job that has not finished, `InvalidArguments`.

        >>> new = await app.run_again(job.id, by="ada")
        """
        return await self.operators.run_again(job_id, args=args, origin=Origin(by=by))

    async def discard(self, job_id: UUID | str, *, by: str | None = None) -> Job:
        """Put a dead letter aside: it stays failed, but is not listed as a dead letter any more.

        Raises `JobNotFound`, and `WrongState` for a job that has not failed.
        """
        return await self.operators.discard(job_id, origin=Origin(by=by))

    async def cancel_many(
        self,
        which: JobFilter,
        *,
        reason: str | None = None,
        dry_run: bool = False,
        everything: bool = False,
        by: str | None = None,
    ) -> BulkResult:
        """Cancel all live jobs that the filter means, as `cancel` does, a thousand a transaction.

        `dry_run` changes nothing, and says how many it would be. A filter that means every job is refused, unless
        `everything` says that this is meant. What is enqueued after the start is left alone. If it breaks off in the
        middle, what was done is done, and is recorded; calling it again does the rest.

        >>> await app.cancel_many(JobFilter(queue="email", task="send_newsletter"), dry_run=True)
        """
        origin = Origin(by=by)
        return await self.operators.cancel_many(
            which, reason=reason, dry_run=dry_run, everything=everything, origin=origin
        )

    async def reschedule_many(
        self,
        which: JobFilter,
        *,
        delay: timedelta | float | None = None,
        run_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        dry_run: bool = False,
        everything: bool = False,
        by: str | None = None,
    ) -> BulkResult:
        """Change all waiting jobs that the filter means, as `reschedule` does; a `delay` of zero runs them now.

        One that would be due after its `expires` or `deadline` stays as it is, and counts as `skipped`. Otherwise as
        `cancel_many`.

        >>> await app.reschedule_many(JobFilter(task="send_newsletter", state="scheduled"), delay=0)
        """
        change = Change.of(delay=delay, run_at=run_at, priority=priority, queue=queue)
        return await self.operators.reschedule_many(
            which, change, dry_run=dry_run, everything=everything, origin=Origin(by=by)
        )

    async def retry_many(
        self, which: JobFilter, *, dry_run: bool = False, everything: bool = False, by: str | None = None
    ) -> BulkResult:
        """Put all dead letters back that the filter means, or with its `state` the cancelled or the expired jobs.

        One whose unique key another job holds by now stays where it is, and counts as `skipped`. Otherwise as
        `retry` and `cancel_many`.
        """
        return await self.operators.retry_many(which, dry_run=dry_run, everything=everything, origin=Origin(by=by))

    async def discard_many(
        self, which: JobFilter, *, dry_run: bool = False, everything: bool = False, by: str | None = None
    ) -> BulkResult:
        """Put all dead letters aside that the filter means. Otherwise as `discard` and `cancel_many`."""
        return await self.operators.discard_many(which, dry_run=dry_run, everything=everything, origin=Origin(by=by))

    async def jobs(self, which: JobFilter | None = None, *, before: UUID | None = None, limit: int = 50) -> JobPage:
        """A page of at most 500 jobs, newest first: a list, whose `following` is the `before` of the next page.

        A page looks at no more than 20,000 jobs (of those that did not succeed, 5,000), and for two seconds at most,
        however many and however large they are: with a rare filter it may have fewer jobs than `limit`, and still have
        a next page.
        """
        return await list_jobs(self.database, which, before=before, limit=limit)

    async def dead_letters(
        self, which: JobFilter | None = None, *, before: UUID | None = None, limit: int = 50
    ) -> JobPage:
        """A page of dead letters: jobs that have failed and were not discarded. Newest first, as in `jobs`."""
        return await list_dead_letters(self.database, which or JobFilter(), before=before, limit=limit)

    async def dead_letter_groups(self, which: JobFilter | None = None, *, limit: int = 50) -> GroupedDeadLetters:
        """The dead letters by task and error, the most frequent first: how many, since when, and the last one.

        The newest 50,000 are counted, for two seconds at most: `searched_until` of the list is then how far back.
        """
        return await group_dead_letters(self.database, which or JobFilter(), limit=limit)

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

    async def keep(
        self,
        queue: str,
        *,
        succeeded: Keep | None = None,
        failed: Keep | None = None,
        cancelled: Keep | None = None,
        expired: Keep | None = None,
        by: str | None = None,
    ) -> QueueRetention:
        """Say how long the finished jobs of a queue are kept, by how they ended. By default that is for ever.

        A time is a `timedelta`, or seconds, of at least an hour; `"forever"` is one too, and `"default"` takes back
        what was said. What is left out stays as it is. The queue `"*"` stands for all that have no time of their own.
        Whole days (UTC) go, once all of the day is past its time: a job is kept at least that long, and a good day
        more at most. Live jobs are never touched. Raises `InvalidOption`.

        >>> await app.keep("email", succeeded=timedelta(days=7), failed=timedelta(days=90), by="ada")
        """
        given = {"succeeded": succeeded, "failed": failed, "cancelled": cancelled, "expired": expired}
        return await retention.keep(self.database, queue, given, Origin(by=by))

    async def retention(self) -> Retention:
        """How long finished jobs are kept, and the days of the archive: how large each is, and what goes when."""
        return await retention.retention(self.database)

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
