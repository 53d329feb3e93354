"""`rowlock workers`: lists, shows and scales live workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click
from rich.table import Table

from rowlock.app import Rowlock
from rowlock.cli import running
from rowlock.cli.acts import me
from rowlock.cli.jobs import console, shown
from rowlock.cli.output import print_json
from rowlock.queue.workers import LiveWorker, Workers

R = TypeVar("R")


@click.group("workers")
def command() -> None:
    """Look at live workers, and scale them."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """List all live workers, oldest first."""
    workers = _do(lambda of: of.list())
    if as_json:
        print_json(workers)
    elif not workers:
        click.echo("No workers.", err=True)
    else:
        console(is_wide=True).print(_table(workers))


@command.command("show")
@click.argument("worker_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(worker_id: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show one live worker."""
    worker = _do(lambda of: of.get(worker_id))
    if as_json:
        print_json(worker)
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for field in worker.__struct_fields__:
        value = getattr(worker, field)
        table.add_row(field, shown(", ".join(value) if field == "queues" else value))
    console().print(table)


@command.command("scale", short_help="Let a live worker run so many jobs at once.")
@click.argument("worker_id", metavar="ID")
@click.argument("concurrency", type=int)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scale_command(worker_id: str, concurrency: int, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Let the live worker ID run CONCURRENCY jobs at once, for as long as it lives. None that runs is stopped."""
    worker = _do(lambda of: of.scale(worker_id, concurrency))
    if as_json:
        print_json(worker)
    else:
        click.echo(f"{worker.id} on {shown(worker.hostname)} runs {worker.concurrency} jobs at once.")


def _do(act: Callable[[Workers], Awaitable[R]]) -> R:
    async def main() -> R:
        async with Rowlock() as app:
            return await act(app.workers.through(me()))

    return running.run(main())


def _table(workers: Sequence[LiveWorker]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("ID", "HOST", "PID", "VERSION", "RUNNING", "CONCURRENCY", "LOOP DELAY", "LEASE", "QUEUES"):
        table.add_column(name, no_wrap=True)
    for worker in workers:
        table.add_row(
            str(worker.id),
            shown(worker.hostname),
            str(worker.pid),
            shown(worker.version),
            str(worker.running),
            str(worker.concurrency),
            f"{worker.loop_delay_ms} ms",
            shown(worker.expires_at),
            shown(", ".join(worker.queues)),
        )
    return table
