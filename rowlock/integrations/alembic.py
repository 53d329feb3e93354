"""Alembic: keep the migrations of an application's own tables from dropping Rowlock's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rowlock.migrations.metadata import metadata
from rowlock.schema import VERSION_TABLE
from rowlock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_DAYS = ("finished_job_", "attempt_")
"""The prefixes of the names of partitions."""


def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
    """Whether an application's autogenerate and `alembic check` inspect this object: all objects but Rowlock's.

    For `context.configure(include_name=include_name)` in the application's `env.py`. It excludes the schema
    `ROWLOCK_SCHEMA`; in `public`, which the application shares then, it excludes Rowlock's tables by name.

    >>> context.configure(connection=connection, target_metadata=Base.metadata, include_name=include_name)
    """
    schema = Settings.from_environment().schema
    if kind == "schema":
        return name != schema or schema == "public"
    if kind != "table" or (parents.get("schema_name") or "public") != schema:
        return True
    ours = {VERSION_TABLE} | {table.name for table in metadata(schema).tables.values()}
    return name is not None and name not in ours and not name.startswith(_DAYS)


__all__ = ["include_name"]
