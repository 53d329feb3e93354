"""The operations of Django's migrations: run Rowlock's own migrations on the database that Django migrates."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from rowlock import migrations
from rowlock.integrations.django.queues import databases, settings_of, url_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.backends.base.schema import BaseDatabaseSchemaEditor

    from rowlock.settings import Settings


def upgrade(revision: str) -> Callable[[object, BaseDatabaseSchemaEditor], None]:
    """Return the RunPython function that upgrades the schema to a revision."""
    return lambda _apps, editor: _migrate(editor, lambda settings: migrations.upgrade(settings, revision))


def downgrade(revision: str) -> Callable[[object, BaseDatabaseSchemaEditor], None]:
    """Return the RunPython function that downgrades the schema to a revision; `base` removes every job."""
    return lambda _apps, editor: _migrate(editor, lambda settings: migrations.downgrade(settings, revision))


def _migrate(editor: BaseDatabaseSchemaEditor, change: Callable[[Settings], None]) -> None:
    """Migrate the database that Django migrates, wherever ROWLOCK_DATABASE_URL points, if it has a queue.

    It runs in a thread, because this thread may have an event loop.
    """
    alias = editor.connection.alias
    if alias in databases():
        settings = replace(settings_of(alias), database_url=url_of(alias))
        with ThreadPoolExecutor(1) as thread:
            thread.submit(change, settings).result()
