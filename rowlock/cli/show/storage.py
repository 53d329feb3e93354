"""What the doctor makes of how the tables are stored: vacuum, and the size of the archive. Pure, like `findings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rowlock.cli.show.findings import Finding, Row, fail, ok, warn
from rowlock.cli.show.output import counted
from rowlock.cli.show.tables import size

MUCH: Final = 10_000_000_000
"""From how many bytes on an archive that is kept for ever is worth a warning."""
MANY_DAYS: Final = 100
"""From how many days on one is."""
LOCKS_OF_A_DAY: Final = 4
"""A partition and its indexes: so many locks a statement takes of each day that it does not rule out."""

_FALSE: Final = frozenset({"false", "off", "no", "0"})
_ALWAYS: Final = {"vacuum_truncate": "false"}
_SMALL: Final = _ALWAYS | {"autovacuum_vacuum_threshold": "50", "autovacuum_vacuum_scale_factor": "0.1"}
MIGRATED: Final[Mapping[str, Mapping[str, str]]] = {
    "job": {
        **_ALWAYS,
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_vacuum_cost_delay": "0",
        "toast.autovacuum_vacuum_cost_delay": "0",
        "toast.vacuum_truncate": "false",
    },
    "unique_key": {**_ALWAYS, "autovacuum_vacuum_scale_factor": "0.05", "autovacuum_vacuum_cost_delay": "0"},
    "idempotency_key": {**_ALWAYS, "autovacuum_vacuum_scale_factor": "0.05"},
    "progress": {**_ALWAYS, "autovacuum_vacuum_scale_factor": "0.05"},
    "worker": _SMALL,
    "idle_worker": _SMALL,
    "waiter": _SMALL,
    "duty": _SMALL,
}
"""The storage parameters that the migrations set, where rows come and go."""

_USUAL_THRESHOLD: Final = 50.0
_USUAL_SCALE: Final = 0.2
_LAGS_BY: Final = 10
_LEAST_DEAD: Final = 100_000
_LATE_BY: Final = 100_000_000
_CLOSE: Final = 1_500_000_000
"""Transactions: PostgreSQL stops taking writes at 2.1 thousand million."""
_DAYS_NAMED: Final = 3


def judge_tables(schema: str, rows: Sequence[Row]) -> list[Finding]:
    """Storage parameters, dead rows and wraparound, from the rows of `doctor_tables.sql`."""
    return [
        *(_parameters(schema, rows) or [ok("storage parameters", "as the migrations set them")]),
        *(_dead_rows(schema, rows) or [ok("dead rows", "autovacuum keeps up")]),
        *(_wraparound(schema, rows) or [ok("wraparound", "no table is old")]),
    ]


def _parameters(schema: str, rows: Sequence[Row]) -> list[Finding]:
    found = []
    for row in rows:
        options = _options(row)
        wrong = [
            f"{name} = {value}"
            for name, value in MIGRATED.get(row["name"], {}).items()
            if not _is_same(options.get(name), value)
        ]
        if options.get("autovacuum_enabled", "true").lower() in _FALSE:
            wrong.append("autovacuum_enabled = true")
        if wrong:
            detail = f"{row['name']} has others than {', '.join(wrong)}: dead rows may pile up, and claims become slow"
            remedy = f"ALTER TABLE {schema}.{row['name']} SET ({', '.join(wrong)}); unless you know better."
            found.append(warn("storage parameters", detail, remedy))
    return found


def _dead_rows(schema: str, rows: Sequence[Row]) -> list[Finding]:
    found = []
    for row in rows:
        options = _options(row)
        scale = float(options.get("autovacuum_vacuum_scale_factor", _USUAL_SCALE))
        due = float(options.get("autovacuum_vacuum_threshold", _USUAL_THRESHOLD)) + scale * row["live"]
        if row["dead"] > max(_LAGS_BY * due, _LEAST_DEAD):
            last = "never vacuumed" if row["vacuumed_at"] is None else f"last vacuumed at {row['vacuumed_at']}"
            detail = f"{row['name']} has {row['dead']:,} dead rows beside {row['live']:,} live ones; {last}"
            remedy = (
                f"End what the horizon shows; else VACUUM {schema}.{row['name']}; and raise autovacuum_max_workers."
            )
            found.append(warn("dead rows", detail, remedy))
    return found


def _wraparound(schema: str, rows: Sequence[Row]) -> list[Finding]:
    oldest = max(rows, key=lambda row: row["age"] or 0, default=None)
    if oldest is None or (oldest["age"] or 0) <= oldest["freeze_max_age"] + _LATE_BY:
        return []
    judge = fail if oldest["age"] > _CLOSE else warn
    detail = f"{oldest['name']} is {oldest['age']:,} transactions old: at 2,100,000,000 the server takes no more writes"
    remedy = f"End what the horizon shows; then VACUUM (FREEZE) {schema}.{oldest['name']};"
    return [judge("wraparound", detail, remedy)]


def judge_archive(row: Row) -> Finding:
    """How large the archive is, and whether it grows for ever, from the row of `doctor_archive.sql`."""
    detail = f"{size(row['bytes'])} in {counted(row['days'], 'day')}, {size(row['yesterday'])} of it yesterday's"
    locks = LOCKS_OF_A_DAY * row["days"]
    if locks > row["room"] / 4:
        return warn(
            "archive",
            f"{detail}; SQL that reads it without bounds on finished_at takes {locks:,} locks of {row['room']:,}",
            "Raise max_locks_per_transaction (which needs a restart), or keep less: rowlock retention keep '*' …",
        )
    if row["is_limited"]:
        return ok("archive", f"{detail}; what is kept how long: rowlock retention show")
    if row["bytes"] < MUCH and row["days"] < MANY_DAYS:
        return ok("archive", f"{detail}; kept for ever, unless you say otherwise: rowlock retention keep")
    return warn(
        "archive",
        f"{detail}; nothing of it ever goes",
        "Say how long you need it: rowlock retention keep '*' --succeeded 30d",
    )


def judge_overdue(rows: Sequence[Row]) -> Finding:
    """What retention should have removed by now, from the rows of `doctor_overdue.sql`."""
    if not rows:
        return ok("retention", "nothing is overdue")
    days = sorted({str(row["day"]) for row in rows})
    named = ", ".join(days[:_DAYS_NAMED]) + (" …" if len(days) > _DAYS_NAMED else "")
    return warn(
        "retention",
        f"what is past its time of {counted(len(days), 'day')} is still there: {named}",
        "Look for retention_postponed (somebody always reads that day) and duty_failed in the workers' logs.",
    )


def _is_same(found: str | None, wanted: str) -> bool:
    """Whether they mean the same: PostgreSQL keeps storage parameters as they were written."""
    if found is None:
        return False
    if wanted == "false":
        return found.lower() in _FALSE
    try:
        return float(found) == float(wanted)
    except ValueError:
        return False


def _options(row: Row) -> dict[str, str]:
    return {name: value for name, _, value in (option.partition("=") for option in row["options"])}
