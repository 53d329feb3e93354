"""The schema: the revision that this code needs, and the schema's name in SQL."""

from __future__ import annotations

import re

REVISION = "0001"
"""The revision of the schema that this code works on: the newest migration's."""

VERSION_TABLE = "rowlock_version"
"""The table of the revision. Not Alembic's own name: in a shared schema, that table belongs to the application."""

_QUALIFIER = re.compile(r"\browlock\.")


def in_schema(sql: str, schema: str) -> str:
    """Replace each `rowlock.` in the statement by `schema`.

    `Settings` must have accepted `schema` (1 to 48 of a-z, 0-9 and _): it cannot end the quotes.
    With `rowlock.` instead of a placeholder, SQL files stay readable and can be run by hand as they are.
    """
    if schema == "rowlock":
        return sql
    return _QUALIFIER.sub(f'"{schema}".', sql)
