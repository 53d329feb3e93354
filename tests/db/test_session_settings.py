"""What is written and read as text means the same whatever the session's settings are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

ODD_SETTINGS = [
    ("Asia/Shanghai", "SQL, DMY"),  # prints CST, which is read as a time of America
    ("Asia/Shanghai", "SQL, YMD"),
    ("Asia/Kathmandu", "German"),
    ("America/Sao_Paulo", "Postgres, MDY"),
    ("-13", "ISO, DMY"),
]
BOUNDS = (
    "SELECT pg_get_expr(child.relpartbound, child.oid) FROM pg_class AS child "
    "WHERE child.oid = to_regclass('rowlock.finished_job_20200301')"
)


async def set_oddly(connection: Connection, time_zone: str, date_style: str) -> None:
    await connection.execute(
        f"SET TimeZone = '{time_zone}'; SET DateStyle = '{date_style}'; SET IntervalStyle = 'iso_8601'"
    )


@pytest.mark.parametrize("time_zone, date_style", ODD_SETTINGS)
async def test_a_day_of_the_archive_begins_at_midnight_utc(
    time_zone: str, date_style: str, connection: Connection
) -> None:
    await set_oddly(connection, time_zone, date_style)
    assert await connection.fetchval("SELECT rowlock.create_partition('finished_job', '2020-03-01')")
    await connection.execute("RESET ALL; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'")
    assert re.findall(r"'([^']+)'", await connection.fetchval(BOUNDS)) == [
        "2020-03-01 00:00:00+00",
        "2020-03-02 00:00:00+00",
    ]


@pytest.mark.parametrize("time_zone, date_style", ODD_SETTINGS)
async def test_retention_removes_what_is_past_its_time_and_nothing_else(
    time_zone: str, date_style: str, connection: Connection
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.queue (name, keep_succeeded) VALUES ('*', '1 hour') "
        "ON CONFLICT (name) DO UPDATE SET keep_succeeded = excluded.keep_succeeded"
    )
    await connection.execute(
        "SELECT rowlock.create_partition('finished_job', (now() AT TIME ZONE 'UTC')::date - n) "
        "FROM generate_series(1, 2) AS n"
    )
    for ago in ("1 minute", "2 days"):
        await connection.execute(
            "INSERT INTO rowlock.finished_job (id, run_at, created_at, finished_at, attempt, max_attempts, errors, "
            "crashes, priority, state, queue, task, args) "
            "SELECT rowlock.uuid7(), now(), now(), now() - $1::text::interval, 1, 1, 0, 0, 5, 'succeeded', 'default', "
            "$1, '{}'",
            ago,
        )
    await set_oddly(connection, time_zone, date_style)
    for row in await connection.fetch("SELECT archive, day FROM rowlock.archive_day"):
        await connection.fetch("SELECT * FROM rowlock.retain_day($1, $2)", row["archive"], row["day"])
    assert [row[0] for row in await connection.fetch("SELECT task FROM rowlock.finished_job")] == ["1 minute"]


async def test_each_function_that_builds_statements_says_how_times_are_written(connection: Connection) -> None:
    """They come to text and back: in a function that pins neither setting, they come back as other times."""
    rows = await connection.fetch(
        "SELECT proname, coalesce(array_to_string(proconfig, ';'), '') AS settings FROM pg_proc "
        "WHERE pronamespace = 'rowlock'::regnamespace AND (prosrc ~* 'execute\\s+format' OR prosrc ~ '%[0-9$]*L')"
    )
    assert {row["proname"] for row in rows} >= {
        "create_partition",
        "retain_day",
        "retain_default",
        "drop_day",
        "what_stays",
    }
    for row in rows:
        settings = row["settings"].lower()
        assert "timezone=utc" in settings, row["proname"]
        assert "datestyle=iso" in settings, row["proname"]


async def test_ids_are_made_whatever_a_backslash_means(connection: Connection) -> None:
    await connection.execute("SET standard_conforming_strings = off; SET escape_string_warning = off")
    assert (await connection.fetchval("SELECT rowlock.enqueue('noop')")).version == 7


async def test_what_is_too_far_away_does_not_depend_on_the_time_zone(connection: Connection) -> None:
    for time_zone in ("Pacific/Kiritimati", "-12"):
        await set_oddly(connection, time_zone, "ISO, YMD")
        assert await connection.fetchval("SELECT rowlock.enqueue('noop', run_at => '9999-12-30 23:59:59+00')")
        with pytest.raises(asyncpg.InvalidParameterValueError, match="too far away"):
            await connection.fetchval("SELECT rowlock.enqueue('noop', run_at => '9999-12-31 00:00:00+00')")
