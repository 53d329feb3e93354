"""`rowlock doctor`: check everything that Rowlock depends on, and name the remedy of each fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import fields
from datetime import timedelta
from typing import Any, Final

import asyncpg
import click
from rich.text import Text

from rowlock.cli.run import running
from rowlock.cli.show import audited, catalogue, findings, storage
from rowlock.cli.show.findings import Finding
from rowlock.cli.show.output import Exit, clean, print_json, with_json
from rowlock.cli.show.tables import print_text, state
from rowlock.errors import ConfigurationError, RowlockError, SchemaNotMigrated
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.server_errors import NotAllowed
from rowlock.queue.connect.statements import statement
from rowlock.queue.read import audits, overview
from rowlock.queue.read.unclaimed import LOOKED_AT
from rowlock.schema import in_schema
from rowlock.settings import Settings

OLD_TRANSACTION: Final = timedelta(minutes=10)
OLD_XMIN: Final = 100_000
"""The most transactions by which a standby's feedback may lag: at a thousand a second a minute and a half."""
LEFT_PREPARED: Final = timedelta(minutes=1)
OVERDUE: Final = timedelta(hours=3)
NOTIFY_SECONDS: Final = 3.0
REMEDY_OF_RIGHTS: Final = "Run the doctor as the role that owns the schema (docs/security.md, Roles at PostgreSQL)."


@click.command("doctor")
@with_json
def command(as_json: bool) -> int:  # noqa: FBT001  # click's
    """Check the settings, the server, the schema and the workers.

    Exits with 0 if nothing failed (there may be warnings), else with 1.
    """
    shown: dict[str, str] = {}
    try:
        settings = Settings.from_environment()
    except ConfigurationError as error:
        found = [findings.fail("settings", str(error), "Correct the environment variable.")]
    else:
        shown = _shown(settings)
        found = [findings.ok("settings", "are valid"), *running.run(examine(settings))]
    is_ok = all(finding.status != "fail" for finding in found)
    if as_json:
        print_json({"ok": is_ok, "settings": shown, "findings": found})
    else:
        _print(shown, found)
    return Exit.DONE if is_ok else Exit.NO


async def examine(settings: Settings) -> list[Finding]:
    """Run all checks that are possible: without a server, the schema cannot be checked."""
    database = Database(settings)
    try:
        return await _examine(database)
    finally:
        await database.close()


async def _examine(database: Database) -> list[Finding]:
    try:
        server = (await database.run("doctor_server"))[0]
    except (RowlockError, asyncpg.PostgresError, OSError) as error:
        detail, _, remedy = str(error).partition(" — ")
        return [findings.fail("connection", detail, remedy or "See the server's log.")]
    found = [findings.ok("connection", database.settings.masked_database_url()), *findings.judge_server(server)]
    schema = await _guarded("schema", _schema(database))
    found += schema
    found += await _guarded("horizon", _horizon(database))
    found += await _guarded("pooler", _pooler(database))
    found += await _guarded("listen", _listen(database))
    is_there = all(finding.status == "ok" for finding in schema)
    if is_there or any(finding.remedy == REMEDY_OF_RIGHTS for finding in schema):
        found += await _guarded("rights", _rights(database))
    if is_there:
        found += await _guarded("catalogue", _catalogue(database))
        found += await _guarded("logged tables", _unlogged(database))
        found += await _guarded("partitions", _partitions(database))
        found += await _guarded("default partitions", _default_rows(database))
        found += await _guarded("archive", _archive(database))
        found += await _guarded("storage", _tables(database))
        found += await _guarded("clock", _clock(database))
        found += await _guarded("workers", _workers(database))
        found += await _guarded("unclaimed jobs", _unclaimed(database))
        found += await _guarded("schedules", _schedules(database))
        found += await _guarded("dead letters", _dead_letters(database))
        found += await _guarded("audit", _audit(database))
    return found


async def _guarded(check: str, look: Awaitable[list[Finding]]) -> list[Finding]:
    """Return a check's findings, or its failure: one failed check does not hide the others."""
    try:
        return await look
    except (asyncpg.InsufficientPrivilegeError, NotAllowed) as error:
        return [findings.fail(check, f"cannot be checked: {error}", REMEDY_OF_RIGHTS)]
    except (RowlockError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        remedy = "Remove the cause, and run the doctor again."
        return [findings.fail(check, f"cannot be checked: {type(error).__name__}: {error}", remedy)]


async def _schema(database: Database) -> list[Finding]:
    try:
        rows = await database.run("schema_version")
    except SchemaNotMigrated:
        rows = []
    return [findings.judge_revision(database.settings.schema, rows[0]["version_num"] if rows else None)]


async def _horizon(database: Database) -> list[Finding]:
    transactions = await database.run("doctor_horizon", OLD_TRANSACTION, LEFT_PREPARED)
    return findings.judge_horizon(transactions, await database.run("doctor_slots", OLD_XMIN))


async def _catalogue(database: Database) -> list[Finding]:
    return catalogue.judge_catalogue(await database.run("doctor_catalogue"))


async def _unlogged(database: Database) -> list[Finding]:
    return [findings.judge_unlogged(await database.run("doctor_unlogged"))]


async def _rights(database: Database) -> list[Finding]:
    return [findings.judge_rights((await database.run("doctor_rights"))[0])]


async def _partitions(database: Database) -> list[Finding]:
    return [findings.judge_partitions(await database.run("doctor_partitions", 1))]


async def _default_rows(database: Database) -> list[Finding]:
    return [findings.judge_default_rows((await database.run("doctor_default_rows", findings.COUNTED_ROWS))[0])]


async def _archive(database: Database) -> list[Finding]:
    (row,) = await database.run("doctor_archive")
    return [storage.judge_archive(row), storage.judge_overdue(await database.run("doctor_overdue", OVERDUE))]


async def _tables(database: Database) -> list[Finding]:
    return storage.judge_tables(database.settings.schema, await database.run("doctor_tables"))


async def _clock(database: Database) -> list[Finding]:
    return [findings.judge_clock(await database.run("doctor_clock", LOOKED_AT))]


async def _workers(database: Database) -> list[Finding]:
    return [findings.judge_workers(await database.run("doctor_workers"))]


async def _unclaimed(database: Database) -> list[Finding]:
    return findings.judge_unclaimed(await database.run("doctor_unclaimed", None, LOOKED_AT))


async def _schedules(database: Database) -> list[Finding]:
    return [findings.judge_schedules(await database.run("get_schedules", None))]


async def _dead_letters(database: Database) -> list[Finding]:
    return [findings.judge_dead_letters(await overview.count_dead_letters(database))]


async def _audit(database: Database) -> list[Finding]:
    return audited.judge_audit(await audits.audit(database, audits.QUICK))


async def _pooler(database: Database) -> list[Finding]:
    """Detect a pooler: it reports process numbers of its own, which no session of the server has."""
    async with database.connection() as connection:
        (row,) = await connection.fetch(statement("doctor_pooler", database.settings.schema))
        is_pooled = row["process"] != connection.get_server_pid()
    if database.settings.listen:
        return [findings.judge_pooler_while_listening(is_pooled=is_pooled)]
    return [findings.judge_pooler(is_pooled=is_pooled, keeps_statements=not row["has_given_names"])]


async def _listen(database: Database) -> list[Finding]:
    """Listen on one connection and notify on another, as a worker and an application do."""
    if not database.settings.listen:
        return [findings.ok("listen", "turned off (ROWLOCK_LISTEN): workers poll")]
    heard, channel = asyncio.Event(), in_schema("rowlock.doctor", database.settings.schema)

    def hear(*_what: object) -> None:
        heard.set()

    async with database.connection() as connection:
        await connection.add_listener(channel, hear)
        try:
            await database.run("doctor_notify", "listening")
            await asyncio.wait_for(heard.wait(), NOTIFY_SECONDS)
        except TimeoutError:
            remedy = "Behind a transaction pooler (PgBouncer) set ROWLOCK_LISTEN=false: workers then poll."
            return [findings.fail("listen", "a notification did not arrive", remedy)]
        finally:
            await connection.remove_listener(channel, hear)
    return [findings.ok("listen", "notifications arrive")]


def _shown(settings: Settings) -> dict[str, str]:
    shown: dict[str, Any] = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {name: str(value) for name, value in (shown | {"database_url": settings.masked_database_url()}).items()}


def _print(shown: dict[str, str], found: Iterable[Finding]) -> None:
    for name, value in shown.items():
        print_text(f"      {name:30} {value}")
    for finding in found:
        detail = clean(" ".join(finding.detail.split()))
        print_text(Text.assemble(state(f"{finding.status:4}"), f"  {finding.check:30} {detail}"))
        if finding.remedy is not None:
            print_text(f"      {'':30} → {finding.remedy}")
