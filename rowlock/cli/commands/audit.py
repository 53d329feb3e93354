"""`rowlock audit`: check the invariants of the tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

import click

from rowlock.app import Rowlock
from rowlock.cli.commands.values import NUMBER
from rowlock.cli.run import running
from rowlock.cli.show.output import Exit, note, print_json, with_json
from rowlock.cli.show.tables import number, print_table, print_text, text, whole
from rowlock.queue.read.audits import MOST_ROWS, MOST_SECONDS, Audited, Scope, audit

_COLUMNS: Final = (
    whole("STATUS"),
    text("INVARIANT", 24),
    number("BROKEN"),
    number("LOOKED AT"),
    whole("BACK TO", leaves=1),
)
_USUAL: Final = Scope()
_WHOLE: Final = Scope(days=None, rows=MOST_ROWS, seconds=MOST_SECONDS)


@click.command("audit", short_help="Check the invariants of the tables.")
@click.option("--days", type=int, default=_USUAL.days, show_default=True, help="How many days of the archive.")
@click.option("--all", "everything", is_flag=True, help="The whole archive; no default --rows and --seconds.")
@click.option("--rows", type=int, help="The most rows of each table.  [default: 1000000]")
@click.option("--seconds", type=NUMBER, help="The most seconds in total.  [default: 60]")
@with_json
def command(days: int, everything: bool, rows: int | None, seconds: float | None, as_json: bool) -> int:  # noqa: FBT001  # click's
    """Check the invariants of the tables, for example that each job is in one place, and each key has its holder.

    It reads one read-only snapshot, newest days first, takes only the locks of a SELECT, and also runs on a standby.
    Exits with 0 if every invariant holds as far as it was checked, with 1 if one is broken, and with 2 if one could not
    be checked.
    """
    usual = _WHOLE if everything else _USUAL
    scope = Scope(
        days=None if everything else days,
        rows=usual.rows if rows is None else rows,
        seconds=usual.seconds if seconds is None else seconds,
    )

    async def look() -> list[Audited]:
        async with Rowlock() as app:
            return await audit(app.database, scope)

    found = running.run(look())
    if as_json:
        print_json([asdict(one) | {"status": one.status} for one in found])
    else:
        _print(found)
    if any(one.status == "broken" for one in found):
        return Exit.NO
    return Exit.REMEDY if any(one.status == "unknown" for one in found) else Exit.DONE


def _print(found: list[Audited]) -> None:
    print_table(_COLUMNS, ((one.status, one.invariant, one.count, one.looked_at, one.since) for one in found))
    for one in found:
        for example in one.examples:
            print_text(f"{one.invariant}: {example}")
    for why in dict.fromkeys(one.why_not for one in found if one.why_not is not None):
        note(f"Not everything was checked: {why}.")
    if any(one.is_cut and one.why_not is None for one in found):
        note("Not everything was checked: raise --rows to check more rows of each table.")


__all__ = ["command"]
