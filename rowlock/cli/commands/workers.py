"""`rowlock workers`: list, show, scale, quiet, resume and stop live workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import reduce
from typing import Any, Final, TypeVar

import click

from rowlock.app import Rowlock
from rowlock.cli.commands.acts import me
from rowlock.cli.run import running
from rowlock.cli.show.output import Exit, code_of, complain, confirm, counted, note, print_json, with_json
from rowlock.cli.show.tables import (
    attempt_of,
    memory_of,
    number,
    print_details,
    print_table,
    print_text,
    shown,
    text,
    whole,
)
from rowlock.errors import WorkerNotFound, WrongState
from rowlock.queue.jobs.job import Job
from rowlock.queue.operate.workers import LiveWorker, Workers
from rowlock.wire.jobs import JobSummary
from rowlock.wire.queues import WorkerDetail

R = TypeVar("R")

_COLUMNS: Final = (
    whole("ID"),
    text("HOST"),
    whole("PID", leaves=5),
    whole("VERSION", leaves=6),
    whole("STATE", leaves=1),
    number("RUNNING"),
    number("CONCURRENCY", leaves=3),
    number("LOOP DELAY", leaves=2),
    number("MEMORY", leaves=3),
    whole("LEASE", leaves=4),
    text("QUEUES"),
)
_JOBS: Final = (whole("ID"), text("TASK", 12), text("QUEUE", leaves=1), whole("ATTEMPT", leaves=2), whole("SINCE"))


@click.group("workers")
def command() -> None:
    """List and show live workers; scale, quiet, resume and stop them."""


@command.command("list")
@with_json
def list_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """List all live workers, oldest first."""
    workers = _do(lambda of: of.list(), changes=False)
    if as_json:
        print_json(workers)
    elif not workers:
        note("No workers.")
    else:
        print_table(_COLUMNS, map(_row, workers))


@command.command("show", short_help="Show one live worker, and its jobs.")
@click.argument("worker_id", metavar="ID")
@with_json
def show_command(worker_id: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show one live worker, with its tasks and the first hundred jobs that it runs or has claimed ahead."""

    async def read(workers: Workers) -> tuple[LiveWorker, list[str], list[Job]]:
        worker = await workers.get(worker_id)
        return worker, list(await workers.tasks(worker.id)), list(await workers.jobs(worker.id))

    worker, tasks, jobs = _do(read, changes=False)
    if as_json:
        print_json(WorkerDetail.of(worker, tasks=tasks, jobs=[JobSummary.of(job) for job in jobs]))
        return
    members = {name: getattr(worker, name) for name in worker.__struct_fields__}
    health = {"loop_delay_ms": f"{worker.loop_delay_ms} ms", "memory_bytes": memory_of(worker.memory_bytes)}
    print_details({**members, **health, "tasks": tasks}.items())
    if jobs:
        print_text("\njobs:")
        print_table(_JOBS, map(_job, jobs))


@command.command("scale", short_help="Set how many jobs a live worker runs at once.")
@click.argument("worker_id", metavar="ID")
@click.argument("concurrency", type=int)
@with_json
def scale_command(worker_id: str, concurrency: int, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Make the live worker ID run CONCURRENCY jobs at once, for as long as it lives. Running jobs are not stopped."""
    worker = _do(lambda of: of.scale(worker_id, concurrency))
    if as_json:
        print_json(worker)
    else:
        click.echo(f"{worker.id} on {shown(worker.hostname)} runs {counted(worker.concurrency, 'job')} at once.")


def _on_some_or_all(command: Callable[..., int]) -> Callable[..., int]:
    options = (
        click.argument("worker_ids", metavar="[ID]...", nargs=-1),
        click.option("--all", "everyone", is_flag=True, help="All live workers."),
        click.option("--host", metavar="HOST", help="All live workers on this machine."),
        with_json,
    )
    return reduce(lambda done, option: option(done), reversed(options), command)


@command.command("quiet", short_help="Quiet workers: they claim no new jobs; running jobs continue.")
@_on_some_or_all
def quiet_command(**given: Any) -> int:  # noqa: ANN401  # click's
    """Quiet the live workers with these IDs: they claim no new jobs until they are resumed. Running jobs continue."""
    return running.run(_direct("quiet", **given))


@command.command("resume", short_help="Resume quiet workers: they claim jobs again.")
@_on_some_or_all
def resume_command(**given: Any) -> int:  # noqa: ANN401  # click's
    """Resume the quiet workers with these IDs: they claim jobs again."""
    return running.run(_direct("resume", **given))


@command.command("stop", short_help="Stop workers, as SIGTERM does.")
@_on_some_or_all
@click.option("--yes", is_flag=True, help="Do not ask.")
def stop_command(yes: bool, **given: Any) -> int:  # noqa: ANN401, FBT001  # click's
    """Stop the live workers with these IDs: they claim no more jobs, and end once their jobs have ended.

    Jobs that do not end within ROWLOCK_GRACE_PERIOD are released. `rowlock worker --processes` does not replace a
    worker that is stopped this way; systemd or Kubernetes may.
    """
    return running.run(_direct("stop", asks=not yes, **given))


async def _direct(
    verb: str, *, worker_ids: Sequence[str], everyone: bool, host: str | None, as_json: bool, asks: bool = False
) -> int:
    is_one_way = bool(worker_ids) + everyone + (host is not None) == 1
    if not is_one_way:
        raise click.UsageError(f"Workers must be named: rowlock workers {verb} ID..., --host HOST, or --all.")
    code: int = Exit.DONE
    done: list[LiveWorker] = []
    async with running.changing(Rowlock()) as app:
        workers = app.workers.through(me())
        wanted: list[str] = list(worker_ids)
        if not worker_ids:
            wanted = [str(one.id) for one in await workers.list() if host is None or one.hostname == host]
            if asks and wanted and not _is_sure(verb, len(wanted)):
                note("Nothing was changed.")
                return Exit.NO
        for worker_id in wanted:
            try:
                worker = await getattr(workers, verb)(worker_id)
            except (WorkerNotFound, WrongState) as error:
                if worker_ids:
                    code = max(code, complain(error, code=code_of(error)))
                continue  # it ended meanwhile, or is ending
            done.append(worker)
            if not as_json:
                click.echo(f"{worker.id} on {shown(worker.hostname)} is {worker.state}.")
    if as_json:
        print_json(done)
    elif not done and not worker_ids:
        note("No workers.")
    return code


def _is_sure(verb: str, count: int) -> bool:
    return confirm(
        f"{verb.capitalize()} {counted(count, 'worker')}?", otherwise=f"To {verb} them without confirmation, use --yes."
    )


def _do(act: Callable[[Workers], Awaitable[R]], *, changes: bool = True) -> R:
    async def main() -> R:
        app = Rowlock()
        async with running.changing(app) if changes else app:
            return await act(app.workers.through(me()))

    return running.run(main())


def _row(worker: LiveWorker) -> tuple[object, ...]:
    jobs, health = (worker.running, worker.concurrency), (f"{worker.loop_delay_ms} ms", memory_of(worker.memory_bytes))
    said = (worker.id, worker.hostname, str(worker.pid), worker.version, worker.state)
    return *said, *jobs, *health, worker.expires_at, worker.queues


def _job(job: Job) -> tuple[object, ...]:
    return job.id, job.task, job.queue, attempt_of(job.attempt, job.max_attempts), job.started_at
