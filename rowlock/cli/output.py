"""What the commands print: complaints on standard error, plain JSON, and data that cannot paint the terminal."""

from __future__ import annotations

import re
import sys
from typing import Final

import click
import msgspec

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_FOLDED_LINES: Final = 6


def clean(text: str) -> str:
    """The text with its control characters spelled out, so that a job's data can neither colour nor forge output."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def complain(problem: object, *, code: int = 2) -> int:
    """Print the problem as one line on standard error; return the exit code. The end of a server's log stays lines."""
    lines = str(problem).strip().splitlines()
    message = " ".join(line.strip() for line in lines) if len(lines) <= _FOLDED_LINES else "\n".join(lines)
    print(f"rowlock: {clean(message)}", file=sys.stderr)
    return code


def print_json(document: object) -> None:
    """Print the document as JSON, times in RFC 3339, for other programs."""
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
