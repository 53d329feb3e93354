"""Judge the storage of the tables: vacuum, and the size of the archive. Pure, like `findings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rowlock.cli.show.findings import Finding, Row, fail, ok, warn
from rowlock.cli.show.output import counted
from rowlock.cli.show.tables import size

MUCH: Final = 10_000_000_000
"""Bytes from which an archive without retention is worth a warning."""
MANY_DAYS: Final = 100
"""Days from which it is."""
LOCKS_OF_A_DAY: Final = 4
"""The locks that a statement takes for each day that it cannot exclude: a partition and its indexes."""

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
"""The storage parameters that the migrations set on tables with many changes."""

_USUAL_THRESHOLD: Final = 50.0
_USUAL_SCALE: Final = 0.2
_LAGS_BY: Final = 10
_LEAST_DEAD: Final = 100_000
_LATE_BY: Final = 100_000_000
_CLOSE: Final = 1_500_000_000
"""Transactions: PostgreSQL stops accepting writes at 2.1 thousand million."""
_DAYS_NAMED: Final = 3


def judge_tables(schema: str, rows: Sequence[Row]) -> list[Finding]:
    """Judge storage parameters, dead rows and wraparound, from the rows of `doctor_tables.sql`."""
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
            detail = f"{row['name']} lacks {', '.join(wrong)}: dead rows may accumulate, and claims become slow"
            remedy = f"ALTER TABLE {schema}.{row['name']} SET ({', '.join(wrong)}); unless the change is deliberate."
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
            remedy = f"End what horizon reports; else VACUUM {schema}.{row['name']}; and raise autovacuum_max_workers."
            found.append(warn("dead rows", detail, remedy))
    return found


def _wraparound(schema: str, rows: Sequence[Row]) -> list[Finding]:
    oldest = max(rows, key=lambda row: row["age"] or 0, default=None)
    if oldest is None or (oldest["age"] or 0) <= oldest["freeze_max_age"] + _LATE_BY:
        return []
    judge = fail if oldest["age"] > _CLOSE else warn
    detail = (
        f"{oldest['name']} is {oldest['age']:,} transactions old: at 2,100,000,000 the server stops accepting writes"
    )
    remedy = f"End what horizon reports; then VACUUM (FREEZE) {schema}.{oldest['name']};"
    return [judge("wraparound", detail, remedy)]


def judge_archive(row: Row) -> Finding:
    """Judge the size of the archive, and whether it grows forever, from the row of `doctor_archive.sql`."""
    detail = f"{size(row['bytes'])} in {counted(row['days'], 'day')}, {size(row['yesterday'])} of it yesterday's"
    locks = LOCKS_OF_A_DAY * row["days"]
    if locks > row["room"] / 4:
        return warn(
            "archive",
            f"{detail}; SQL that reads it without bounds on finished_at takes {locks:,} locks of {row['room']:,}",
            "Raise max_locks_per_transaction (which needs a restart), or keep fewer days: rowlock retention keep '*' …",
        )
    if row["is_limited"]:
        return ok("archive", f"{detail}; retention: rowlock retention show")
    if row["bytes"] < MUCH and row["days"] < MANY_DAYS:
        return ok("archive", f"{detail}; kept forever; to limit it: rowlock retention keep")
    return warn(
        "archive",
        f"{detail}; kept forever",
        "Set how long you need it: rowlock retention keep '*' --succeeded 30d",
    )


def judge_overdue(rows: Sequence[Row]) -> Finding:
    """Find jobs that retention should have removed by now, from the rows of `doctor_overdue.sql`."""
    if not rows:
        return ok("retention", "nothing is overdue")
    days = sorted({str(row["day"]) for row in rows})
    named = ", ".join(days[:_DAYS_NAMED]) + (" …" if len(days) > _DAYS_NAMED else "")
    return warn(
        "retention",
        f"jobs past their retention remain on {counted(len(days), 'day')}: {named}",
        "Search the workers' logs for retention_postponed (long reads block that day) and duty_failed.",
    )


def _is_same(found: str | None, wanted: str) -> bool:
    """Whether both values are equivalent: PostgreSQL stores storage parameters as they were written."""
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
