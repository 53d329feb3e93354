"""`rowlock schedules`, as the real executable."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.db.commands import assert_refused, rowlock, with_tasks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_tasks(tmp_path)


async def test_schedule_is_created_shown_changed_run_and_deleted(
    database_url: str, folder: Path, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async def say(*words: str) -> Any:  # noqa: ANN401  # JSON
        done = await rowlock("schedules", *words, "--json", url=database_url, cwd=folder)
        assert (done.code, done.err) == (0, "")
        return json.loads(done.out)

    created = await say(
        *("create", "greet", "hello", "0 9 * * MON", '{"name": "Ada"}', "--app=tasks:app"),
        *("--timezone=Europe/Berlin", "--jitter=5", "--misfire=all", "--overlap=skip", "--priority=7"),
    )
    assert (created["cron"], created["timezone"], created["args"]) == ("0 9 * * MON", "Europe/Berlin", {"name": "Ada"})
    assert (created["jitter"], created["misfire"], created["overlap"], created["priority"]) == (5, "all", "skip", 7)
    assert await say("list") == [created]
    seen = await say("show", "greet")
    assert seen == created | {"ticks": [], "next_ticks": seen["next_ticks"]}
    assert seen["next_ticks"][0] == created["next_run_at"]
    edited = await say("edit", "greet", "--cron=@daily", "--args", '{"name": "Bob"}', "--app=tasks:app")
    assert (edited["cron"], edited["args"], edited["misfire"]) == ("@daily", {"name": "Bob"}, "all")
    assert (await say("pause", "greet"))["is_paused"]
    assert not (await say("resume", "greet"))["is_paused"]
    job = await say("run", "greet")
    assert str(await connection.fetchval("SELECT id FROM rowlock.job")) == job["id"]
    done = await rowlock("schedules", "delete", "greet", url=database_url)
    assert (done.code, done.out) == (0, "The schedule greet is deleted.\n")
    rows = await connection.fetch("SELECT verb, by, source FROM rowlock.operation ORDER BY id")
    assert [row["verb"] for row in rows] == ["create", "edit", "pause", "resume", "run", "delete"]
    assert {(row["by"], row["source"]) for row in rows} == {(getpass.getuser(), "cli")}


async def test_schedules_are_told_to_people(
    database_url: str, folder: Path, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    none = await rowlock("schedules", "list", url=database_url)
    assert (none.code, none.out, none.err) == (0, "", "No schedules.\n")
    made = await rowlock(
        "schedules",
        "create",
        "greet",
        "hello",
        "@daily",
        '{"name": "A"}',
        "--app=tasks:app",
        url=database_url,
        cwd=folder,
    )
    assert made.out.startswith("greet next runs at ")
    job = await connection.fetchval(
        "INSERT INTO rowlock.schedule_tick (schedule, tick_at, job_id) "
        "VALUES ('greet', '2026-01-01', rowlock.uuid7()) RETURNING job_id"
    )
    listed = await rowlock("schedules", "list", url=database_url)
    assert listed.out.splitlines()[0].split() == ["NAME", "TASK", "CRON", "ZONE", "NEXT", "LAST", "ORIGIN"]
    assert listed.out.splitlines()[1].split()[:4] == ["greet", "hello", "@daily", "UTC"]
    shown = await rowlock("schedules", "show", "greet", url=database_url)
    assert f"{job}  removed" in shown.out


@pytest.mark.parametrize(
    "words, said, code",
    [
        (("show", "none"), 'There is no schedule "none"', 1),
        (("run", "none"), 'There is no schedule "none"', 1),
        (("delete", "none"), 'There is no schedule "none"', 1),
        (("create", "one", "hello", "0 9 * *", "--app=tasks:app"), 'cron must be a cron text; got "0 9 * *"', 2),
        (("create", "one", "hello", "@daily", "--app=tasks:app"), "name", 2),
        (("create", "one", "hello", "@daily", "{}", "--timezone=Mars", "--app=tasks:app"), '; got "Mars"', 2),
        (("create", "one", "hello", "*/30 2 * 3 7L", "{}", "--timezone=Europe/Berlin"), "cron must mean a time", 2),
        (("create", "one", "nothing", "@daily"), 'The task "nothing" is not known', 2),
        (("edit", "one"), "At least one option", 2),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    words: tuple[str, ...], said: str, code: int, database_url: str, folder: Path
) -> None:
    assert_refused(await rowlock("schedules", *words, url=database_url, cwd=folder), said, code)
