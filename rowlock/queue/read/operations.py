"""Read the table `operation`: the acts of operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs.fields import Moment
from rowlock.queue.jobs.json_values import find_defect, plain_json
from rowlock.queue.read.pages import check_before, check_limit
from rowlock.words import quoted

if TYPE_CHECKING:
    from rowlock.queue.connect.database import Database


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table `operation`: who did what to what, when and from where (`python`, `cli`, `http`, `sql`)."""

    id: UUID
    at: Moment
    verb: str
    target_kind: str
    target: str | None
    by: str | None
    source: str
    details: dict[str, Any]


async def list_operations(
    database: Database,
    *,
    verb: str | None = None,
    target_kind: str | None = None,
    target: str | None = None,
    before: UUID | None = None,
    limit: int,
) -> list[Operation]:
    """A page of operations, newest first."""
    check_before(before)
    check_limit(limit)
    criteria: dict[str, object] = {"verb": verb, "target_kind": target_kind, "target": target}
    for name, value in criteria.items():
        if value is not None and (not isinstance(value, str) or find_defect(value) is not None):
            raise InvalidOption(f"{name} must be text that PostgreSQL can store; got {quoted(value)}.", option=name)
    rows = await database.run("list_operations", verb, target_kind, target, before, limit)
    return [Operation(**{**row, "details": plain_json(row["details"])}) for row in rows]
