"""Translate the errors of PostgreSQL, a pooler or the driver into Rowlock's errors."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock.errors import ConfigurationError, DatabaseUnavailable, SchemaNotMigrated, StatementTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asyncpg import Record

    from rowlock.settings import Settings

CONNECTION_LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # asyncpg sometimes raises it for a connection that the server has just terminated
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TooManyConnectionsError,
)
"""Errors that are not about the statement: discard the connection, and retry on another one."""

NOT_MIGRATED: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
)
"""Errors of a statement of Rowlock's own that show that the schema is missing, or older than this code."""

_DRIVERS: Final = frozenset({"asyncpg", "psycopg", "psycopg2", "sqlalchemy", "django"})

_QUOTED: Final = re.compile(r"(query argument \$\d+): .*", re.DOTALL)
"""asyncpg's error for a value that it cannot send: it quotes the value."""

_DENIED: Final = re.compile(r"permission denied for (\w+) (.+)")

WRITTEN_BY_ENQUEUERS: Final = frozenset({"job", "unique_key"})
RIGHTS_OF_ENQUEUERS: Final = "SELECT, INSERT, UPDATE"

_PARAMETER: Final = re.compile(r'unrecognized configuration parameter "([^"]+)"')

FORGOTTEN: Final = asyncpg.InvalidSQLStatementNameError
"""A session's error for a statement that was prepared in another one, by a pooler that does not track them."""


def is_away(error: BaseException) -> bool:
    """Whether an error shows that the database is away for now: not that it refuses the login, or the statement."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    return isinstance(cause, CONNECTION_LOST) and not isinstance(cause, ValueError)


def message(error: BaseException) -> str:
    """An error's text, without PostgreSQL's detail, which shows whole rows, arguments included."""
    return str(error.args[0]) if isinstance(error, asyncpg.PostgresError) and error.args else str(error)


class WritesRefused(DatabaseUnavailable):
    """The server accepts no writes: nothing was stored."""


def refused(settings: Settings, error: asyncpg.ReadOnlySQLTransactionError) -> WritesRefused:
    """The error for a read-only server."""
    return WritesRefused(
        f"PostgreSQL at {settings.masked_database_url()} takes no writes: {error}. Nothing was stored. It is a "
        "standby, or was demoted: try again, the next connection looks for the one that takes writes."
    )


def unavailable(settings: Settings, error: BaseException) -> DatabaseUnavailable:
    """The error for a failed connect of the driver: the server, the reason, and the remedy."""
    if isinstance(error, DatabaseUnavailable):
        return error
    if type(error) is ValueError:  # its text may quote a part of the password, taken for the port
        return DatabaseUnavailable(
            f"The database URL {settings.masked_database_url()} cannot be read — write it as "
            "postgresql://user:password@host:5432/database, with / : @ ? # in the password as %2F %3A %40 %3F %23."
        )
    if isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error):
        return DatabaseUnavailable(
            f"A pooler at {settings.masked_database_url()} refused the settings of Rowlock's own sessions ({error}) "
            "— behind a transaction pooler (PgBouncer) set ROWLOCK_LISTEN=false."
        )
    if isinstance(error, asyncpg.UndefinedObjectError) and (named := _PARAMETER.search(str(error))):
        return DatabaseUnavailable(
            f"PostgreSQL at {settings.masked_database_url()} does not know the URL's parameter {named[1]} — remove it "
            "from ROWLOCK_DATABASE_URL: it is neither one of libpq's nor a setting of the server's."
        )
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return DatabaseUnavailable(
            f"PostgreSQL at {settings.masked_database_url()} takes no writes: it is a standby, or in recovery, or "
            "read-only by default for this role or database — name the primary, or all hosts, in ROWLOCK_DATABASE_URL, "
            "or ALTER ROLE … (or ALTER DATABASE …) RESET default_transaction_read_only."
        )
    remedy = "check that the server runs, and host, port, database, user and password in ROWLOCK_DATABASE_URL."
    if isinstance(error, asyncpg.TooManyConnectionsError):
        remedy = "raise CONNECTION LIMIT of the role or the database, or max_connections, or let others disconnect."
    return DatabaseUnavailable(
        f"No connection to PostgreSQL at {settings.masked_database_url()}: {type(error).__name__}: {error} — {remedy}"
    )


def is_crowded(error: BaseException) -> bool:
    """Whether the server refuses a connection because there are too many."""
    return isinstance(error.__cause__, asyncpg.TooManyConnectionsError)


def too_few_connections(
    settings: Settings, error: DatabaseUnavailable, needed: int, limits: Record | None
) -> DatabaseUnavailable:
    """The error for `too many connections` of a starting worker: how many it needs, and may have."""
    known = ""
    if limits is not None:
        told = [
            f"The {what} {limits[what]} has a CONNECTION LIMIT of {limit}. "
            for what in ("role", "database")
            if (limit := limits[f"{what}_limit"]) >= 0
        ]
        known = " " + ("".join(told) or f"max_connections is {limits['max_connections']}. ").rstrip()
    return DatabaseUnavailable(
        f"A worker needs {needed} connections to PostgreSQL at {settings.masked_database_url()} before it begins, and "
        f"did not get them: {error.__cause__}.{known} Raise the limit, or let others that connect end."
    )


def cancelled(name: str, error: asyncpg.QueryCanceledError) -> StatementTimeout:
    """The error for `canceling statement due to …`."""
    return StatementTimeout(
        f"PostgreSQL cancelled the statement {name}: {error}. Nothing was changed. Ask for less, with a narrower "
        "filter or fewer jobs at once, or raise statement_timeout."
    )


@contextmanager
def limited(name: str) -> Iterator[None]:
    """Raise `StatementTimeout` if the statement of this name, in the block, takes longer than it may."""
    try:
        yield
    except (asyncpg.QueryCanceledError, TimeoutError) as error:
        raise_limited(name, error)
        raise


def raise_limited(name: str, error: BaseException) -> None:
    """Raise `StatementTimeout` if the error shows that the statement of this name took longer than it may."""
    if isinstance(error, asyncpg.QueryCanceledError):
        raise cancelled(name, error) from error
    if isinstance(error, TimeoutError) and not isinstance(error, StatementTimeout) and error.errno is None:
        # With a number it is the socket's.
        raise StatementTimeout(
            f"PostgreSQL did not finish the statement {name} within Rowlock's time limit. If it changes data, check "
            "whether it did before you repeat it. Ask for less, with a narrower filter, or find out what slows the "
            "server down."
        ) from error


def hide_values(error: BaseException) -> None:
    """Remove the statement's values from the text of a driver's error, and of its causes.

    Drivers append them to the first line of PostgreSQL's message: SQLAlchemy the parameters, PostgreSQL the row that it
    refuses (DETAIL), psycopg2 the line of the statement. They would bring arguments and results into the logs.
    """
    for one in _errors_of_drivers(error):
        if one.args and isinstance(one.args[0], str):
            one.args = (_QUOTED.sub(r"\1", one.args[0].partition("\n")[0]), *one.args[1:])
        if isinstance(one, asyncpg.PostgresError | asyncpg.InterfaceError):
            one.detail = None
        if "hide_parameters" in vars(one):
            vars(one)["hide_parameters"] = True  # SQLAlchemy obeys it when it makes the text


def raise_clear(settings: Settings, error: Exception) -> None:
    """Raise Rowlock's error for an error on a connection of the caller, if there is one; else only hide its values."""
    hide_values(error)
    for one in _errors_of_drivers(error):
        code = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if code == asyncpg.InsufficientPrivilegeError.sqlstate:
            raise not_allowed(settings, one, "The role of the given connection") from error
        if code in {class_.sqlstate for class_ in NOT_MIGRATED}:
            raise SchemaNotMigrated(
                f"The database of the given connection has no Rowlock tables in the schema {settings.schema}, or they "
                "are older than this code. Give a connection to Rowlock's database; or run: rowlock migrate"
            ) from error


def _errors_of_drivers(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, as far as they come from a driver."""
    found: BaseException | None = error
    while found is not None:
        if type(found).__module__.partition(".")[0] in _DRIVERS:
            yield found
        found = found.__cause__


class NotAllowed(ConfigurationError):
    """The role of the database URL lacks a right. Nothing was done."""


def denied(error: BaseException) -> tuple[str, str] | None:
    """The object of a denied right: its kind, as in GRANT, and its name. None if the message has another form."""
    found = _DENIED.search(str(error))
    return None if found is None else (found[1], found[2])


def not_allowed(
    settings: Settings, error: BaseException, who: str | None = None, lacking: Sequence[str] = ()
) -> NotAllowed:
    """The error for `permission denied`: `who` lacks which rights on which object."""
    found, schema = denied(error), settings.schema
    if found is None:
        what = f"a right: {error}"
    else:
        kind, name = found
        full = name if kind in {"schema", "database"} else f"{schema}.{name}"
        what = f"{', '.join(lacking) or 'a right'} on the {kind} {full}"
        if name in WRITTEN_BY_ENQUEUERS:
            what += f" (to enqueue it needs {RIGHTS_OF_ENQUEUERS})"
    return NotAllowed(
        f"{who or f'The role of {settings.masked_database_url()}'} lacks {what}. Nothing was done. GRANT the role its "
        f'rights, or use the role that owns the schema {schema}: see "Roles at PostgreSQL" in docs/security.md.'
    )


def forgotten(settings: Settings) -> DatabaseUnavailable:
    """The error for `prepared statement does not exist`."""
    return DatabaseUnavailable(
        f"The pooler at {settings.masked_database_url()} forgets prepared statements, and nothing was done — use "
        "PgBouncer 1.21 or newer, and set max_prepared_statements = 200 in its configuration."
    )


def not_migrated(settings: Settings) -> SchemaNotMigrated:
    """The error for `undefined table`."""
    return SchemaNotMigrated(
        f"The database at {settings.masked_database_url()} has no Rowlock tables in the schema {settings.schema}, "
        "or they are older than this code. Run: rowlock migrate"
    )
