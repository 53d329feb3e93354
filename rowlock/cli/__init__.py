"""The command line: `rowlock migrate | worker | api | dev | enqueue | jobs … | doctor`. Needs the extra `cli`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command in the process's arguments, and exit with its code."""
    try:
        import click  # noqa: F401, PLC0415  # an extra
        import rich  # noqa: F401, PLC0415  # an extra
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        print(f'rowlock: the command line needs {error.name}. Install it: pip install "rowlock[cli]"', file=sys.stderr)
        raise SystemExit(2) from None
    from rowlock.cli.root import run  # noqa: PLC0415  # needs the extra

    sys.exit(run(sys.argv[1:]))
