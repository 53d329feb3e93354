"""`rowlock worker`: run an application's jobs until a signal stops it."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import click

from rowlock import logs
from rowlock.app import Rowlock
from rowlock.cli.run import running
from rowlock.cli.run.loading import load
from rowlock.cli.run.reloading import run_and_reload
from rowlock.cli.run.supervised import Tie
from rowlock.cli.run.supervisor import PLACE, Supervisor, command_of
from rowlock.worker.process import settle_in

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logs.get_logger("rowlock.cli")

STOP_MARGIN: Final = 10.0
"""The most seconds of a stop, besides the grace period, and the lease that bounds the last writes."""


@click.command("worker", short_help="Run the jobs of APP.")
@click.argument("app")
@click.option(
    "--queues", metavar="NAMES", help="The queues, with limits: email,reports:2,tenant-*. [default: the tasks' own]"
)
@click.option("--concurrency", type=click.IntRange(min=1), default=50, show_default=True, help="Jobs at once.")
@click.option("--threads", type=click.IntRange(min=1), help="How many of these may be plain functions. [default: all]")
@click.option("--task-processes", type=click.IntRange(min=1), help="Processes for tasks that want one. [default: CPUs]")
@click.option("--processes", type=click.IntRange(min=1), help="Run so many workers, and replace one that ends.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve /metrics, /healthz and /readyz here.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="The address of --metrics-port.")
@click.option("--reload", is_flag=True, help="Restart when a Python file here changes, for development.")
@click.option("--supervised", is_flag=True, hidden=True)
def command(
    app: str,
    *,
    queues: str | None,
    processes: int | None,
    reload: bool,
    supervised: bool,
    metrics_port: int | None,
    metrics_host: str,
    **options: Any,  # noqa: ANN401  # click's
) -> int:
    """Run the jobs of APP, which is module:attribute, like tasks:app.

    SIGTERM or Ctrl-C stops it: it claims no more jobs, waits ROWLOCK_GRACE_PERIOD seconds for running ones, and
    releases the others. A second signal releases them at once. A stop never loses a job.

    With --processes, each process serves its own metrics: the first on --metrics-port, the others on the next ports.
    """
    if reload:
        return running.run(run_and_reload(command_of(["worker", app, *_given("reload")])))
    if processes is not None:
        return asyncio.run(_supervise(command_of(["worker", app, "--supervised", *_given("processes")]), processes))
    tie = Tie() if supervised else None
    loaded = load(app)
    if not loaded.tasks:
        log.warning("application_has_no_tasks", app=app)
    if metrics_port and supervised:
        metrics_port += int(os.environ[PLACE]) - 1
    watched_at = None if metrics_port is None else (metrics_host, metrics_port)
    running.run(_run(loaded, tie, watched_at, queues=split_queues(queues), **options))
    return 0


def split_queues(queues: str | None) -> list[str] | None:
    """Split `email,reports:2` into the names for `app.worker`; None for all queues that the tasks name."""
    return None if queues is None else [name.strip() for name in queues.split(",")]


def _given(without: str) -> Iterator[str]:
    """The options of the command, without one, for each of its processes."""
    ctx = click.get_current_context()
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if (
            isinstance(parameter, click.Option)
            and parameter.name != without
            and value is not None
            and value is not False
        ):
            yield parameter.opts[0] if parameter.is_flag else f"{parameter.opts[0]}={value}"


async def _supervise(command: list[str], processes: int) -> int:
    return await Supervisor(command, processes).run()


async def _run(
    app: Rowlock,
    tie: Tie | None,
    watched_at: tuple[str, int] | None,
    **options: Any,  # noqa: ANN401  # as `app.worker` has them
) -> None:
    signals = running.StopSignals(is_supervised=tie is not None)
    settle_in()
    worker = app.worker(**options)

    def say_works() -> None:
        if tie is not None:
            settings = app.settings
            tie.say_works((settings.grace_period + settings.lease).total_seconds() + STOP_MARGIN)

    async with app, AsyncExitStack() as stack:
        if watched_at is not None:
            from rowlock.cli.run.probing import probing  # noqa: PLC0415  # a web server, loaded only if needed

            await stack.enter_async_context(probing(worker, app.database, *watched_at))
        await running.work(worker, signals, say_works)
        if tie is not None and worker.is_told_to_stop:
            tie.say_over()
    running.leave(worker)
