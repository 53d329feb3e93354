"""`rowlock worker`: runs an application's jobs until it is told to stop."""

from __future__ import annotations

import click
import structlog

from rowlock.app import Rowlock
from rowlock.cli import running
from rowlock.cli.loading import load
from rowlock.worker.process import settle_in

log = structlog.get_logger("rowlock.cli")


@click.command("worker")
@click.argument("app")
@click.option("--queues", metavar="NAMES", help="Which queues, with limits: email,reports:2. [default: the tasks' own]")
@click.option("--concurrency", type=click.IntRange(min=1), default=50, show_default=True, help="Jobs at once.")
@click.option("--threads", type=click.IntRange(min=1), help="How many of these may be plain functions. [default: all]")
@click.option("--processes", type=click.IntRange(min=1), help="Processes for tasks that want one. [default: CPUs]")
def command(app: str, queues: str | None, concurrency: int, threads: int | None, processes: int | None) -> None:
    """Run the jobs of APP, which is module:attribute, like tasks:app.

    SIGTERM or Ctrl-C stops it: it takes no more jobs, lets running ones finish for ROWLOCK_GRACE_PERIOD seconds, and
    gives the others back. A second signal gives them back at once. A job is never lost by a stop.
    """
    loaded = load(app)
    if not loaded.tasks:
        log.warning("application_has_no_tasks", app=app)
    running.run(_run(loaded, split_queues(queues), concurrency, threads, processes))


def split_queues(queues: str | None) -> list[str] | None:
    """The names of `email,reports:2`, as `app.worker` takes them; None for all that the tasks name."""
    return None if queues is None else [name.strip() for name in queues.split(",")]


async def _run(
    app: Rowlock, queues: list[str] | None, concurrency: int, threads: int | None, processes: int | None
) -> None:
    signals = running.StopSignals()
    settle_in()
    worker = app.worker(queues=queues, concurrency=concurrency, threads=threads, processes=processes)
    async with app:
        await running.work(worker, signals)
    running.leave(worker)
