"""Runs the migrations: for `rowlock migrate` (settings in the config's attributes) and for `alembic` (environment)."""

from __future__ import annotations

import asyncio

import asyncpg
from alembic import context
from alembic.script import ScriptDirectory
from asyncpg.connect_utils import SessionAttribute
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from rowlock.embedded import EmbeddedServer
from rowlock.errors import ConfigurationError, DatabaseUnavailable, SchemaTooNew
from rowlock.migrations.metadata import metadata
from rowlock.schema import VERSION_TABLE
from rowlock.settings import Settings

settings: Settings = context.config.attributes.get("settings") or Settings.from_environment()

LOCK_TIMEOUT = "5s"
"""How long a migration waits for a lock on a table before it fails: every enqueue would wait behind it."""


def run_offline() -> None:
    """Print the SQL."""
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata(settings.schema),
        version_table=VERSION_TABLE,
        version_table_schema=settings.schema,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.execute(
            f"DO $$ BEGIN IF to_regnamespace('\"{settings.schema}\"') IS NULL THEN "
            f'CREATE SCHEMA "{settings.schema}"; END IF; END $$'
        )
        context.run_migrations(schema=settings.schema)


def run_on(connection: Connection) -> None:
    """Migrate, one process at a time."""
    with connection.begin():
        encoding = connection.scalar(text("SELECT current_setting('server_encoding')"))
        if encoding != "UTF8":
            raise ConfigurationError(
                f"The database must be encoded as UTF8; got {encoding}. Create another one: CREATE DATABASE … "
                "ENCODING 'UTF8' TEMPLATE template0."
            )
        lock = f"rowlock migrate {settings.schema}"
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": lock})
        connection.execute(text("SELECT set_config('lock_timeout', :timeout, true)"), {"timeout": LOCK_TIMEOUT})
        # CREATE SCHEMA IF NOT EXISTS needs the right to create a schema even if it exists.
        is_there = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema)"
        if not connection.scalar(text(is_there), {"schema": settings.schema}):
            connection.execute(text(f'CREATE SCHEMA "{settings.schema}"'))
        context.configure(
            connection=connection,
            target_metadata=metadata(settings.schema),
            version_table=VERSION_TABLE,
            version_table_schema=settings.schema,
            include_schemas=True,
            include_name=is_ours,
            compare_type=True,
        )
        refuse_newer(context.get_context().get_current_heads())
        context.run_migrations(schema=settings.schema)


def refuse_newer(revisions: tuple[str, ...]) -> None:
    """Refuse a schema at a revision that this code does not know."""
    known = {script.revision for script in ScriptDirectory.from_config(context.config).walk_revisions()}
    for revision in revisions:
        if revision not in known:
            raise SchemaTooNew(
                f"The schema {settings.schema} is at revision {revision}, which this Rowlock does not know: "
                "a newer one migrated it. Upgrade the package: pip install --upgrade rowlock"
            )


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Whether autogenerate and `alembic check` inspect this object: Rowlock's schema without the daily partitions."""
    if kind == "schema":
        return name == settings.schema
    if kind == "table" and name is not None:
        return name == "attempt_log" or not name.startswith(("finished_job_", "attempt_"))
    return True


def development_url() -> str:
    """The URL of the development server that runs in `data_dir`. Raises `ConfigurationError` if none runs."""
    server = EmbeddedServer(settings.data_dir)
    server.join()
    return server.url


async def _connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    """Connect to the server that accepts writes, unless the URL asks for another kind."""
    if "target_session_attrs=" in url:
        return await asyncpg.connect(url)
    return await asyncpg.connect(url, target_session_attrs=SessionAttribute.read_write)


async def run_online() -> None:
    """Connect, and migrate."""
    url = settings.database_url or development_url()
    # asyncpg parses the URL: SQLAlchemy would not understand its sslmode, its service, or several hosts.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: _connect(url), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_on)
    except (OSError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not error.connection_invalidated:
            raise
        raise DatabaseUnavailable(f"No PostgreSQL answers at {settings.masked_database_url()}: {error}") from error
    finally:
        await engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
