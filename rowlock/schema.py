"""The schema: the revision that this code needs, and its name in SQL, where every statement says `rowlock`."""

from __future__ import annotations

import re

REVISION = "0001"
"""The revision of the schema that this code works on: the newest migration's."""

VERSION_TABLE = "rowlock_version"
"""Where the revision is kept. Not Alembic's own name: in a schema that is shared, that is the application's."""

_QUALIFIER = re.compile(r"\browlock\.")


def in_schema(sql: str, schema: str) -> str:
    """The statement with each `rowlock.` naming `schema` instead.

    `schema` must be one that `Settings` accepted (1 to 48 of a-z, 0-9 and _): nothing in it can end the quotes.
    Files of SQL stay readable, and can be run by hand as they are, where a placeholder would be neither.
    """
    if schema == "rowlock":
        return sql
    return _QUALIFIER.sub(f'"{schema}".', sql)
