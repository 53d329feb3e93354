"""Output shared by the commands: `--json`, errors and notes on standard error, questions, and exit codes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, TypeVar

import click
import msgspec

from rowlock.errors import (
    ApiKeyNotFound,
    ConfigurationError,
    DrainTimeout,
    DuplicateJob,
    JobNotFound,
    KeyHeld,
    ResultTimeout,
    ScheduleNotFound,
    WorkerNotFound,
    WrongState,
)

F = TypeVar("F", bound=Callable[..., Any])

_UNSEEN: Final = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""Line ends, and Unicode's bidirectional controls, which change the direction of the text around them."""
_CONTROL: Final = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_UNSEEN}]")
_UNSAFE_IN_JSON: Final = re.compile(f"[\x7f-\x9f{_UNSEEN}]")
_FOLDED_LINES: Final = 6


class Exit(IntEnum):
    """The exit codes of all commands. A worker or server that stops on a signal exits with `DONE`."""

    DONE = 0
    NO = 1
    """The command was valid, but the answer is no: the job does not exist, failed, or did not end in time."""
    REMEDY = 2
    """The command could not run: wrong use, settings or arguments, no server, no schema."""
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it
    UNREAD = 141  # 128 + SIGPIPE: the reader closed the pipe


_NO: Final = (
    JobNotFound,
    ScheduleNotFound,
    WorkerNotFound,
    ApiKeyNotFound,
    WrongState,
    KeyHeld,
    DuplicateJob,
    DrainTimeout,
    ResultTimeout,
)


def counted(number: int, noun: str) -> str:
    """The number with its noun: `1 job`, `3 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def code_of(error: Exception) -> Exit:
    """The exit code of the error."""
    return Exit.NO if isinstance(error, _NO) else Exit.REMEDY


def clean(text: str) -> str:
    """Spell out the text's control characters, so that a job's data can neither colour nor forge output."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def complain(problem: object, *, code: int = Exit.REMEDY) -> int:
    """Print the problem as one line on standard error; return the exit code. A server's log excerpt keeps its lines."""
    lines = str(problem).strip().splitlines()
    message = " ".join(line.strip() for line in lines) if len(lines) <= _FOLDED_LINES else "\n".join(lines)
    print(f"rowlock: {clean(message)}", file=sys.stderr)
    return code


def note(text: str) -> None:
    """Print a note on standard error, beside the data."""
    click.echo(clean(text), err=True)


def with_json(command: F) -> F:
    """Add `--json` to the command, as its parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(document: object) -> None:
    """Print the document as JSON, times in RFC 3339, for other programs; control characters are escaped."""
    click.echo(escaped_json(msgspec.json.format(msgspec.json.encode(document), indent=2)))


def escaped_json(document: bytes) -> str:
    """Escape the characters of JSON that would control a terminal or change the direction of a text."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document.decode())


def confirm(question: str, *, otherwise: str) -> bool:
    """Ask on standard error. Raises `ConfigurationError` with the text `otherwise` if there is no answer."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        if sys.stdin.isatty():
            raise
        raise ConfigurationError(otherwise) from None


__all__ = ["Exit", "clean", "code_of", "complain", "confirm", "escaped_json", "note", "print_json", "with_json"]
