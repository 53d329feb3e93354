"""The public `Jobs`: list, read, cancel, reschedule, retry, run again, discard and delete jobs."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import UUID

from rowlock.errors import InvalidOption, JobAlreadyFinished, KeyHeld, WrongState
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.jobs.filter import ALL, JobFilter, Sight
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.job import Job, LogLine
from rowlock.queue.jobs.lifecycle import FINAL, LIVE
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.options import JobOptions
from rowlock.queue.jobs.rescheduling import Change
from rowlock.queue.operate.act import acting
from rowlock.queue.operate.act_on_jobs import RETRYABLE, ActOnJobs, named
from rowlock.queue.operate.bulk import Bulk, BulkResult, check_many
from rowlock.queue.read.dead_letters import dead, refuse_other_than_dead
from rowlock.queue.read.pages import JobPage, list_jobs
from rowlock.queue.read.reader import get_job, list_logs, no_job, parse_id
from rowlock.queue.tasks.arguments import plain_document
from rowlock.words import quoted

if TYPE_CHECKING:
    from asyncpg import Record

    from rowlock.queue.enqueue.idempotency import Connection
    from rowlock.queue.enqueue.store import Store
    from rowlock.queue.enqueue.task import Task

CancelAnswer: TypeAlias = Literal["cancelled", "requested"]

LONGEST_REASON: Final = 1000
TRIES: Final = 5

_LIVE: Final = sorted(str(state) for state in LIVE)
_WAITING: Final = {None, "queued", "scheduled", "retrying"}


class Jobs:
    """The jobs of the database: `app.jobs`.

    Each act on one job is one transaction, with a row in the table `operation` that records the act and its actor
    (`by`). An act on many is one row, too, and a transaction for each thousand jobs.

    >>> await app.jobs.cancel(handle.id, reason="the customer has left", by="ada")
    """

    def __init__(
        self,
        store: Store,
        tasks: Mapping[str, Task[..., Any]],
        origin: Origin | None = None,
        sight: Sight = ALL,
    ) -> None:
        self._store = store
        self._database = store.database
        self._tasks = tasks
        self._origin = Origin() if origin is None else origin
        self._sight = sight

    def through(self, origin: Origin, *, sight: Sight = ALL) -> Jobs:
        """The same jobs, for acts of another origin, which the table `operation` records.

        `sight` limits lists, acts on many and rescheduling to the jobs that the actor may see.
        """
        return Jobs(self._store, self._tasks, origin, sight)

    async def list(self, which: JobFilter | None = None, *, before: UUID | None = None, limit: int = 50) -> JobPage:
        """A page of at most 500 jobs, newest first: a list, whose `following` is the `before` of the next page.

        A page examines at most 20,000 jobs (5,000 of those that did not succeed), for at most two seconds, however many
        and however large they are: with a rare filter it may contain fewer jobs than `limit`, and still have a next
        page.
        """
        return await list_jobs(self._database, which, before=before, limit=limit, sight=self._sight)

    async def get(self, job_id: UUID | str) -> Job:
        """The job with this id, alive or finished. Raises `JobNotFound`."""
        return await get_job(self._database, job_id)

    async def logs(self, job_id: UUID | str) -> builtins.list[LogLine]:
        """The lines that the job's handler has logged, attempt by attempt, if its task has `capture_logs`.

        An attempt's lines are readable once it has ended. Raises `JobNotFound` for a value that cannot be a job's id.
        """
        return await list_logs(self._database, job_id)

    async def cancel(self, job_id: UUID | str, *, reason: str | None = None, by: str | None = None) -> CancelAnswer:
        """Cancel a job: "cancelled" if it was still waiting, and then it never starts; "requested" if it runs.

        The worker stops a running job: it cancels an `async` function and kills a process; a plain function in a thread
        can check `job.is_cancelled`. If the function returns all the same, the job succeeds; otherwise it ends as
        cancelled, and never runs again. The table `operation` records `by` (the actor) and `reason`. Raises
        `JobNotFound`, `JobAlreadyFinished`.
        """
        wanted, why = parse_id(job_id), None if reason is None else checks.text("reason", reason, LONGEST_REASON)
        for _ in range(TRIES):
            async with acting(self._database, ActOnJobs, self._origin.acted_by(by)) as act:
                rows = await act.cancel([wanted], why, _LIVE)
                if rows:
                    answer: CancelAnswer = rows[0]["answer"]
                    details = {"answer": answer} | ({} if why is None else {"reason": why})
                    await act.record("cancel", str(wanted), details)
                    return answer
            job = await get_job(self._database, wanted)
            if job.is_finished:
                raise JobAlreadyFinished(f"Job {wanted} ({job.task}) has {job.state} already.", state=job.state)
            # It became live again between the two statements.
        raise WrongState(f"Job {wanted} changes too fast to be cancelled. Try again.", state="queued")

    async def cancel_many(
        self,
        which: JobFilter,
        *,
        reason: str | None = None,
        dry_run: bool = False,
        everything: bool = False,
        by: str | None = None,
    ) -> BulkResult:
        """Cancel all live jobs that the filter selects, as `cancel` does, a thousand a transaction.

        `dry_run` changes nothing, and counts the jobs. A filter that selects every job is refused, unless `everything`
        is true. Jobs enqueued after the start stay unchanged. If the call ends in the middle, its changes so far are
        kept and recorded; another call does the rest.

        >>> await app.jobs.cancel_many(JobFilter(queue="email", task="send_newsletter"), dry_run=True)
        """
        why = None if reason is None else checks.text("reason", reason, LONGEST_REASON)
        check_many(which, dry_run=dry_run, everything=everything)
        if which.state in FINAL or which.discarded:
            raise InvalidOption(
                f"state must be that of live jobs, which alone are cancelled; got {quoted(which.state or 'failed')}."
            )
        # seam: cancellable
        stored = {None: _LIVE, "scheduled": ["queued"], "retrying": ["queued"]}.get(which.state, [which.state])

        async def change(act: ActOnJobs, found: Sequence[Record]) -> Counter[str]:
            rows = await act.cancel([row["id"] for row in found], why, stored)
            return Counter(row["answer"] for row in rows)

        details = {} if why is None else {"reason": why}
        bulk = Bulk(verb="cancel", find="find_live", which=which, change=change, stored=stored, details=details)
        return await self._on_many(bulk, by, dry_run=dry_run)

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
        """Change a waiting job's due time, priority or queue, and return the changed job.

        `delay` (seconds, or a `timedelta`) counts from now; a `run_at` in the past means now. Omitted values stay
        unchanged, and so do its attempts, its unique key and its limits in time. A due job that moves to another queue
        or priority lines up there, behind the others. Once a worker has claimed the job, nothing changes.

        Raises `JobNotFound`; `WrongState` for a job that runs or has finished, is past its `expires` or `deadline`, or
        whose cancel was requested; `InvalidOption`, also for a time after these two; and `LockTimeout`.

        >>> await app.jobs.reschedule(handle.id, delay=3600, queue="bulk", by="ada")
        """
        new = Change.of(delay=delay, run_at=run_at, priority=priority, queue=queue)
        wanted, within = parse_id(job_id), self._sight.queues
        for _ in range(TRIES):
            async with acting(self._database, ActOnJobs, self._origin.acted_by(by)) as act:
                for row in await act.reschedule([wanted], new, within):
                    if not row["fits"]:
                        raise new.refusal(wanted, row)
                    await act.record("reschedule", str(wanted), new.details(row))
                    return Job.from_row((await act.run("get_job", wanted))[0])
            job = await get_job(self._database, wanted)
            if within is not None and job.queue not in within:
                raise no_job(wanted)
            if job.is_finished or job.state in {"running", "blocked"}:
                raise WrongState(
                    f"Job {wanted} ({job.task}) cannot be rescheduled: it is {job.state}, not waiting.",
                    state=job.state,
                )
            # It began to wait again between the two statements.
        raise WrongState(f"Job {wanted} changes too fast to be rescheduled. Try again.", state="queued")

    async def run_now(self, job_id: UUID | str, *, by: str | None = None) -> Job:
        """Make a waiting job due now: `reschedule` with a delay of zero. In a paused queue it still waits.

        >>> await app.jobs.run_now(handle.id, by="ada")
        """
        return await self.reschedule(job_id, delay=0, by=by)

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
        """Change all waiting jobs that the filter selects, as `reschedule` does; a `delay` of zero runs them now.

        A job that would be due after its `expires` or `deadline` stays unchanged, and counts as `skipped`. The other
        options work as in `cancel_many`.

        >>> await app.jobs.reschedule_many(JobFilter(task="send_newsletter", state="scheduled"), delay=0)
        """
        new = Change.of(delay=delay, run_at=run_at, priority=priority, queue=queue)
        check_many(which, dry_run=dry_run, everything=everything)
        if which.state not in _WAITING or which.discarded:
            raise InvalidOption(
                "state must be that of waiting jobs, which alone are rescheduled; got "
                f"{quoted(which.state or 'failed')}. Use queued, scheduled or retrying, or omit it."
            )

        async def change(act: ActOnJobs, found: Sequence[Record]) -> Counter[str]:
            rows = await act.reschedule([row["id"] for row in found], new, self._sight.queues)
            return Counter("rescheduled" if row["fits"] else "skipped" for row in rows)

        details = {"to": new.described()}
        bulk = Bulk(verb="reschedule", find="find_live", which=which, change=change, stored=["queued"], details=details)
        return await self._on_many(bulk, by, dry_run=dry_run)

    async def retry(
        self, job_id: UUID | str, *, args: Mapping[str, object] | None = None, by: str | None = None
    ) -> Job:
        """Put a failed, cancelled or expired job back: the same job, due now, with all its attempts.

        Its `attempt` goes on counting, its errors and crashes begin at zero, its limits in time are removed. `args`
        replaces its arguments, and is checked if this application has the task. Raises `JobNotFound`, `WrongState`,
        `InvalidArguments`, and `KeyHeld` if another job holds its unique key by now.
        """
        wanted = parse_id(job_id)
        async with acting(self._database, ActOnJobs, self._origin.acted_by(by)) as act:
            rows = await act.lock_finished(wanted)
            if rows and rows[0]["state"] in RETRYABLE:  # seam: retryable
                document, version = (None, None) if args is None else self._checked_args(rows[0]["task"], args)
                if holders := await act.take_keys(rows):
                    raise KeyHeld(
                        f"Job {wanted} cannot go back: job {holders[wanted]} holds its unique key by now. "
                        "Cancel that job, or let it finish, and try again."
                    )
                if await act.retry(rows, document, version):
                    details = {} if document is None else {"args": "given"}
                    await act.record("retry", str(wanted), details | {"state": rows[0]["state"]})
                    return Job.from_row((await act.run("get_job", wanted))[0])
        job = await get_job(self._database, wanted)
        what = "it succeeded: enqueue a new one" if job.state == "succeeded" else f"it is {job.state}, and not finished"
        raise WrongState(f"Job {wanted} ({job.task}) cannot be retried: {what}.", state=job.state)

    async def retry_many(
        self, which: JobFilter, *, dry_run: bool = False, everything: bool = False, by: str | None = None
    ) -> BulkResult:
        """Put back all dead letters that the filter selects, or with its `state` the cancelled or the expired jobs.

        A job whose unique key another job holds by now stays finished, and counts as `skipped`. The rest is as in
        `retry` and `cancel_many`.
        """
        check_many(which, dry_run=dry_run, everything=everything)
        if which.state not in {None, *RETRYABLE}:
            raise InvalidOption(f"state must be one of {', '.join(RETRYABLE)}; got {quoted(which.state)}.")

        async def change(act: ActOnJobs, found: Sequence[Record]) -> Counter[str]:
            locked = await act.run("lock_finished", *named(found))
            rows = await self._of_seen_tasks(act, locked)
            holders = await act.take_keys(rows)
            back = await act.retry([row for row in rows if row["id"] not in holders])  # seam: retry many
            return Counter(retried=back, skipped=len(locked) - len(rows) + len(holders))

        bulk = Bulk(verb="retry", find="find_finished", which=dead(which), change=change)
        return await self._on_many(bulk, by, dry_run=dry_run)

    async def run_again(
        self,
        job_id: UUID | str,
        *,
        args: Mapping[str, object] | None = None,
        by: str | None = None,
        connection: Connection | None = None,
    ) -> Job:
        """Enqueue a new job like a finished one, whatever its outcome, and return the new one, due now.

        It has the same task, arguments, queue, priority, tags, metadata, timeout and number of attempts; no unique key,
        and no limit in time. The old job stays unchanged. `args` replaces the arguments, as in `retry`. `connection`,
        one of Rowlock's own: enqueue in its transaction. Raises `JobNotFound`, `WrongState` for a job that has not
        finished, `InvalidArguments`.

        >>> new = await app.jobs.run_again(handle.id, by="ada")
        """
        wanted = parse_id(job_id)
        async with acting(self._database, ActOnJobs, self._origin.acted_by(by), connection) as act:
            rows = await act.run("get_job", wanted)
            if not rows:
                raise no_job(wanted)
            old = Job.from_row(rows[0])
            if not old.is_finished:
                raise WrongState(
                    f"Job {wanted} ({old.task}) is {old.state}: only a finished job runs again.", state=old.state
                )
            document, version = (rows[0]["args"], None) if args is None else self._checked_args(old.task, args)
            options = JobOptions.like(old)
            new: NewJob[Any] = NewJob(uuid7(), old.task, document, options, None, version or old.args_version)
            await act.enqueue(self._store, new)
            details: dict[str, object] = {"job": str(new.id)}
            await act.record("run_again", str(wanted), details | ({} if args is None else {"args": "given"}))
            return Job.from_row((await act.run("get_job", new.id))[0])

    async def discard(self, job_id: UUID | str, *, by: str | None = None) -> Job:
        """Discard a dead letter: it stays failed, but lists of dead letters omit it.

        Raises `JobNotFound`, and `WrongState` for a job that has not failed.
        """
        wanted = parse_id(job_id)
        async with acting(self._database, ActOnJobs, self._origin.acted_by(by)) as act:
            ended = await act.when_finished(wanted)
            if ended and await act.run("discard", [wanted], ended):
                await act.record("discard", str(wanted), {})
        job = await get_job(self._database, wanted)
        if job.state != "failed":
            message = f"Job {wanted} ({job.task}) is {job.state}: only failed jobs can be discarded."
            raise WrongState(message, state=job.state)
        return job

    async def discard_many(
        self, which: JobFilter, *, dry_run: bool = False, everything: bool = False, by: str | None = None
    ) -> BulkResult:
        """Discard all dead letters that the filter selects. The rest is as in `discard` and `cancel_many`."""
        check_many(which, dry_run=dry_run, everything=everything)
        refuse_other_than_dead(which)

        async def change(act: ActOnJobs, found: Sequence[Record]) -> Counter[str]:
            return Counter(discarded=len(await act.run("discard", *named(found))))

        bulk = Bulk(verb="discard", find="find_finished", which=dead(which), change=change)
        return await self._on_many(bulk, by, dry_run=dry_run)

    async def delete(self, job_id: UUID | str, *, by: str | None = None) -> None:
        """Delete a finished job for good: it, its attempts, logs, result, progress, checkpoint, and the key it holds.

        One transaction deletes all of it, or nothing. The statistics still count it, and `operation` records who
        deleted it. A later `result()` raises `JobNotFound`. Retention removes many; `delete` is for one.
        Raises `JobNotFound`, `WrongState` for a job that has not finished (cancel it first), and `LockTimeout`.

        >>> await app.jobs.delete(handle.id, by="ada")
        """
        wanted = parse_id(job_id)
        async with acting(self._database, ActOnJobs, self._origin.acted_by(by)) as act:
            if gone := await act.delete(wanted):
                await act.record("delete", str(wanted), dict(gone))
                return
        job = await get_job(self._database, wanted)
        raise WrongState(
            f"Job {wanted} ({job.task}) cannot be deleted: it is {job.state}, and not finished. Cancel it first.",
            state=job.state,
        )

    async def _on_many(self, bulk: Bulk, by: str | None, *, dry_run: bool) -> BulkResult:
        return await bulk.run(self._database, self._origin.acted_by(by), self._sight, dry_run=dry_run)

    async def _of_seen_tasks(self, act: ActOnJobs, rows: Sequence[Record]) -> Sequence[Record]:
        """The jobs whose task belongs to a visible queue: the actor may not run the tasks of other queues."""
        if self._sight.queues is None:
            return rows
        queues = {name: task.queue for name, task in self._tasks.items()}
        for task in {row["task"] for row in rows} - queues.keys():
            queues |= {known["name"]: known["queue"] for known in await act.run("get_task", task)}
        return [row for row in rows if queues.get(row["task"]) in self._sight.queues]

    def _checked_args(self, task: str, args: Mapping[str, object]) -> tuple[str, int | None]:
        """The new arguments as JSON, and their version. They are checked against the task's function, if this
        application has it; else they have the version of the old arguments.
        """
        known = self._tasks.get(task)
        if known is None:
            return plain_document(task, args, self._database.settings.max_args_bytes), None
        return known.check(args, known.version)[0], known.version


__all__ = ["CancelAnswer", "Jobs"]
