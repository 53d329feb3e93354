"""The schema's versions: `upgrade`, `downgrade`, `upgrade_sql`, and the version of a database."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from rowlock.settings import Settings

__all__ = ["downgrade", "head", "is_known", "upgrade", "upgrade_sql"]


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Upgrade the schema to `revision` in one transaction. Does nothing if it is there already.

    Two upgrades at once are safe: the second waits for the first, then finds nothing to do. A crash in the middle
    leaves the schema as it was. Must not be called on an event loop's thread; from async code, use `asyncio.to_thread`.
    Raises `SchemaTooNew` if a newer Rowlock migrated the database.
    """
    command.upgrade(_config(settings), revision)


def downgrade(settings: Settings, revision: str) -> None:
    """Downgrade the schema to `revision` (`base`: remove all tables, including every job)."""
    command.downgrade(_config(settings), revision)


def upgrade_sql(settings: Settings, revision: str = "head") -> str:
    """Return the SQL that `upgrade` would run on an empty database, to run it by hand. Needs no database."""
    config = _config(settings)
    config.output_buffer = io.StringIO()
    command.upgrade(config, revision, sql=True)
    return config.output_buffer.getvalue()


@lru_cache(maxsize=1)
def head() -> str:
    """The newest revision that this code knows, and that it runs on."""
    revision = _scripts().get_current_head()
    return str(revision)


def is_known(revision: str) -> bool:
    """Whether this code has the migration `revision`; if not, a newer Rowlock made it."""
    return any(script.revision == revision for script in _scripts().walk_revisions())


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent))


def _config(settings: Settings) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["settings"] = settings
    return config
