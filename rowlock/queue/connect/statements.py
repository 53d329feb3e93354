"""Read the SQL: one file a statement, in the `sql/` of its room, read once and written for the configured schema.

A text that several statements share stands once, in a file of the `fragments/` of its room. In a statement, or in
another fragment, `{{name}}` stands for its text, and `{{null name}}` for a NULL in the place of each of its columns.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from rowlock.schema import in_schema

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

WAKEUP_CHANNEL = "rowlock.wakeup"
"""The NOTIFY channel, as the statements spell it; `channel()` names it for a schema."""

FINISHED_CHANNEL = "rowlock.finished"
"""The NOTIFY channel for those who wait for jobs to end, likewise."""

INCLUDE: Final = re.compile(r"\{\{(?P<null>null )?(?P<name>\w+)\}\}")
_HEAD: Final = re.compile(r"(?:--.*\n)*")


@lru_cache(maxsize=256)
def statement(name: str, schema: str, package: str | None = None) -> str:
    """The text of `<name>.sql` for `schema`. The same string object each time: drivers cache plans by it.

    A `package` beside the queue and the worker has statements of its own. Raises `KeyError` for an unknown fragment.
    """
    file = statements()[name] if package is None else files(package).joinpath("sql", f"{name}.sql")
    return in_schema(complete(file.read_text(encoding="utf-8")), schema)


@cache
def statements() -> dict[str, Traversable]:
    """The statements of the queue and of the worker, by name."""
    return _files("sql")


@cache
def fragments() -> dict[str, Traversable]:
    """The fragments of statements, by name."""
    return _files("fragments")


def channel(schema: str, name: str = WAKEUP_CHANNEL) -> str:
    """The channel of this name in `schema`: by default the one that wakes its workers."""
    return in_schema(name, schema)


def _files(folder: str) -> dict[str, Traversable]:
    package = files("rowlock")
    rooms = [*package.joinpath("queue").iterdir(), package.joinpath("worker")]
    folders = [room.joinpath(folder) for room in rooms]
    return {file.name.removesuffix(".sql"): file for folder in folders if folder.is_dir() for file in folder.iterdir()}


def complete(text: str) -> str:
    """The text with its fragments, each indented like its place."""
    return INCLUDE.sub(_included, text)


def _included(place: re.Match[str]) -> str:
    text = _HEAD.sub("", fragments()[place["name"]].read_text(encoding="utf-8"), count=1)
    text = complete(text.strip())
    if place["null"]:
        text = re.sub(r"\w+", "NULL", text)
    indent = place.start() - place.string.rfind("\n", 0, place.start()) - 1
    return text.replace("\n", "\n" + " " * indent)
