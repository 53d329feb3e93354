"""`rowlock retention`: show and set how long finished jobs are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import click

from rowlock.app import Rowlock
from rowlock.cli.commands.acts import age, me
from rowlock.cli.run import running
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import Column, number, print_table, print_text, size, text, whole
from rowlock.queue.operate import retention
from rowlock.queue.operate.retention import OUTCOMES, ArchiveDay, Keep, Kept, QueueRetention, RetentionStatus
from rowlock.wire.queues import KeptQueue, KeptQueues

_QUEUES: Final = (text("QUEUE", 12), *(whole(outcome.upper()) for outcome in OUTCOMES))
_DAYS: Final = (
    whole("DAY"),
    number("JOBS"),
    Column(name="SIZE", is_number=True),
    Column(name="ATTEMPTS AND LOGS", is_number=True, leaves=2),
    whole("NEXT TO GO", leaves=1),
    whole("GONE"),
)


@click.group("retention")
def command() -> None:
    """Show and set how long finished jobs are kept."""


@command.command("show", short_help="Show the retention, and the days of the archive.")
@with_json
def show_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show the retention, and the days of the archive: the size of each, and when its jobs are removed."""

    async def read() -> RetentionStatus:
        async with Rowlock() as app:
            return await app.retention.show()

    found = running.run(read())
    if as_json:
        print_json(KeptQueues(queues=[KeptQueue.of(one) for one in found.queues], days=found.days))
        return
    _print_settings(found.queues)
    if found.days:
        print_text("")
        print_table(_DAYS, map(_day, found.days))
    else:
        note("The archive is empty.")


@command.command("keep", short_help="Set how long the finished jobs of a queue are kept.")
@click.argument("queue")
@click.option("--succeeded", metavar="TIME", help="The time for jobs that succeeded: 12h, 7d; forever; default.")
@click.option("--failed", metavar="TIME", help="The time for dead letters.")
@click.option("--cancelled", metavar="TIME", help="The time for cancelled jobs.")
@click.option("--expired", metavar="TIME", help="The time for jobs that expired before they started.")
@with_json
def keep_command(queue: str, as_json: bool, **given: str | None) -> None:  # noqa: FBT001  # click's
    """Set how long the finished jobs of QUEUE are kept; an omitted option stays unchanged.

    The queue '*' (in quotes) sets it for queues without a time of their own. By default jobs are kept forever.
    """
    said: dict[str, Any] = {outcome: _time(outcome, text) for outcome, text in given.items()}
    retention.check(queue, said)

    async def act() -> QueueRetention:
        async with running.changing(Rowlock()) as app:
            return await app.retention.through(me()).keep(queue, **said)

    done = running.run(act())
    if as_json:
        print_json(KeptQueue.of(done))
    else:
        _print_settings([done])


def _time(outcome: str, text: str | None) -> Keep | None:
    if text == "forever":
        return "forever"
    return "default" if text == "default" else age(outcome, text)


def _print_settings(queues: Sequence[QueueRetention]) -> None:
    rows = []
    for one in queues or [QueueRetention(queue=retention.EVERY_QUEUE)]:
        unsaid = "forever" if one.queue == retention.EVERY_QUEUE else "default"
        rows.append((one.queue, *(_kept(getattr(one, outcome), unsaid) for outcome in OUTCOMES)))
    print_table(_QUEUES, rows)


def _kept(kept: Kept, unsaid: str) -> str:
    if kept is None:
        return unsaid
    if isinstance(kept, timedelta):
        seconds = round(kept.total_seconds())
        for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
            if seconds % length == 0:
                return f"{seconds // length}{unit}"
        return f"{seconds}s"
    return kept


def _day(one: ArchiveDay) -> tuple[object, ...]:
    gone = "never" if one.gone_at is None else one.gone_at
    return str(one.day), one.jobs, size(one.bytes), size(one.attempt_bytes), one.next_at, gone
