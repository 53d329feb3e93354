"""The SQL: one file a statement, in the `sql/` of its room; read once, and written for the configured schema."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from rowlock.schema import in_schema

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

WAKEUP_CHANNEL = "rowlock.wakeup"
"""The NOTIFY channel, as the statements spell it; `channel()` names it for a schema."""

FINISHED_CHANNEL = "rowlock.finished"
"""The NOTIFY channel of those who wait for jobs to end, likewise."""


@lru_cache(maxsize=256)
def statement(name: str, schema: str, package: str | None = None) -> str:
    """The text of `<name>.sql` for `schema`. The same string object each time: drivers cache plans by it.

    A `package` beside the queue and the worker has statements of its own.
    """
    file = statements()[name] if package is None else files(package).joinpath("sql", f"{name}.sql")
    return in_schema(file.read_text(encoding="utf-8"), schema)


@cache
def statements() -> dict[str, Traversable]:
    """The statements of the queue and of the worker, by name."""
    package = files("rowlock")
    rooms = [*package.joinpath("queue").iterdir(), package.joinpath("worker")]
    folders = [room.joinpath("sql") for room in rooms]
    return {file.name.removesuffix(".sql"): file for folder in folders if folder.is_dir() for file in folder.iterdir()}


def channel(schema: str, name: str = WAKEUP_CHANNEL) -> str:
    """The channel of this name in `schema`: by default the one on which its workers are woken."""
    return in_schema(name, schema)
