"""What the doctor concludes about vacuum and the archive's size."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from rowlock.cli.show import storage, tables

TABLE: dict[str, Any] = {
    "name": "attempt_20261123",
    "options": [],
    "live": 1000,
    "dead": 0,
    "vacuumed_at": None,
    "age": 1000,
    "freeze_max_age": 200_000_000,
}
DUTY = TABLE | {
    "name": "duty",
    "options": ["vacuum_truncate=off", "autovacuum_vacuum_threshold=50", "autovacuum_vacuum_scale_factor=0.10"],
}


def statuses(row: dict[str, Any]) -> dict[str, str]:
    found = storage.judge_tables("rowlock", [TABLE, row])
    assert all((finding.remedy is None) == (finding.status == "ok") for finding in found)
    return {finding.check: finding.status for finding in found if finding.status != "ok"}


def test_tables_as_they_should_be_are_ok() -> None:
    assert statuses(DUTY) == {}


@pytest.mark.parametrize(
    "changed, expected",
    [
        (TABLE | {"name": "duty"}, {"storage parameters": "warn"}),
        (DUTY | {"options": [*DUTY["options"][1:], "vacuum_truncate=on"]}, {"storage parameters": "warn"}),
        (DUTY | {"options": [*DUTY["options"], "autovacuum_enabled=FALSE"]}, {"storage parameters": "warn"}),
        (TABLE | {"dead": 100_001}, {"dead rows": "warn"}),
        (TABLE | {"dead": 100_001, "live": 1_000_000}, {}),
        (TABLE | {"dead": 100_001, "options": ["autovacuum_vacuum_threshold=50000"]}, {}),
        (TABLE | {"age": 250_000_000}, {}),
        (TABLE | {"age": 310_000_000}, {"wraparound": "warn"}),
        (TABLE | {"age": 1_600_000_000}, {"wraparound": "fail"}),
    ],
)
def test_what_makes_the_tables_slow_or_stops_them_is_found(changed: dict[str, Any], expected: dict[str, str]) -> None:
    assert statuses(changed) == expected


def test_remedy_can_be_pasted() -> None:
    (finding, *_) = storage.judge_tables("jobs", [DUTY | {"options": ["vacuum_truncate=false"]}])
    assert finding.remedy is not None
    assert finding.remedy.startswith(
        "ALTER TABLE jobs.duty SET (autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.1);"
    )
    lagging = TABLE | {"dead": 900_000, "vacuumed_at": datetime(2026, 11, 23, tzinfo=UTC)}
    (_, finding, _) = storage.judge_tables("jobs", [lagging])
    assert "VACUUM jobs.attempt_20261123;" in (finding.remedy or "")


@pytest.mark.parametrize(
    "bytes_, is_limited, status", [(9_999_999_999, False, "ok"), (10**10, False, "warn"), (10**12, True, "ok")]
)
def test_archive_that_grows_for_ever_is_named_once_it_is_large(bytes_: int, is_limited: bool, status: str) -> None:
    finding = storage.judge_archive(
        {"days": 40, "bytes": bytes_, "yesterday": 1_500_000_000, "is_limited": is_limited, "room": 6400}
    )
    assert finding.status == status
    assert "1.5 GB of it yesterday's" in finding.detail


def test_overdue_days_are_named() -> None:
    rows = [{"archive": "finished_job", "day": date(2026, 11, day)} for day in range(1, 6)]
    finding = storage.judge_overdue(rows)
    assert finding.status == "warn"
    assert "on 5 days: 2026-11-01, 2026-11-02, 2026-11-03 …" in finding.detail
    assert storage.judge_overdue([]).status == "ok"


@pytest.mark.parametrize(
    "count, text", [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (10**9, "1.0 GB"), (3 * 10**15, "3000.0 TB")]
)
def test_sizes_are_written_as_people_do(count: int, text: str) -> None:
    assert tables.size(count) == text


def test_an_archive_of_many_days_is_worth_a_warning() -> None:
    row = {"days": 99, "bytes": 1, "yesterday": 1, "is_limited": False, "room": 6400}
    assert storage.judge_archive(row).status == "ok"
    assert "ever" in storage.judge_archive(row | {"days": 100}).detail
    assert storage.judge_archive(row | {"days": 100}).status == "warn"
    assert storage.judge_archive(row | {"days": 400, "is_limited": True}).status == "ok"
    found = storage.judge_archive(row | {"days": 401, "is_limited": True})
    assert (found.status, "1,604 locks of 6,400" in found.detail) == ("warn", True)
