"""Statements for drivers with named parameters, `%(1)s` for `$1`: psycopg, psycopg2, Django."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Sequence

IN_FAILED_TRANSACTION: Final = "25P02"
"""The SQLSTATE of a statement in a transaction that has failed."""

_COMMENT: Final = re.compile(r"^\s*--.*\n?|\s+-- .*$", re.MULTILINE)
_PARAMETER: Final = re.compile(r"\$(\d+)")


@lru_cache(maxsize=256)
def pyformat(sql: str) -> str:
    """Rewrite the statement with named parameters and without comments: psycopg2 would write values into them."""
    return _PARAMETER.sub(r"%(\1)s", _COMMENT.sub("", sql).replace("%", "%%"))


def named(parameters: Sequence[object]) -> dict[str, object]:
    """Number the parameters. UUIDs become text: psycopg2 knows them only if the application has registered the type."""
    return {str(number): _plain(value) for number, value in enumerate(parameters, 1)}


def _plain(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case list():
            return [_plain(one) for one in value]
        case _:
            return value
