"""`rowlock operations`: who did what, when and from where."""

from __future__ import annotations

from uuid import UUID

import click
import msgspec
from rich.table import Table

from rowlock.app import Rowlock
from rowlock.cli import running
from rowlock.cli.jobs import console, shown, time_of
from rowlock.cli.output import print_json
from rowlock.queue.client import MOST_PER_PAGE
from rowlock.queue.operators import Operation


@click.command("operations")
@click.option("--verb", help="Only these: cancel, retry, discard, …")
@click.option("--target", help="Only what was done to this one: its id, or its name.")
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=50, show_default=True)
@click.option("--before", type=click.UUID, metavar="ID", help="The page after this one: its last operation's id.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of operations.")
def command(
    verb: str | None,
    target: str | None,
    limit: int,
    before: UUID | None,
    as_json: bool,  # noqa: FBT001  # click's
) -> None:
    """List what people did, newest first: what, to which job, queue, schedule or worker, who, and from where."""

    async def read() -> list[Operation]:
        async with Rowlock() as app:
            return await app.operations(verb=verb, target=target, before=before, limit=limit)

    found = running.run(read())
    if as_json:
        print_json(found)
    elif not found:
        click.echo("No operations.", err=True)
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("AT", "VERB", "TARGET", "BY", "FROM", "DETAILS"):
            table.add_column(name, no_wrap=True)
        for row in found:
            target_text = "–" if row.target is None else f"{row.target_kind} {row.target}"
            details = msgspec.json.encode(row.details).decode()
            cells = (time_of(row.at), row.verb, target_text, row.by, row.source, details)
            table.add_row(*(shown(cell) for cell in cells))
        console(is_wide=True).print(table)
        if len(found) == limit:
            click.echo(f"More: --before {found[-1].id}", err=True)
