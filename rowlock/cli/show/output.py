"""What the commands have in common: `--json`, complaints and notes on standard error, questions, and exit codes."""

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
"""Ends of lines, and what turns the direction of the text around it (Unicode's bidirectional controls)."""
_CONTROL: Final = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_UNSEEN}]")
_UNSAFE_IN_JSON: Final = re.compile(f"[\x7f-\x9f{_UNSEEN}]")
_FOLDED_LINES: Final = 6


class Exit(IntEnum):
    """The exit codes of all commands. A worker or a server that was told to stop, and did, has done what it should."""

    DONE = 0
    NO = 1
    """It was asked in the right way, and the answer is no: there is no such job, it failed, it is not over in time."""
    REMEDY = 2
    """It could not be asked: wrong use, settings, arguments, no server, no schema."""
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it
    UNREAD = 141  # 128 + SIGPIPE: whoever read the output has gone


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
    """So many of them: `1 job`, `3 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def code_of(error: Exception) -> Exit:
    """The exit code that the error means."""
    return Exit.NO if isinstance(error, _NO) else Exit.REMEDY


def clean(text: str) -> str:
    """The text with its control characters spelled out, so that a job's data can neither colour nor forge output."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def complain(problem: object, *, code: int = Exit.REMEDY) -> int:
    """Print the problem as one line on standard error; return the exit code. The end of a server's log stays lines."""
    lines = str(problem).strip().splitlines()
    message = " ".join(line.strip() for line in lines) if len(lines) <= _FOLDED_LINES else "\n".join(lines)
    print(f"rowlock: {clean(message)}", file=sys.stderr)
    return code


def note(text: str) -> None:
    """Say something besides the data: on standard error."""
    click.echo(clean(text), err=True)


def with_json(command: F) -> F:
    """The command with `--json`, which it gets as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(document: object) -> None:
    """Print the document as JSON, times in RFC 3339, for other programs; what steers a terminal is escaped."""
    click.echo(escaped_json(msgspec.json.format(msgspec.json.encode(document), indent=2)))


def escaped_json(document: bytes) -> str:
    """The same JSON, with what would steer a terminal or turn the direction of a text escaped."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document.decode())


def confirm(question: str, *, otherwise: str) -> bool:
    """Ask, on standard error. Raises `ConfigurationError` with what to do `otherwise`, where nobody answers."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        if sys.stdin.isatty():
            raise
        raise ConfigurationError(otherwise) from None


__all__ = ["Exit", "clean", "code_of", "complain", "confirm", "escaped_json", "note", "print_json", "with_json"]
