"""How the audit looks: without locks, in its time, as far as it is asked to, and by its command."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from rowlock import InvalidOption, Rowlock, Settings
from rowlock.queue.connect.database import Database
from rowlock.queue.read import audits
from rowlock.queue.read.audits import Scope, audit, days_back
from tests.db.audited import Connection, after_work, application, broken
from tests.db.commands import assert_refused, rowlock


@pytest.fixture
async def app(settings: Settings, connection: Connection) -> Rowlock:
    return await after_work(settings, connection)


async def test_it_says_how_far_it_looked(app: Rowlock, connection: Connection) -> None:
    found = {one.invariant: one for one in await audit(app.database, Scope(days=1, rows=3, seconds=60))}
    assert (found["job in both tables"].status, found["job in both tables"].looked_at) == ("partly", 3)
    assert found["job in both tables"].since is None
    assert found["duty left undone"].status == "kept"
    found = {one.invariant: one for one in await audit(app.database, Scope(days=3))}
    now = await connection.fetchval("SELECT now()")
    assert found["job in both tables"].since is not None
    assert timedelta(days=3) <= now - found["job in both tables"].since < timedelta(days=3, minutes=10)
    found = {one.invariant: one for one in await audit(app.database, Scope(days=None))}
    assert found["job in both tables"].since is not None
    assert found["job in both tables"].since.year == 1
    await app.close()


class Watched:
    """The audit's connection, which tells the locks that it holds after each statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.locks: set[tuple[str, str]] = set()
        self.settings: set[tuple[str, str]] = set()

    def transaction(self, **options: Any) -> Any:  # noqa: ANN401  # as asyncpg has it
        return self._connection.transaction(**options)

    async def fetch(self, sql: str, *parameters: object, timeout: float) -> list[asyncpg.Record]:
        rows = await self._connection.fetch(sql, *parameters, timeout=timeout)
        held = (
            "SELECT relation::regclass::text, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation IS NOT NULL"
        )
        self.locks |= {(row[0], row[1]) for row in await self._connection.fetch(held)}
        set_to = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        self.settings |= {tuple(row) for row in await self._connection.fetch(set_to)}
        return rows


async def test_it_takes_no_locks_but_those_of_any_select(
    app: Rowlock, settings: Settings, connection: Connection
) -> None:
    watched = Watched(connection)

    class Watching(Database):
        @asynccontextmanager
        async def connection(self, _name: str = "") -> AsyncIterator[Any]:
            yield watched

    assert await broken(Watching(settings)) == {}
    assert {mode for _, mode in watched.locks} == {"AccessShareLock"}
    assert {"rowlock.job", "rowlock.worker", "rowlock.unique_key"} <= {relation for relation, _ in watched.locks}
    assert watched.settings == {("repeatable read", "on")}
    await app.close()


async def test_it_does_not_wait_for_long_for_a_lock(
    app: Rowlock, database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "LOCK_TIMEOUT", "50ms")
    async with connection.transaction():
        await connection.execute("LOCK TABLE rowlock.unique_key IN ACCESS EXCLUSIVE MODE")
        found = {one.invariant: one for one in await audit(app.database)}
        assert found["unique key without its job"].status == "unknown"
        assert "another transaction locked the table" in (found["unique key without its job"].why_not or "")
        assert found["job in both tables"].status == "kept", "it goes on with what is not locked"
        done = await rowlock("audit", "--seconds", "30", url=database_url)
        assert done.code == 2
        assert "Not everything was checked" in done.err
    await app.close()


async def test_it_ends_when_its_time_is_over(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "LOCK_TIMEOUT", "0")
    async with connection.transaction():
        await connection.execute("LOCK TABLE rowlock.worker IN ACCESS EXCLUSIVE MODE")
        found = {one.invariant: one for one in await audit(app.database, Scope(seconds=0.3))}
    assert {name for name, one in found.items() if one.status == "unknown"} == set(found), "the first one took it all"
    assert {one.why_not for one in found.values()} == {"the time limit of 0.3 s was reached"}
    await app.close()


async def test_the_command_says_what_is_broken(app: Rowlock, database_url: str, connection: Connection) -> None:
    done = await rowlock("audit", url=database_url)
    assert (done.code, done.err) == (0, ""), done.out
    await connection.execute("INSERT INTO rowlock.unique_key (key, job_id) VALUES ('work:\x1b[2J', gen_random_uuid())")
    done = await rowlock("audit", "--days", "1", url=database_url)
    assert done.code == 1
    assert "unique key without its job: key work:\\x1b[2J is held by job" in done.out
    told = {
        one["invariant"]: one for one in json.loads((await rowlock("audit", "--all", "--json", url=database_url)).out)
    }
    assert told["unique key without its job"]["status"] == "broken"
    assert told["unique key without its job"]["count"] == 1
    assert told["job in both tables"]["status"] == "kept"
    await app.close()


@pytest.mark.parametrize(
    "option, value",
    [
        ("days", 0),
        ("days", 36_501),
        ("days", 999_999_999_999),
        ("days", True),
        ("days", 1.5),
        ("rows", 0),
        ("rows", 3_000_000_000),
        ("seconds", 0),
        ("seconds", float("nan")),
        ("seconds", float("inf")),
        ("seconds", 86_401),
    ],
)
def test_a_scope_that_makes_no_sense_is_refused(option: str, value: object) -> None:
    with pytest.raises(InvalidOption, match=rf"^{option} must be a .*; got .*\. (Give|Omit) .*\.$") as refused:
        Scope(**{option: value})  # type: ignore[arg-type]  # what a caller without types may give
    assert refused.value.option == option


async def test_the_widest_scope_is_looked_at(settings: Settings) -> None:
    async with application(settings) as app:
        widest = Scope(days=audits.MOST_DAYS, rows=audits.MOST_ROWS, seconds=audits.MOST_SECONDS)
        assert {one.status for one in await audit(app.database, widest)} <= {"kept", "empty"}


@pytest.mark.parametrize(
    "given",
    [
        ("--days", "800000"),
        ("--days", "999999999999"),
        ("--days", "0"),
        ("--rows", "3000000000"),
        ("--rows", "0"),
        ("--seconds", "nan"),
        ("--seconds", "-1"),
        ("--all", "--seconds", "inf"),
    ],
)
async def test_the_command_refuses_what_makes_no_sense(given: tuple[str, ...], database_url: str) -> None:
    done = await rowlock("audit", *given, url=database_url)
    assert (done.code, done.out) == (2, "")
    assert given[-2].removeprefix("--") in done.err
    assert "Traceback" not in done.err


async def test_the_command_cannot_look_at_what_is_not_there(empty_database_url: str) -> None:
    assert_refused(await rowlock("audit", url=empty_database_url), "rowlock migrate")


def test_an_archive_is_read_from_the_future_back_to_its_beginning() -> None:
    now, day = datetime(2026, 11, 30, 12, tzinfo=UTC), timedelta(days=1)
    today = datetime(2026, 11, 30, tzinfo=UTC)
    spans = list(days_back(now, now - 2 * day, today - 40 * day))
    assert spans[1:] == [(today - day, today), (now - 2 * day, today - day)]
    assert spans[0][0] == today
    assert spans[0][1].year == 9999
    spans = list(days_back(now, datetime(1, 1, 2, tzinfo=UTC), today - day))
    assert spans[-1] == (datetime(1, 1, 2, tzinfo=UTC), today - day)
    assert len(spans) == 3
