"""`rowlock migrate`: migrate the schema to a revision, or print the SQL for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import click
import msgspec
from alembic.util.exc import CommandError
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from rowlock import migrations
from rowlock.cli.show.output import Exit, confirm, note, print_json, with_json
from rowlock.errors import ConfigurationError, SchemaNotMigrated
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.server_errors import denied
from rowlock.settings import Settings
from rowlock.words import quoted

_BASE: Final = "base"


@click.command("migrate")
@click.option("--to", "revision", metavar="REVISION", help="Upgrade to this revision. [default: the newest]")
@click.option(
    "--down", metavar="REVISION", help="Downgrade to this revision; base removes everything, including all jobs."
)
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL for an empty database, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before removing everything.")
@with_json
def command(
    revision: str | None,
    down: str | None,
    as_sql: bool,  # noqa: FBT001  # click's
    yes: bool,  # noqa: FBT001  # click's
    as_json: bool,  # noqa: FBT001  # click's
) -> int:
    """Create or upgrade Rowlock's tables, in one transaction.

    Repeating it is harmless. Of two at once, the second waits for the first and finds nothing to do.
    """
    if down is not None and (revision is not None or as_sql):
        raise click.UsageError("--down must be used without --to and --sql.")
    settings = Settings.from_environment()
    if as_sql:
        with _steps(settings):
            click.echo(migrations.upgrade_sql(settings, _known(revision or "head")).rstrip())
        return Exit.DONE
    if down is None:
        done: Migrated | None = migrate(settings, _known(revision or "head"))
    else:
        done = _downgrade(settings, _known(down), is_confirmed=yes)
    if done is None:
        note("Nothing was removed.")
        return Exit.NO
    if as_json:
        print_json(done)
    else:
        click.echo(done.said)
    return Exit.DONE


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """The result: how many `migrations` ran, and the schema's `revision` now (None: it has no tables)."""

    schema: str
    revision: str | None
    migrations: int
    said: str


def migrate(settings: Settings, revision: str = "head") -> Migrated:
    """Upgrade the schema to `revision`; return what was done.

    Must not be called on an event loop's thread. Raises `DatabaseUnavailable`, `SchemaTooNew`, and
    `ConfigurationError` if PostgreSQL refuses a statement.
    """
    settings, _ = asyncio.run(_look(settings))
    with _steps(settings) as steps:
        migrations.upgrade(settings, revision)
    _, after = asyncio.run(_look(settings))
    said = f"The schema {settings.schema} is at revision {after} already: nothing to do."
    if steps:
        said = f"The schema {settings.schema} was migrated to revision {after}{_how_many(steps)}."
    return Migrated(schema=settings.schema, revision=after, migrations=len(steps), said=said)


def _downgrade(settings: Settings, revision: str, *, is_confirmed: bool) -> Migrated | None:
    """Downgrade the schema; None if the user declines."""
    settings, before = asyncio.run(_look(settings))
    schema = settings.schema
    if before is None:
        said = f"The schema {schema} has no tables of Rowlock: nothing to do."
        return Migrated(schema=schema, revision=None, migrations=0, said=said)
    if revision == _BASE and not is_confirmed and not _is_wanted(settings):
        return None
    with _steps(settings) as steps:
        migrations.downgrade(settings, revision)
    if not steps:
        said = f"The schema {schema} is at revision {before}: nothing to do."
        return Migrated(schema=schema, revision=before, migrations=0, said=said)
    after = None if revision == _BASE else revision
    said = f"The schema {schema} was downgraded from {before} to {revision}{_how_many(steps)}."
    return Migrated(schema=schema, revision=after, migrations=len(steps), said=said)


def _is_wanted(settings: Settings) -> bool:
    question = (
        f"This removes all of Rowlock's tables in {settings.schema} of {settings.masked_database_url()} and all jobs. "
        "Continue?"
    )
    return confirm(question, otherwise="Nothing was removed. To remove everything without confirmation, use --yes.")


def _how_many(steps: list[str]) -> str:
    return f" ({len(steps)} migration{'s' if len(steps) > 1 else ''})"


async def _look(settings: Settings) -> tuple[Settings, str | None]:
    """Return the settings with the server's URL, embedded or not, and the schema's revision; None without a schema.

    It connects as the queue does, so that connection errors have the same text.
    """
    database = Database(settings)
    try:
        rows = await database.run("schema_version")
    except SchemaNotMigrated:
        rows = []
    finally:
        await database.close()
    return replace(settings, database_url=await database.dsn()), rows[0]["version_num"] if rows else None


def _known(revision: str) -> str:
    if revision not in {"head", _BASE} and not migrations.is_known(revision):
        raise ConfigurationError(
            f"The revision must be known to this Rowlock, from {_BASE} to {migrations.head()}; got {quoted(revision)}."
        )
    return revision


def _lacking(settings: Settings, kind: str, name: str) -> str:
    """Describe the privilege that the migration's role lacks, and the remedy."""
    role = (settings.database_url and make_url(settings.database_url).username) or "…"
    remedy = f"use the role that owns the schema {settings.schema}"
    if kind == "database":
        remedy = (
            f'as a privileged role, GRANT CREATE ON DATABASE "{name}" TO "{role}"; or create its schema: '
            f'CREATE SCHEMA "{settings.schema}" AUTHORIZATION "{role}";'
        )
    return f"The migration failed, and nothing was changed: permission denied for {kind} {name} — {remedy}"


class _Steps(logging.Handler):
    """Count the migrations that ran, by Alembic's log record of each."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.steps: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("Running "):
            self.steps.append(text)


@contextmanager
def _steps(settings: Settings) -> Iterator[list[str]]:
    """Collect the migrations that run in the block; turn their errors into Rowlock's."""
    handler, logger = _Steps(), logging.getLogger("alembic.runtime.migration")
    level, logger.propagate = logger.level, False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield handler.steps
    except CommandError as error:
        raise ConfigurationError(f"The migration is not possible: {error}") from error
    except DBAPIError as error:
        if (on := denied(error)) is not None:
            raise ConfigurationError(_lacking(settings, *on)) from error
        raise ConfigurationError(
            f"The migration failed, and nothing was changed: {error.orig} — if a lock blocked it, end the long "
            "transaction that holds it, and run rowlock migrate again."
        ) from error
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True
