"""The public `Workers`: read, scale, quiet, resume and stop live workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from rowlock.errors import WorkerNotFound, WrongState
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.jobs.fields import Moment, said
from rowlock.queue.jobs.job import Job
from rowlock.queue.operate.act import ActOnWorker, acting
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowlock.queue.connect.database import Database


WorkerState: TypeAlias = Literal["running", "quiet", "stopping"]

_STATES: Final[dict[str, WorkerState]] = {"quiet": "quiet", "resume": "running", "stop": "stopping"}
"""The state of a worker after each act."""


class LiveWorker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker with a valid lease.

    `state`: `running`; `quiet`: it claims no new jobs; or `stopping`: it claims none and ends with its last job.
    `queues`: those that it serves now. `concurrency`: how many jobs it runs at once at most. `running`: how many jobs
    it has claimed, a few of them perhaps ahead of its slots. `expires_at`: when its lease ends, unless it renews it.
    `loop_delay_ms`: the longest delay of its event loop before the last renewal. `memory_bytes`: the memory of its
    process in RAM at that time; None where the system does not report it.
    """

    id: UUID
    hostname: str
    pid: int
    version: str
    state: Annotated[
        WorkerState, said("running: it claims jobs; quiet: it claims none; stopping: it ends with its last job")
    ]
    queues: Annotated[list[str], said("the queues that it serves now")]
    concurrency: Annotated[int, said("the most jobs that it runs at once", minimum=1)]
    running: Annotated[int, said("the number of jobs that it has claimed", minimum=0)]
    started_at: Moment
    expires_at: Annotated[Moment, said("the end of its lease, unless it renews it")]
    loop_delay_ms: Annotated[
        int, said("the longest delay of its event loop before the last renewal, in milliseconds", minimum=0)
    ]
    memory_bytes: (
        Annotated[int, said("the memory of its process; null if the system does not report it", minimum=0)] | None
    )


class Workers:
    """The live workers: `app.workers`.

    >>> for worker in await app.workers.list():
    ...     await app.workers.scale(worker.id, 20, by="ada")
    ...     await app.workers.quiet(worker.id, by="ada")
    """

    def __init__(self, database: Database, origin: Origin | None = None) -> None:
        self._database = database
        self._origin = Origin() if origin is None else origin

    def through(self, origin: Origin) -> Workers:
        """The same workers, for acts of another origin, which the table `operation` records."""
        return Workers(self._database, origin)

    async def list(self) -> list[LiveWorker]:
        """All live workers, oldest first."""
        return [LiveWorker(**row) for row in await self._database.run("list_workers", None)]

    async def get(self, worker_id: UUID | str) -> LiveWorker:
        """The live worker of this id. Raises `WorkerNotFound`."""
        rows = await self._database.run("list_workers", _parsed(worker_id))
        if not rows:
            raise _not_found(worker_id)
        return LiveWorker(**rows[0])

    async def tasks(self, worker_id: UUID | str) -> Sequence[str]:
        """The tasks that the worker knows, by name. Raises `WorkerNotFound` for a value that cannot be an id."""
        rows = await self._database.run("list_worker_tasks", _parsed(worker_id))
        return [row["name"] for row in rows]

    async def jobs(self, worker_id: UUID | str) -> Sequence[Job]:
        """The first hundred jobs that the worker runs or has claimed ahead, by the time of their start.

        Raises `WorkerNotFound` for a value that cannot be an id.
        """
        rows = await self._database.run("list_running_of", _parsed(worker_id))
        return [Job.from_row(row) for row in rows]

    async def scale(self, worker_id: UUID | str, concurrency: int, *, by: str | None = None) -> LiveWorker:
        """Set how many jobs a live worker runs at once, for as long as it lives.

        A higher number applies at once, a lower one as jobs end; no job is stopped. The table `operation` records a
        change. Raises `WorkerNotFound`, `InvalidOption`.
        """
        wanted, most = _parsed(worker_id), checks.concurrency(concurrency)
        async with acting(self._database, ActOnWorker, self._origin.acted_by(by)) as act:
            rows = await act.run("scale_worker", wanted, most)
            if not rows:
                raise _not_found(worker_id)
            if rows[0]["before"] != most:
                await act.record("scale", str(wanted), {"concurrency": most, "before": rows[0]["before"]})
            return await _read(act, wanted)

    async def quiet(self, worker_id: UUID | str, *, by: str | None = None) -> LiveWorker:
        """Stop a live worker from claiming new jobs, for as long as it lives or until it is resumed.

        Its running jobs go on. It obeys at once, or within a second or two without LISTEN, and goes on renewing its
        lease and doing its duties. The table `operation` records a change. Raises `WorkerNotFound`; `WrongState` if it
        is stopping.
        """
        return await self._direct("quiet", worker_id, by)

    async def resume(self, worker_id: UUID | str, *, by: str | None = None) -> LiveWorker:
        """Resume a quiet worker: it claims jobs again. Raises `WorkerNotFound`; `WrongState` if it is stopping."""
        return await self._direct("resume", worker_id, by)

    async def stop(self, worker_id: UUID | str, *, by: str | None = None) -> LiveWorker:
        """Stop a live worker as SIGTERM does: its jobs have its grace period, then it releases them and ends.

        Its supervisor (`rowlock worker --processes`) does not replace it; another supervisor may do so. The table
        `operation` records a change. Raises `WorkerNotFound`.
        """
        return await self._direct("stop", worker_id, by)

    async def _direct(self, verb: str, worker_id: UUID | str, by: str | None) -> LiveWorker:
        wanted, state = _parsed(worker_id), _STATES[verb]
        async with acting(self._database, ActOnWorker, self._origin.acted_by(by)) as act:
            rows = await act.run("direct_worker", wanted, state)
            if not rows:
                raise _not_found(worker_id)
            before = rows[0]["before"]
            if before == "stopping" != state:
                raise WrongState(f"Worker {wanted} is stopping: it cannot {verb}.", state=before)
            if before != state:
                await act.record(verb, str(wanted), {"before": before})
            return await _read(act, wanted)


async def _read(act: ActOnWorker, worker_id: UUID) -> LiveWorker:
    """Read the worker in the transaction of the act: what was ordered is what is shown."""
    rows = await act.run("list_workers", worker_id)
    if not rows:
        raise _not_found(worker_id)  # its lease ran out meanwhile: the order is not given
    return LiveWorker(**rows[0])


def _parsed(worker_id: UUID | str) -> UUID:
    if isinstance(worker_id, UUID):
        return worker_id
    try:
        return UUID(worker_id)
    except (ValueError, AttributeError, TypeError):
        raise _not_found(worker_id) from None


def _not_found(worker_id: object) -> WorkerNotFound:
    meant = quoted(str(worker_id) if isinstance(worker_id, UUID) else worker_id)
    return WorkerNotFound(f"No live worker has the id {meant}. See `rowlock workers list`.")


__all__ = ["LiveWorker", "WorkerState", "Workers"]
