"""How messages write a value: in Python's form for programs, in JSON's over HTTP and on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Final
from uuid import UUID

_IN_JSON: Final = ContextVar("in_json", default=False)
_TYPES: Final = re.compile(r"((?:[Ee]xpected|got|fits) )(`[^`]+`)")
_NAME: Final = re.compile(r"\w+")
_OF_JSON: Final = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bool": "boolean",
    "dict": "object",
    "list": "array",
    "datetime": "time",
    "timedelta": "duration",
    "uuid": "UUID",
}


@contextmanager
def in_json() -> Iterator[None]:
    """Make messages write values in JSON's form, in the block and in the tasks that it starts."""
    token = _IN_JSON.set(True)
    try:
        yield
    finally:
        _IN_JSON.reset(token)


def quoted(value: object) -> str:
    """Write the value for a message. In JSON, durations are numbers of seconds, and times are texts. Never raises."""
    try:
        shown = _json_of(value) if _IN_JSON.get() else repr(value)
        return shown.encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001  # a value's own code, a number of too many digits, or too deep a value
        return f"a value of type {type(value).__name__}"


def worded(python: str, json: str) -> str:
    """Choose the Python or the JSON wording of a remedy: the two name different things."""
    return json if _IN_JSON.get() else python


def seconds() -> str:
    """Name the accepted forms of a duration."""
    return worded("seconds or a timedelta", "seconds")


def zoned() -> str:
    """An example of a timezone-aware time."""
    return worded("datetime.now(UTC)", "2030-01-31T09:00:00Z")


def typed(text: str) -> str:
    """Replace names of Python's types by JSON's, in msgspec's errors for example."""
    if not _IN_JSON.get():
        return text
    text = text.replace("RFC3339 encoded datetime", "RFC 3339 time")
    return _TYPES.sub(lambda match: match[1] + _NAME.sub(lambda name: _OF_JSON.get(name[0], name[0]), match[2]), text)


def _json_of(value: object) -> str:
    match value:
        case timedelta():
            shown = f"{value.total_seconds():.6f}".rstrip("0").rstrip(".")
        case date():
            shown = _text(value.isoformat().replace("+00:00", "Z"))
        case str() | UUID() | Decimal() | PurePath():
            shown = _text(str(value))
        case None | bool() | int() | float():
            shown = json.dumps(value)
        case Mapping():
            shown = "{" + ", ".join(f"{_text(str(name))}: {_json_of(one)}" for name, one in value.items()) + "}"
        case Sequence() | AbstractSet() if not isinstance(value, bytes | bytearray | memoryview):
            shown = f"[{', '.join(map(_json_of, value))}]"
        case _:
            shown = type(value).__name__
    return shown


def _text(text: str) -> str:
    """Write as JSON; escape invisible characters, and those that change the direction of the text around them."""
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in json.dumps(text, ensure_ascii=False))


__all__ = ["in_json", "quoted", "seconds", "typed", "worded", "zoned"]
