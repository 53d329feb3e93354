"""`rowlock retention`: shows and sets how long finished jobs are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import click
from rich.table import Table

from rowlock.app import Rowlock
from rowlock.cli import running
from rowlock.cli.acts import age, me
from rowlock.cli.jobs import console, shown
from rowlock.cli.output import print_json
from rowlock.cli.storage import size
from rowlock.queue import retention
from rowlock.queue.retention import OUTCOMES, ArchiveDay, Keep, Kept, QueueRetention, Retention


@click.group("retention")
def command() -> None:
    """Look at how long finished jobs are kept, and set it."""


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show what is set, and the days of the archive: how large each is, and what goes when."""

    async def read() -> Retention:
        async with Rowlock() as app:
            return await app.retention()

    found = running.run(read())
    if as_json:
        print_json(found)
        return
    out = console(is_wide=True)
    out.print(_settings(found.queues))
    out.print()
    out.print(_days(found.days))


@command.command("set", short_help="Say how long the finished jobs of a queue are kept.")
@click.argument("queue")
@click.option("--succeeded", metavar="TIME", help="Of jobs that succeeded: 12h, 7d; forever; default.")
@click.option("--failed", metavar="TIME", help="Of dead letters.")
@click.option("--cancelled", metavar="TIME", help="Of cancelled jobs.")
@click.option("--expired", metavar="TIME", help="Of jobs that expired before they started.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def set_command(queue: str, as_json: bool, **given: str | None) -> None:  # noqa: FBT001  # click's
    """Say how long the finished jobs of QUEUE are kept; what is not given stays.

    The queue '*' (in quotes) stands for all that have no time of their own. By default jobs are kept for ever.
    """
    said = {outcome: _time(outcome, text) for outcome, text in given.items()}

    async def act() -> QueueRetention:
        async with Rowlock() as app:
            return await retention.keep(app.client, queue, said, me())

    done = running.run(act())
    if as_json:
        print_json(done)
    else:
        console(is_wide=True).print(_settings([done]))


def _time(outcome: str, text: str | None) -> Keep | None:
    if text == "forever":
        return "forever"
    return "default" if text == "default" else age(outcome, text)


def _settings(queues: Sequence[QueueRetention]) -> Table:
    table = _table("QUEUE", *(outcome.upper() for outcome in OUTCOMES))
    for one in queues or [QueueRetention(queue=retention.EVERY_QUEUE)]:
        unsaid = "forever" if one.queue == retention.EVERY_QUEUE else "–"
        table.add_row(shown(one.queue), *(_kept(getattr(one, outcome), unsaid) for outcome in OUTCOMES))
    return table


def _kept(kept: Kept, unsaid: str) -> str:
    if kept is None:
        return unsaid
    if isinstance(kept, timedelta):
        seconds = round(kept.total_seconds())
        for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
            if seconds % size == 0:
                return f"{seconds // size}{unit}"
        return f"{seconds}s"
    return kept


def _days(days: Sequence[ArchiveDay]) -> Table:
    table = _table("DAY", "JOBS", "SIZE", "ATTEMPTS AND LOGS", "NEXT TO GO", "GONE")
    for one in days:
        table.add_row(
            str(one.day),
            f"{one.jobs:,}",
            size(one.bytes),
            size(one.attempt_bytes),
            shown(one.next_at),
            shown("never" if one.gone_at is None else one.gone_at),
        )
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, no_wrap=True, justify="right" if name in {"JOBS", "SIZE"} else "left")
    return table
