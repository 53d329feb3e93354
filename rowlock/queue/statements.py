"""The SQL: one file a statement in `queue/sql/`, read once, and written for the configured schema."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from rowlock.schema import in_schema

WAKEUP_CHANNEL = "rowlock.wakeup"
"""The NOTIFY channel, as the statements spell it; `channel()` names it for a schema."""

FINISHED_CHANNEL = "rowlock.finished"
"""The NOTIFY channel of those who wait for jobs to end, likewise."""


@lru_cache(maxsize=256)
def statement(name: str, schema: str, package: str = "rowlock.queue") -> str:
    """The text of `queue/sql/<name>.sql` for `schema`. The same string object each time: drivers cache plans by it."""
    text = files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return in_schema(text, schema)


def channel(schema: str, name: str = WAKEUP_CHANNEL) -> str:
    """The channel of this name in `schema`: by default the one on which its workers are woken."""
    return in_schema(name, schema)
