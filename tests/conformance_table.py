"""Writes the table of docs/connections.md: which kinds of connections are tried with which cases.

python -m tests.conformance_table
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "connections.md"
_BETWEEN: Final = re.compile(r"(?<=<!-- made by tests/conformance_table.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table(kinds: Collection[str], columns: Mapping[str, Collection[str]]) -> str:
    """The table: a line a kind, a column a case."""
    rows = [
        ["", *columns],
        ["---", *["---"] * len(columns)],
        *[[kind, *("✓" if kind in tried else "–" for tried in columns.values())] for kind in kinds],
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    """Write the table into the page."""
    from tests.db import callers, test_conformance  # of which the latter imports this module

    made = table(callers.KINDS, test_conformance.COLUMNS)
    PAGE.write_text(_BETWEEN.sub(lambda _: made, PAGE.read_text()))


if __name__ == "__main__":
    main()
