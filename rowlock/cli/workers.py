"""`rowlock workers`: lists, shows and scales live workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import click

from rowlock.api.wire.jobs import JobSummary
from rowlock.api.wire.queues import WorkerDetail
from rowlock.app import Rowlock
from rowlock.cli import running
from rowlock.cli.acts import me
from rowlock.cli.output import counted, note, print_json, with_json
from rowlock.cli.tables import (
    NOTHING,
    attempt_of,
    number,
    print_details,
    print_table,
    print_text,
    shown,
    size,
    text,
    whole,
)
from rowlock.queue.job import Job
from rowlock.queue.workers import LiveWorker, Workers

R = TypeVar("R")

_COLUMNS: Final = (
    whole("ID"),
    text("HOST"),
    whole("PID", leaves=4),
    whole("VERSION", leaves=5),
    number("RUNNING"),
    number("CONCURRENCY", leaves=2),
    number("LOOP DELAY", leaves=1),
    number("MEMORY", leaves=2),
    whole("LEASE", leaves=3),
    text("QUEUES"),
)
_JOBS: Final = (whole("ID"), text("TASK", 12), text("QUEUE", leaves=1), whole("ATTEMPT", leaves=2), whole("SINCE"))


@click.group("workers")
def command() -> None:
    """Look at live workers, and scale them."""


@command.command("list")
@with_json
def list_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """List all live workers, oldest first."""
    workers = _do(lambda of: of.list())
    if as_json:
        print_json(workers)
    elif not workers:
        note("No workers.")
    else:
        print_table(_COLUMNS, map(_row, workers))


@command.command("show", short_help="Show one live worker, and what it runs.")
@click.argument("worker_id", metavar="ID")
@with_json
def show_command(worker_id: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show one live worker, with its tasks and the first hundred jobs that it runs or has claimed ahead."""

    async def read(workers: Workers) -> tuple[LiveWorker, list[str], list[Job]]:
        worker = await workers.get(worker_id)
        return worker, list(await workers.tasks(worker.id)), list(await workers.jobs(worker.id))

    worker, tasks, jobs = _do(read)
    if as_json:
        print_json(WorkerDetail.of(worker, tasks=tasks, jobs=[JobSummary.of(job) for job in jobs]))
        return
    members = {name: getattr(worker, name) for name in worker.__struct_fields__}
    health = {"loop_delay_ms": f"{worker.loop_delay_ms} ms", "memory_bytes": memory_of(worker)}
    print_details({**members, **health, "tasks": tasks}.items())
    if jobs:
        print_text("\njobs:")
        print_table(_JOBS, map(_job, jobs))


@command.command("scale", short_help="Let a live worker run so many jobs at once.")
@click.argument("worker_id", metavar="ID")
@click.argument("concurrency", type=int)
@with_json
def scale_command(worker_id: str, concurrency: int, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Let the live worker ID run CONCURRENCY jobs at once, for as long as it lives. None that runs is stopped."""
    worker = _do(lambda of: of.scale(worker_id, concurrency))
    if as_json:
        print_json(worker)
    else:
        click.echo(f"{worker.id} on {shown(worker.hostname)} runs {counted(worker.concurrency, 'job')} at once.")


def _do(act: Callable[[Workers], Awaitable[R]]) -> R:
    async def main() -> R:
        async with Rowlock() as app:
            return await act(app.workers.through(me()))

    return running.run(main())


def memory_of(worker: LiveWorker) -> str:
    """How much memory the worker's process has, if it has said so."""
    return NOTHING if worker.memory_bytes is None else size(worker.memory_bytes)


def _row(worker: LiveWorker) -> tuple[object, ...]:
    jobs, health = (worker.running, worker.concurrency), (f"{worker.loop_delay_ms} ms", memory_of(worker))
    said = (worker.id, worker.hostname, str(worker.pid), worker.version)
    return *said, *jobs, *health, worker.expires_at, worker.queues


def _job(job: Job) -> tuple[object, ...]:
    return job.id, job.task, job.queue, attempt_of(job.attempt, job.max_attempts), job.started_at
