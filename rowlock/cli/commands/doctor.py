"""`rowlock doctor`: looks at everything that Rowlock depends on, and names the remedy for what is wrong."""

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
from rowlock.queue.connect.server_errors import NotAllowed
from rowlock.queue.connect.statements import statement
from rowlock.queue.operate.jobs import LOOKED_AT
from rowlock.queue.read import audits, overview
from rowlock.queue.read.reader import Client
from rowlock.schema import in_schema
from rowlock.settings import Settings

OLD_TRANSACTION: Final = timedelta(minutes=10)
OLD_XMIN: Final = 100_000
"""So many transactions a standby's feedback may be behind: at a thousand a second a minute and a half."""
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
    """Look at everything, as far as one can get: without a server there is no schema to look at."""
    client = Client(settings)
    try:
        return await _examine(client)
    finally:
        await client.close()


async def _examine(client: Client) -> list[Finding]:
    try:
        server = (await client.fetch("doctor_server"))[0]
    except (RowlockError, asyncpg.PostgresError, OSError) as error:
        detail, _, remedy = str(error).partition(" — ")
        return [findings.fail("connection", detail, remedy or "Look at the server's log.")]
    found = [findings.ok("connection", client.settings.masked_database_url()), *findings.judge_server(server)]
    schema = await _guarded("schema", _schema(client))
    found += schema
    found += await _guarded("horizon", _horizon(client))
    found += await _guarded("pooler", _pooler(client))
    found += await _guarded("listen", _listen(client))
    is_there = all(finding.status == "ok" for finding in schema)
    if is_there or any(finding.remedy == REMEDY_OF_RIGHTS for finding in schema):
        found += await _guarded("rights", _rights(client))
    if is_there:
        found += await _guarded("catalogue", _catalogue(client))
        found += await _guarded("logged tables", _unlogged(client))
        found += await _guarded("partitions", _partitions(client))
        found += await _guarded("default partitions", _default_rows(client))
        found += await _guarded("archive", _archive(client))
        found += await _guarded("storage", _tables(client))
        found += await _guarded("clock", _clock(client))
        found += await _guarded("workers", _workers(client))
        found += await _guarded("unclaimed jobs", _unclaimed(client))
        found += await _guarded("schedules", _schedules(client))
        found += await _guarded("dead letters", _dead_letters(client))
        found += await _guarded("audit", _audit(client))
    return found


async def _guarded(check: str, look: Awaitable[list[Finding]]) -> list[Finding]:
    """What was found, or that looking failed: one check's failure does not hide the others."""
    try:
        return await look
    except (asyncpg.InsufficientPrivilegeError, NotAllowed) as error:
        return [findings.fail(check, f"cannot be looked at: {error}", REMEDY_OF_RIGHTS)]
    except (RowlockError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        remedy = "See the reason given, and run the doctor again."
        return [findings.fail(check, f"cannot be looked at: {type(error).__name__}: {error}", remedy)]


async def _schema(client: Client) -> list[Finding]:
    try:
        rows = await client.fetch("schema_version")
    except SchemaNotMigrated:
        rows = []
    return [findings.judge_revision(client.settings.schema, rows[0]["version_num"] if rows else None)]


async def _horizon(client: Client) -> list[Finding]:
    transactions = await client.fetch("doctor_horizon", OLD_TRANSACTION, LEFT_PREPARED)
    return findings.judge_horizon(transactions, await client.fetch("doctor_slots", OLD_XMIN))


async def _catalogue(client: Client) -> list[Finding]:
    return catalogue.judge_catalogue(await client.fetch("doctor_catalogue"))


async def _unlogged(client: Client) -> list[Finding]:
    return [findings.judge_unlogged(await client.fetch("doctor_unlogged"))]


async def _rights(client: Client) -> list[Finding]:
    return [findings.judge_rights((await client.fetch("doctor_rights"))[0])]


async def _partitions(client: Client) -> list[Finding]:
    return [findings.judge_partitions(await client.fetch("doctor_partitions", 1))]


async def _default_rows(client: Client) -> list[Finding]:
    return [findings.judge_default_rows((await client.fetch("doctor_default_rows", findings.COUNTED_ROWS))[0])]


async def _archive(client: Client) -> list[Finding]:
    (row,) = await client.fetch("doctor_archive")
    return [storage.judge_archive(row), storage.judge_overdue(await client.fetch("doctor_overdue", OVERDUE))]


async def _tables(client: Client) -> list[Finding]:
    return storage.judge_tables(client.settings.schema, await client.fetch("doctor_tables"))


async def _clock(client: Client) -> list[Finding]:
    return [findings.judge_clock(await client.fetch("doctor_clock", LOOKED_AT))]


async def _workers(client: Client) -> list[Finding]:
    return [findings.judge_workers(await client.fetch("doctor_workers"))]


async def _unclaimed(client: Client) -> list[Finding]:
    return findings.judge_unclaimed(await client.fetch("doctor_unclaimed", None, LOOKED_AT))


async def _schedules(client: Client) -> list[Finding]:
    return [findings.judge_schedules(await client.fetch("get_schedules", None))]


async def _dead_letters(client: Client) -> list[Finding]:
    return [findings.judge_dead_letters(await overview.count_dead_letters(client))]


async def _audit(client: Client) -> list[Finding]:
    return audited.judge_audit(await audits.audit(client, audits.QUICK))


async def _pooler(client: Client) -> list[Finding]:
    """A pooler gives its clients process numbers of its own: no session of the server has them."""
    async with client.connection() as connection:
        (row,) = await connection.fetch(statement("doctor_pooler", client.settings.schema))
        is_pooled = row["process"] != connection.get_server_pid()
    if client.settings.listen:
        return [findings.judge_pooler_while_listening(is_pooled=is_pooled)]
    return [findings.judge_pooler(is_pooled=is_pooled, keeps_statements=not row["has_given_names"])]


async def _listen(client: Client) -> list[Finding]:
    """Listen on one connection and notify on another, as a worker and an application do."""
    if not client.settings.listen:
        return [findings.ok("listen", "turned off (ROWLOCK_LISTEN): workers poll")]
    heard, channel = asyncio.Event(), in_schema("rowlock.doctor", client.settings.schema)

    def hear(*_what: object) -> None:
        heard.set()

    async with client.connection() as connection:
        await connection.add_listener(channel, hear)
        try:
            await client.fetch("doctor_notify", "listening")
            await asyncio.wait_for(heard.wait(), NOTIFY_SECONDS)
        except TimeoutError:
            remedy = "Behind a transaction pooler (PgBouncer) set ROWLOCK_LISTEN=false; workers poll then."
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
