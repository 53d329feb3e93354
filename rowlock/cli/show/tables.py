"""Print the data of commands: tables and details, with one form for each kind of value.

On a terminal a table fits its width: long texts are clipped, then the least important columns are omitted. Elsewhere
every value is whole, a row is a line, and there are no colours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from typing import Final

import click
import msgspec
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from rowlock.cli.show.output import clean

NOTHING: Final = "–"
GAP: Final = 2
"""Blanks between two columns."""

_COLOURS: Final = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "retrying": "yellow",
    "paused": "yellow",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "kept": "green",
    "partly": "yellow",
    "unknown": "yellow",
    "broken": "red",
}
_BARS: Final = "▁▂▃▄▅▆▇█"
_BIG: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. `least`: the narrowest width on a terminal; None keeps values whole. `leaves`: on a narrow terminal,
    columns with the highest number are omitted first; 0 is never omitted.
    """

    name: str
    is_number: bool = False
    least: int | None = None
    leaves: int = 0


def number(name: str, *, leaves: int = 0) -> Column:
    """A column of numbers, aligned right."""
    return Column(name=name, is_number=True, leaves=leaves)


def text(name: str, least: int = 8, *, leaves: int = 0) -> Column:
    """A column of texts, which a terminal may clip."""
    return Column(name=name, least=least, leaves=leaves)


def whole(name: str, *, leaves: int = 0) -> Column:
    """A column of values that are useless unless whole: ids, states, times."""
    return Column(name=name, leaves=leaves)


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def console() -> Console:
    """A console that prints data verbatim, without markup; colours and bold only on a terminal without NO_COLOR."""
    if on_terminal():
        # With NO_COLOR rich omits colours, but would still print bold and dim.
        return Console(
            markup=False, highlight=False, emoji=False, color_system=None if os.environ.get("NO_COLOR") else "auto"
        )
    return Console(markup=False, highlight=False, emoji=False, color_system=None, force_terminal=False, width=_BIG)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print the rows below the column names."""
    if on_terminal():
        out = console()
        out.print(table_of(columns, rows, width=out.width))
    else:
        print_plain(table_of(columns, rows, width=None))


def print_details(pairs: Iterable[tuple[str, object]]) -> None:
    """Print one object, a line per field; long values continue below."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, shown(value))
    if on_terminal():
        console().print(table)
    else:
        print_plain(table)


def print_text(line: object) -> None:
    """Print a text verbatim, control characters spelled out; the terminal wraps long lines."""
    console().print(shown(line), soft_wrap=True)


def table_of(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, width: int | None) -> Table:
    """Build the table for a terminal of this width, or (None) with all values whole."""
    cells = [[cell(value, for_people=width is not None) for value in row] for row in rows]
    natural = [max(cell_len(column.name), *(row[at].cell_len for row in cells), 0) for at, column in enumerate(columns)]
    kept = _fitting(columns, natural, width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold" if width is not None else "")
    for at, most in kept.items():
        column = columns[at]
        table.add_column(
            column.name,
            justify="right" if column.is_number else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=most,
        )
    for row in cells:
        table.add_row(*(row[at] for at in kept))
    return table


def _fitting(columns: Sequence[Column], natural: Sequence[int], width: int | None) -> dict[int, int]:
    """Select the columns that fit, with the width of each."""
    kept = dict(enumerate(natural))
    if width is None:
        return kept

    def excess() -> int:
        return sum(kept.values()) + GAP * len(kept) - width

    while True:
        over = excess()
        narrowest = sum(max(kept[at] - _least(columns[at], kept[at]), 0) for at in kept)
        leaving = max(kept, key=lambda at: (columns[at].leaves, at))
        if over <= narrowest or columns[leaving].leaves == 0:
            break
        del kept[leaving]
    while (over := excess()) > 0:
        longest = max(kept, key=lambda at: kept[at] - _least(columns[at], kept[at]))
        if kept[longest] <= _least(columns[longest], kept[longest]):
            break
        kept[longest] -= 1
    return kept


def _least(column: Column, natural: int) -> int:
    return natural if column.least is None else min(natural, max(column.least, cell_len(column.name)))


def print_plain(shown: RenderableType) -> None:
    """Print for a pipe: no line is wrapped or cut, and trailing blanks are removed."""
    stream = StringIO()
    Console(
        file=stream, markup=False, highlight=False, emoji=False, color_system=None, force_terminal=False, width=_BIG
    ).print(shown)
    for line in stream.getvalue().splitlines():
        click.echo(line.rstrip())


def cell(value: object, *, for_people: bool) -> Text:
    """The value in one line of a table."""
    if isinstance(value, Text):
        return value
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, int) and for_people:
        return Text(f"{value:,}")
    if isinstance(value, datetime) and for_people:
        return Text(brief_time_of(value))
    plain = shown(value).plain.replace("\n", "\\n").replace("\t", "\\t")
    return Text(plain, style=_COLOURS.get(plain, ""))


def shown(value: object) -> Text:
    """The value as text to print verbatim: without markup, and without characters that control the terminal."""
    match value:
        case Text():
            return value
        case None:
            return Text(NOTHING)
        case datetime():
            return Text(time_of(value))
        case timedelta():
            return Text(duration_of(value))
        case list() | tuple():
            return Text(clean(", ".join(map(str, value))) or NOTHING)
        case _:
            return Text(clean(str(value)))


def state(name: str) -> Text:
    """A job's state, or a finding's, in its colour."""
    return Text(name, style=_COLOURS.get(name.strip(), ""))


def time_of(moment: datetime) -> str:
    """The time in the local zone, with its offset."""
    return moment.astimezone().isoformat(sep=" ", timespec="seconds")


def brief_time_of(moment: datetime) -> str:
    """The time in the local zone, without its offset."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration_of(duration: timedelta | float) -> str:
    """A duration for readers: 340 ms, 12.3 s, 2m 05s, 3h 12m, 4d 02h."""
    seconds = max(duration.total_seconds() if isinstance(duration, timedelta) else duration, 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


def size(count: int) -> str:
    """Bytes for readers: 1.2 GB."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.1f} {unit}" if unit != "B" else f"{count} B"
        amount /= 1000
    return f"{amount:.1f} TB"


def memory_of(size_in_bytes: int | None) -> str:
    """The memory of a process, if it reports it."""
    return NOTHING if size_in_bytes is None else size(size_in_bytes)


def attempt_of(attempt: int, most: int) -> str:
    """`2/5`; the attempt alone if it exceeds the maximum: a retry, a snooze or a crash uses none up."""
    return str(attempt) if attempt > most else f"{attempt}/{most}"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Draw the values as bars of at most this width, from zero to the highest; an unknown value is a blank.

    With more values than `width`, a bar is the mean of several.
    """
    if not values or width <= 0:
        return ""
    together = -(-len(values) // width)
    means = [_mean(values[at : at + together]) for at in range(0, len(values), together)]
    highest = max((mean for mean in means if mean is not None), default=0.0) or 1.0
    return "".join(" " if mean is None else _BARS[round(mean / highest * (len(_BARS) - 1))] for mean in means)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def pretty(value: object) -> str:
    """Format JSON data, one member per line."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def in_one_line(document: Mapping[str, object]) -> str:
    """Format JSON data in one line; empty data is an empty text."""
    return msgspec.json.encode(document).decode() if document else ""


__all__ = [
    "Column",
    "brief_time_of",
    "cell",
    "console",
    "duration_of",
    "in_one_line",
    "memory_of",
    "number",
    "on_terminal",
    "pretty",
    "print_details",
    "print_plain",
    "print_table",
    "print_text",
    "shown",
    "size",
    "sparkline",
    "state",
    "table_of",
    "text",
    "time_of",
    "whole",
]
