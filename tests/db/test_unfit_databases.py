"""Databases and roles that Rowlock cannot work with: each is named with its remedy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from rowlock import ConfigurationError, DatabaseUnavailable, Rowlock, SchemaNotMigrated, Settings
from rowlock.migrations import upgrade
from tests.conftest import Server


@pytest.fixture
async def latin1(server: Server) -> AsyncIterator[str]:
    admin = await asyncpg.connect(server.url("postgres"))
    await admin.execute("CREATE DATABASE latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    yield server.url("latin1")
    await admin.execute("DROP DATABASE latin1 WITH (FORCE)")
    await admin.close()


@pytest.mark.needs_session("the databases are reached directly")
async def test_a_database_of_another_encoding_is_refused_before_anything_is_made(latin1: str) -> None:
    with pytest.raises(ConfigurationError, match=r"encoded as UTF8; got LATIN1"):
        await asyncio.to_thread(upgrade, Settings(database_url=latin1))


@pytest.mark.needs_session("the pooler has no such role")
async def test_a_role_without_rights_is_named_with_what_it_lacks(
    server: Server, database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA rowlock TO reader")
    await connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA rowlock TO reader")
    try:
        async with Rowlock(server.url(database, "reader")) as app:

            @app.task
            async def send() -> None: ...

            assert (await app.overview()).waiting == 0
            with pytest.raises(
                ConfigurationError, match=r"reader lacks INSERT, UPDATE, DELETE on the table rowlock\.job .*GRANT"
            ):
                await send.enqueue()
            with pytest.raises(ConfigurationError, match="GRANT"):
                await app.enqueue_many([send.job()])
            with pytest.raises(ConfigurationError, match="GRANT"):
                await app.queues.pause("default")
            with pytest.raises(ConfigurationError, match=r"GRANT"):
                await app.worker().run(handle_signals=False)
    finally:
        await connection.execute("DROP OWNED BY reader; DROP ROLE reader")


@pytest.mark.needs_session("the pooler has no such role")
async def test_a_role_that_only_reads_is_named(
    server: Server, database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("CREATE ROLE quiet LOGIN; ALTER ROLE quiet SET default_transaction_read_only = on")
    try:
        app = Rowlock(server.url(database, "quiet"))
        with pytest.raises(DatabaseUnavailable, match=r"takes no writes.*default_transaction_read_only"):
            await app.overview()
    finally:
        await connection.execute("DROP ROLE quiet")


@pytest.mark.needs_session("the databases are reached directly")
async def test_a_renamed_schema_is_named(direct_url: str, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute("ALTER SCHEMA rowlock RENAME TO jobs")
    app = Rowlock(settings=Settings(database_url=direct_url, schema="jobs"))

    @app.task
    async def send() -> None: ...

    with pytest.raises(SchemaNotMigrated, match=r"renamed"):
        await app.worker().run(handle_signals=False)
    await app.close()
