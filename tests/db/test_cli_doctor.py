"""The doctor: silent where all is well, and exact about what is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings, migrations
from rowlock.cli.commands.doctor import examine
from rowlock.cli.show.catalogue import PARTS, judge_catalogue
from rowlock.cli.show.findings import judge_horizon
from rowlock.embedded import EmbeddedServer, make_private_directory, temporary_server
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.statements import statement
from tests.db.commands import Done, assert_refused, rowlock

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rowlock.{}'::regclass"


@pytest.fixture(scope="module")
def durable() -> Iterator[EmbeddedServer]:
    """A server as it should be set, with a role that has to give its password."""
    folder = make_private_directory("rowlock-hba-")
    rules = folder / "pg_hba.conf"
    rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    rules.chmod(0o644)
    with temporary_server(durable=True, settings={"hba_file": str(rules)}) as server:
        migrations.upgrade(Settings(database_url=server.url))
        yield server
    shutil.rmtree(folder)


def statuses(done: Done) -> dict[str, str]:
    document: dict[str, Any] = json.loads(done.out)
    assert document["ok"] == (done.code == 0)
    assert all((finding["status"] == "ok") == (finding["remedy"] is None) for finding in document["findings"])
    return {finding["check"]: finding["status"] for finding in document["findings"] if finding["status"] != "ok"}


async def test_doctor_finds_nothing_where_all_is_well(durable: EmbeddedServer) -> None:
    app = Rowlock(durable.url)

    @app.task
    async def noop() -> None: ...

    async with app, app.worker():
        done = await rowlock("doctor", "--json", url=durable.url)
        assert statuses(done) == {}
        for_people = await rowlock("doctor", url=durable.url)
        assert (for_people.code, for_people.err) == (0, "")
        assert "1 alive" in for_people.out
    alone = await rowlock("doctor", "--json", url=durable.url)
    assert (alone.code, statuses(alone)) == (0, {"workers": "warn"})


async def test_the_names_that_the_doctor_looks_for_are_those_that_the_migrations_make(
    settings: Settings, connection: Connection
) -> None:
    rows = await connection.fetch(statement("doctor_catalogue", settings.schema))
    assert {(row["kind"], row["name"]) for row in rows} == PARTS
    assert judge_catalogue(rows)[0].status == "ok"


@pytest.mark.parametrize(
    "damage, detail",
    [
        ("DROP INDEX rowlock.job_claim", "missing: index job_claim"),
        ("ALTER TABLE rowlock.job DROP CONSTRAINT job_pkey", "missing: constraint job.job_pkey, index job_pkey"),
        ("ALTER TABLE rowlock.job DROP CONSTRAINT job_worker_iff_running", "missing: constraint job.job_worker_iff"),
        ("DROP FUNCTION rowlock.find_job", "missing: function find_job"),
        ("DROP VIEW rowlock.jobs CASCADE", "missing: function find_job, view jobs"),
        (INVALID.format("job_claim"), "invalid, and not used: index job_claim"),
        (
            "CREATE INDEX left_over ON rowlock.job (task); " + INVALID.format("left_over"),
            "invalid, but still maintained: index left_over",
        ),
        (
            INVALID.format("finished_job_20260131_id_idx"),
            "invalid, and not used: partition's index finished_job_20260131_id_idx",
        ),
        (
            "UPDATE pg_constraint SET convalidated = false WHERE conname = 'job_queue_length'",
            "not validated: constraint job.job_queue_length",
        ),
        (
            "ALTER TABLE rowlock.finished_job DETACH PARTITION rowlock.finished_job_20260131",
            "detached from the archive: partition finished_job_20260131",
        ),
        ("ALTER TABLE rowlock.attempt DETACH PARTITION rowlock.attempt_default", "missing: table attempt_default"),
    ],
)
async def test_doctor_sees_what_is_missing_or_for_nothing(
    settings: Settings, connection: Connection, damage: str, detail: str
) -> None:
    await connection.execute("SELECT rowlock.create_partition('finished_job', '2026-01-31')")
    await connection.execute(damage)
    found = [finding for finding in await examine(settings) if finding.check == "catalogue"]
    assert found[0].status == ("warn" if "left_over" in damage else "fail")
    assert found[0].detail.startswith(detail)


async def test_wrong_password_is_explained_and_not_shown(durable: EmbeddedServer) -> None:
    url = durable.url.replace("postgres@", "postgres2:secret@")
    for command in ("migrate", "jobs list"):
        done = await rowlock(*command.split(), url=url)
        assert_refused(done, "password authentication failed")
        assert "secret" not in done.err
    done = await rowlock("doctor", "--json", url=url)
    assert statuses(done) == {"connection": "fail"}
    assert "secret" not in done.out


async def test_doctor_finds_what_is_wrong(database_url: str, connection: Connection) -> None:
    name = await connection.fetchval("SELECT current_database()")
    for setting in ("synchronous_commit = off", "default_transaction_isolation = 'serializable'"):
        await connection.execute(f"ALTER DATABASE {name} SET {setting}")
    day = await connection.fetchval("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    await connection.execute(f"DROP TABLE rowlock.finished_job_{day}")
    await connection.execute(
        "INSERT INTO rowlock.attempt_default (job_id, attempt, outcome, queue, task, finished_at) "
        "VALUES (gen_random_uuid(), 1, 'error', 'default', 'old', now() - interval '9 days')"
    )
    await connection.fetchval("SELECT rowlock.enqueue('unheard_of')")
    await connection.execute("ALTER TABLE rowlock.unique_key SET UNLOGGED")
    await connection.execute("ALTER TABLE rowlock.job SET (autovacuum_vacuum_scale_factor = 0.2)")
    await connection.execute("SELECT rowlock.create_partition('finished_job', '2026-01-31')")
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args) VALUES (gen_random_uuid(), 'old', 'failed', 1, 0, now(), now(), "
        "'2026-01-31 12:00Z', 10, 1, 5, 'default', '{}')"
    )
    await connection.execute(
        "INSERT INTO rowlock.queue (name, keep_failed, updated_at) VALUES ('*', '1 day', now() - interval '1 day')"
    )
    assert statuses(await rowlock("doctor", "--json", url=database_url)) == {
        "fsync": "fail",
        "full_page_writes": "fail",
        "synchronous_commit": "fail",
        "default_transaction_isolation": "warn",
        "logged tables": "fail",
        "partitions": "warn",
        "default partitions": "warn",
        "retention": "warn",
        "storage parameters": "warn",
        "workers": "warn",
        "unclaimed jobs": "warn",
        "dead letters": "warn",
    }


async def test_doctor_says_how_to_make_the_schema(empty_database_url: str) -> None:
    done = await rowlock("doctor", url=empty_database_url)
    assert done.code == 1
    assert "Run: rowlock migrate" in done.out
    assert "partitions" not in done.out


async def test_doctor_needs_no_rights_on_what_it_cannot_see(database_url: str, connection: Connection) -> None:
    await connection.execute("DROP ROLE IF EXISTS outsider")
    await connection.execute("CREATE ROLE outsider LOGIN")
    try:
        url = database_url.replace("postgres@", "outsider@", 1)
        found = statuses(await rowlock("doctor", "--json", url=url, ROWLOCK_LISTEN="false"))
        assert found["schema"] == "fail"
    finally:
        await connection.execute("DROP ROLE outsider")


async def test_horizon_shows_who_holds_it(database_url: str, connection: Connection, settings: Settings) -> None:
    async with connection.transaction(isolation="repeatable_read"):
        mine = str(await connection.fetchval("SELECT pg_backend_pid()"))
        database = Database(settings)
        rows = await database.run("doctor_horizon", timedelta(0), timedelta(0))
        await database.close()
    assert [(row["kind"], row["state"]) for row in rows if row["name"] == mine] == [
        ("transaction", "idle in transaction")
    ]


@pytest.mark.parametrize("value", ["http://secret", "postgresql://ada:secret@127.0.0.1:1/app"])
async def test_doctor_shows_no_secrets(value: str) -> None:
    done = await rowlock("doctor", url=value)
    assert done.code == 1
    assert "secret" not in done.out + done.err


async def horizon(settings: Settings) -> list[tuple[str, str]]:
    found = [finding for finding in await examine(settings) if finding.check == "horizon"]
    return [(finding.status, finding.detail) for finding in found]


async def test_a_slot_that_nobody_uses_is_named(settings: Settings, connection: Connection) -> None:
    await connection.execute("SELECT pg_create_physical_replication_slot('abandoned', true)")
    try:
        found = await horizon(settings)
    finally:
        await connection.execute("SELECT pg_drop_replication_slot('abandoned')")
    assert [status for status, detail in found if "abandoned is unused, and keeps" in detail] == ["warn"]


def test_what_keeps_dead_rows_is_named() -> None:
    slot = {"kind": "slot", "name": "s", "is_in_use": False, "transactions": 7, "wal_bytes": 1024**2, "sees_all": True}
    (found,) = judge_horizon([], [slot])
    assert found.detail == (
        "the replication slot s is unused, and keeps dead rows of the last 7 transactions and 1 MB of WAL"
    )
    (found,) = judge_horizon([], [slot | {"is_in_use": True}])
    assert (found.status, "hot_standby_feedback" in (found.remedy or "")) == ("warn", True)
    (found,) = judge_horizon([], [slot | {"kind": "standby", "wal_bytes": None}])
    assert found.detail == "the standby s keeps dead rows of the last 7 transactions (hot_standby_feedback)"


def test_nothing_is_called_well_that_this_role_does_not_see() -> None:
    nothing = dict.fromkeys(("kind", "name", "is_in_use", "transactions", "wal_bytes"))
    assert [finding.status for finding in judge_horizon([], [nothing | {"sees_all": True}])] == ["ok"]
    (found,) = judge_horizon([], [nothing | {"sees_all": False}])
    assert (found.status, "pg_read_all_stats" in (found.remedy or "")) == ("warn", True)
