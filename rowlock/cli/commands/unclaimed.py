"""`rowlock unclaimed`: list the due jobs that no live worker can claim, with the reason."""

from __future__ import annotations

from typing import Final

import click

from rowlock.app import Rowlock
from rowlock.cli.run import running
from rowlock.cli.show.findings import WHY_UNCLAIMED
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import number, print_table, text, whole
from rowlock.queue.read.pages import MOST_PER_PAGE
from rowlock.queue.read.unclaimed import Unclaimed
from rowlock.wire.queues import UnclaimedKind

_COLUMNS: Final = (
    number("JOBS"),
    text("TASK", 12),
    number("VERSION"),
    text("QUEUE"),
    whole("DUE FOR"),
    text("WHY", 12),
)


@click.command("unclaimed", short_help="List the due jobs that no live worker can claim.")
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=50, show_default=True)
@with_json
def command(limit: int, as_json: bool) -> None:  # noqa: FBT001  # click's
    """List the due jobs that no live worker can claim, by task, version of the arguments and queue, with the reason."""

    async def read() -> list[Unclaimed]:
        async with Rowlock() as app:
            return await app.unclaimed(limit=limit)

    kinds = running.run(read())
    if as_json:
        print_json([UnclaimedKind.of(kind) for kind in kinds])
    elif not kinds:
        note("No unclaimed jobs.")
    else:
        print_table(
            _COLUMNS,
            (
                (kind.jobs, kind.task, kind.args_version, kind.queue, kind.waiting, WHY_UNCLAIMED[kind.why])
                for kind in kinds
            ),
        )
        if len(kinds) == limit:
            note("There may be more: raise --limit.")
