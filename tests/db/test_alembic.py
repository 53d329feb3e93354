"""An application's own Alembic beside Rowlock's tables."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, text

from rowlock import Rowlock, Settings
from rowlock.database_url import for_driver
from rowlock.integrations.alembic import include_name
from rowlock.migrations import upgrade
from rowlock.testing import use_database


def proposals(url: str, *, has_filter: bool) -> list[str]:
    """What autogenerate proposes to an application without models, whose database has a table of its own."""
    engine = create_engine(for_driver(url, "psycopg"))
    options = {"include_schemas": True} | ({"include_name": include_name} if has_filter else {})
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS public.orders (id bigint)"))
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), MetaData())
    engine.dispose()
    return sorted(f"{change[0]} {change[1].name}" for change in found)


def test_autogenerate_of_an_application_leaves_rowlocks_tables_alone(direct_url: str) -> None:
    assert len(proposals(direct_url, has_filter=False)) > 10
    assert proposals(direct_url, has_filter=True) == ["remove_table orders"]


async def test_so_it_does_where_they_share_the_schema(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWLOCK_SCHEMA", "public")
    await asyncio.to_thread(upgrade, Settings(database_url=empty_database_url, schema="public"))
    found = await asyncio.to_thread(proposals, empty_database_url, has_filter=True)
    assert found == ["remove_table orders"]


ENV = """
import asyncio
from alembic import context
from shop import queue
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine


def run_migrations(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


async def run_migrations_online():
    engine = create_async_engine(await queue.database_url("asyncpg"), poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run_migrations)
    await engine.dispose()


asyncio.run(run_migrations_online())
"""
VERSION = """
from alembic import op
revision, down_revision = "1", None


def upgrade():
    op.execute("CREATE TABLE made_by_alembic (id bigint)")
"""


def test_an_applications_migrations_run_on_the_database_that_it_is_pointed_at(
    direct_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/testing.md has it, with the env.py of docs/alembic.md."""
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    (tmp_path / "migrations" / "versions" / "1.py").write_text(VERSION)
    queue = Rowlock("postgresql://localhost:1/nowhere")
    monkeypatch.setitem(sys.modules, "shop", cast("Any", SimpleNamespace(queue=queue)))
    config = Config()
    config.set_main_option("script_location", str(tmp_path / "migrations"))
    with use_database(queue, direct_url):
        command.upgrade(config, "head")
    engine = create_engine(for_driver(direct_url, "psycopg"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM made_by_alembic")) == 0
    engine.dispose()
