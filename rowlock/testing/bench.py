"""The bench: a worker without background activity, which claims jobs on request, one at a time by default."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from rowlock.errors import UnknownTask, WrongState
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.sessions import own_transaction
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.job import Job
from rowlock.queue.read.reader import get_job
from rowlock.testing.databases import Unpooled, check_app
from rowlock.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from asyncpg import Record

    from rowlock.app import Rowlock
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.queue.enqueue.task import Task
    from rowlock.worker.attempt.attempt import Attempt

PACKAGE: Final = "rowlock.testing"
OWN: Final = frozenset(
    {"claim_job", "find_use", "list_waiting", "move_time", "next_due", "time_moved", "waiting_queues"}
)
"""The statements in `testing/sql`."""
LEASE: Final = timedelta(minutes=5)


class Ended(NamedTuple):
    """An attempt that is over: its job, its number, and its error; None if it succeeded."""

    job_id: UUID
    attempt: int
    error: BaseException | None


class Bench(Worker):
    """The application's worker without main loop, duties and ticks: it acts only on request.

    The worker's own code claims, performs and records the jobs. `queues` is None for all queues with waiting jobs.
    The application's lifespans are open as long as the bench, unless `runs_jobs` is false.
    """

    def __init__(
        self, app: Rowlock, *, queues: Sequence[str] | None = None, concurrency: int = 1, runs_jobs: bool = True
    ) -> None:
        check_app(app)
        super().__init__(
            app.database,
            app.tasks,
            schedules=list(app._declared.values()),  # noqa: SLF001  # the same as app.worker() passes
            queues=queues,
            concurrency=concurrency,
            lifespans=app.lifespans if runs_jobs else (),
            middleware=app.middlewares,
            failure_handlers=app.failure_handlers,
            observer=self,
        )
        self._app = app
        self._takes_all_queues = not queues
        self._over: list[Ended] = []
        self._errors: dict[Attempt, BaseException] = {}

    async def __aenter__(self) -> Self:
        url = await self._database.dsn()
        self._database = Database(replace(self._database.settings, database_url=url, lease=LEASE), pool=Unpooled)
        await self._open(has_duties=False, has_ticks=False)
        self._rest_the_lease()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await self._close()

    def _rest_the_lease(self) -> None:
        """Replace the lease by one without renewal: this saves a thread and a connection for each use."""
        lease = self._shift.lease
        lease.stop()
        lease.held_until = float("inf")

    async def turn(self) -> list[Ended]:
        """Claim due jobs, up to the concurrency, and wait until they are recorded; empty if nothing is due.

        Before, it ends all overdue jobs.
        """
        await self._shift.duties.end_overdue()
        if await self._shift.main_loop.claim(self._concurrency) == 0 and not await self._claim_elsewhere():
            self._shift.slots.add(await self._shift.claims.claim_alone(self.id), self._shift.lease)
        return await self._wait()

    async def perform(self, job: Job) -> Ended:
        """Claim one waiting job, due or not, and wait until its attempt is recorded. Raises `WrongState`."""
        if job.task not in self._tasks:
            raise UnknownTask(f"Job {job.id} must be of a task of this application; got {job.task!r}.")
        if job.args_version not in self._tasks[job.task].upcasters.versions:
            raise UnknownTask(
                f"Job {job.id} has arguments of version {job.args_version} of the task {job.task!r}. No upcaster leads "
                "from there to this application's version, so workers leave the job queued, too."
            )
        rows = await self.fetch("claim_job", job.id, self.id)
        if not rows:
            now = await get_job(self._database, job.id)
            raise WrongState(
                f"Job {job.id} ({job.task}) must wait, and not be overdue, to be performed; got {now.state}.",
                state=now.state,
            )
        self._shift.slots.add(rows, self._shift.lease)
        (ended,) = await self._wait()
        return ended

    async def read(self, job_id: UUID) -> Job:
        """Read the job as it is now."""
        return Job.from_row((await self.connection.fetch("get_job", job_id))[0])

    async def outcome(self, ended: Ended) -> str:
        """The outcome of an attempt as in the table `attempt`, or `succeeded`."""
        if ended.error is None:
            return "succeeded"
        rows = await self.connection.fetch("list_attempts", ended.job_id)
        return next((row["outcome"] for row in rows if row["attempt"] == ended.attempt), "succeeded")

    @property
    def connection(self) -> ControlConnection:
        """The connection of the bench, for the queue's statements."""
        return self._shift.links.upkeep

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The bench's tasks."""
        return self._tasks

    @property
    def schema(self) -> str:
        """The bench's schema."""
        return self._database.settings.schema

    async def fetch(self, name: str, *parameters: object) -> list[Record]:
        """Run `testing/sql/<name>.sql` in a transaction of its own."""
        async with self.transaction() as fetch:
            return await fetch(name, *parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Callable[..., Awaitable[list[Record]]]]:
        """Open a transaction; return a function that runs `<name>.sql` of the test kit or of the queue in it."""
        async with self._database.connection() as connection, own_transaction(connection):

            async def fetch(name: str, *parameters: object) -> list[Record]:
                package = PACKAGE if name in OWN else None
                return await connection.fetch(statement(name, self.schema, package), *parameters)

            yield fetch

    async def until_next(self) -> timedelta | None:
        """How long it is until the next waiting job is due; None if none waits."""
        wait: timedelta | None = (await self.fetch("next_due", self._shift.claims.queues))[0]["wait"]
        return wait

    def forget_positions(self) -> None:
        """Reset the cursors: jobs have become due before those that were claimed last."""
        self._shift.claims.reset()

    async def _claim_elsewhere(self) -> bool:
        """Claim from all queues that have waiting jobs by now, if any queue is new."""
        if not self._takes_all_queues:
            return False
        waiting = [row["queue"] for row in await self.fetch("waiting_queues")]
        if set(waiting) <= set(self._shift.claims.queues):
            return False
        self._shift.claims.serve({*waiting, *self._shift.claims.queues})
        return await self._shift.main_loop.claim(self._concurrency) > 0

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """Record the error that an attempt has raised."""
        self._errors[attempt] = error

    def ended(self, attempt: Attempt) -> None:
        """Record that an attempt is over."""
        self._over.append(Ended(attempt.claimed["id"], attempt.claimed["attempt"], self._errors.pop(attempt, None)))

    async def _wait(self) -> list[Ended]:
        """Wait until all running attempts have ended and their outcomes are recorded."""
        while not self._shift.slots.is_empty:
            await self._shift.slots.changed(timeout=1.0)
        await self._shift.finishes.flush()
        over, self._over = self._over, []
        return over


__all__ = ["Bench", "Ended"]
