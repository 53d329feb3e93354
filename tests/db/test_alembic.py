"""An application's own Alembic beside Rowlock's tables."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, text

from rowlock import Settings
from rowlock.database_url import for_driver
from rowlock.integrations.alembic import include_name
from rowlock.migrations import upgrade


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
