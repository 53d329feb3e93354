"""`rowlock operations`: list the audit: who did what, when and from where."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import click

from rowlock.app import Rowlock
from rowlock.cli.run import running
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import NOTHING, in_one_line, print_table, text, whole
from rowlock.queue.read.operations import Operation
from rowlock.queue.read.pages import MOST_PER_PAGE

_COLUMNS: Final = (
    whole("AT"),
    whole("VERB"),
    text("TARGET", 40),
    text("BY"),
    whole("FROM", leaves=1),
    text("DETAILS", leaves=2),
)


@click.command("operations", short_help="List the audit.")
@click.option("--verb", help="Only these acts: cancel, reschedule, retry, delete, …")
@click.option("--target-kind", metavar="KIND", help="Only acts on these: job, queue, schedule, worker.")
@click.option("--target", help="Only acts on this target: its id, or its name.")
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=50, show_default=True)
@click.option("--before", type=click.UUID, metavar="ID", help="The next page: the last operation's id of this one.")
@with_json
def command(  # noqa: PLR0917  # click's: a parameter an option
    verb: str | None,
    target_kind: str | None,
    target: str | None,
    limit: int,
    before: UUID | None,
    as_json: bool,  # noqa: FBT001  # click's
) -> None:
    """List the audit, newest first: who did what, to which job, queue, schedule or worker, and from where."""

    async def read() -> list[Operation]:
        async with Rowlock() as app:
            return await app.operations(verb=verb, target_kind=target_kind, target=target, before=before, limit=limit)

    found = running.run(read())
    if as_json:
        print_json(found)
    elif not found:
        note("No operations.")
    else:
        print_table(_COLUMNS, map(_row, found))
        if len(found) == limit:
            note(f"More: --before {found[-1].id}")


def _row(one: Operation) -> tuple[object, ...]:
    target = NOTHING if one.target is None else f"{one.target_kind} {one.target}"
    return one.at, one.verb, target, one.by, one.source, in_one_line(one.details)
