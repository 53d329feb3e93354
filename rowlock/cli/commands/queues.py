"""`rowlock queues`: list, show, pause, resume, drain and scale queues."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import click

from rowlock.app import Rowlock
from rowlock.cli.commands.acts import me
from rowlock.cli.commands.values import NUMBER
from rowlock.cli.run import running
from rowlock.cli.show.output import counted, note, print_json, with_json
from rowlock.cli.show.tables import number, print_details, print_table, text, time_of, whole
from rowlock.queue.operate.queues import Queues
from rowlock.queue.read.queues import Queue
from rowlock.words import quoted

R = TypeVar("R")
_Function = TypeVar("_Function", bound=Callable[..., Any])

AS_STARTED: Final = "default"
"""The concurrency without a limit: each worker keeps the one that it was started with."""
_COLUMNS: Final = (
    text("QUEUE", 12),
    whole("PAUSED SINCE", leaves=3),
    number("CONCURRENCY", leaves=4),
    number("WAITING"),
    number("SCHEDULED", leaves=2),
    number("RUNNING"),
    number("BLOCKED", leaves=5),
    whole("OLDEST", leaves=1),
    number("WORKERS"),
)


@click.group("queues")
def command() -> None:
    """List and show queues; pause, resume, drain and scale them."""


def _name(function: _Function) -> _Function:
    return click.argument("name")(function)


@command.command("list")
@with_json
def list_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """List all known queues, by name."""
    queues = _do(lambda of: of.list(), changes=False)
    if as_json:
        print_json(queues)
    elif not queues:
        note("No queues.")
    else:
        print_table(_COLUMNS, map(_row, queues))


@command.command("show")
@_name
@with_json
def show_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show one queue: its settings, and the counts of its jobs."""
    queue = _do(lambda of: of.get(name), changes=False)
    if as_json:
        print_json(queue)
        return
    members = {name: getattr(queue, name) for name in queue.__struct_fields__}
    print_details((members | {"concurrency": _concurrency(queue)}).items())


@command.command("pause", short_help="Pause a queue: none of its jobs starts until it is resumed.")
@_name
@with_json
def pause_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Pause the queue: none of its jobs starts until it is resumed; running jobs continue."""
    _done(_do(lambda of: of.pause(name)), as_json)


@command.command("resume")
@_name
@with_json
def resume_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Resume the queue: its jobs start again."""
    _done(_do(lambda of: of.resume(name)), as_json)


@command.command("drain")
@_name
@click.option("--timeout", type=NUMBER, metavar="SECONDS", help="The longest wait. [default: unlimited]")
@with_json
def drain_command(name: str, timeout: float | None, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Pause the queue, and wait until none of its jobs runs. It stays paused."""
    _done(_do(lambda of: of.drain(name, timeout=timeout)), as_json)


@command.command("scale", short_help="Limit how many jobs of a queue each worker runs at once.")
@_name
@click.argument("concurrency", metavar="CONCURRENCY|default")
@with_json
def scale_command(name: str, concurrency: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Limit how many jobs of the queue NAME each worker runs at once.

    The limit applies to all workers, also to those that start later. default removes it: each worker then keeps the
    limit that it was started with.
    """
    try:
        most = None if concurrency == AS_STARTED else int(concurrency)
    except ValueError:
        raise click.UsageError(
            f"CONCURRENCY must be a number of at least 1, or default; got {quoted(concurrency)}."
        ) from None
    _done(_do(lambda of: of.scale(name, most)), as_json)


def _do(act: Callable[[Queues], Awaitable[R]], *, changes: bool = True) -> R:
    async def main() -> R:
        app = Rowlock()
        async with running.changing(app) if changes else app:
            return await act(app.queues.through(me()))

    return running.run(main())


def _done(queue: Queue, as_json: bool) -> None:  # noqa: FBT001  # what click gave
    if as_json:
        print_json(queue)
        return
    is_open = queue.paused_at is None
    said = "is not paused" if queue.paused_at is None else f"has been paused since {time_of(queue.paused_at)}"
    limit = "" if queue.concurrency is None else f", at most {queue.concurrency} at once in each worker"
    known = "no worker serves it" if queue.workers == 0 else f"{counted(queue.workers, 'worker')} for it"
    live = queue.waiting + queue.scheduled + queue.blocked
    jobs = (
        "it has no jobs"
        if live + queue.running == 0
        else f"{counted(live + queue.running, 'job')}, {queue.running} running"
    )
    click.echo(f"{queue.name} {said}{limit}: {jobs}, {known}{'' if is_open or queue.workers else ' yet'}.")


def _concurrency(queue: Queue) -> int | str:
    return AS_STARTED if queue.concurrency is None else queue.concurrency


def _row(queue: Queue) -> tuple[object, ...]:
    counts = (queue.waiting, queue.scheduled, queue.running, queue.blocked)
    return queue.name, queue.paused_at, _concurrency(queue), *counts, queue.oldest_due_at, queue.workers
