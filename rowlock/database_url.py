"""The database URL: accept the forms that people paste, and write the form that each driver needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlencode, urlsplit

from rowlock.errors import ConfigurationError
from rowlock.words import quoted

Driver: TypeAlias = Literal["asyncpg", "psycopg", "psycopg2"]

_SCHEME: Final = re.compile(r"(?i)(postgres(?:ql)?)(?:\+\w+)?://")
_LAST_PORT: Final = 65535
_MOST_DIGITS: Final = 20
_EXAMPLE: Final = "postgresql://user:password@host:5432/database"

_OURS: Final = frozenset(
    {
        *("connect_timeout", "application_name", "fallback_application_name", "client_encoding"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        *("channel_binding", "gssencmode", "gssdelegation", "sslcompression", "sslsni", "sslcertmode"),
        *("load_balance_hosts", "min_protocol_version", "max_protocol_version"),
        *("prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback"),  # SQLAlchemy's own
    }
)
"""Parameters of libpq that Rowlock sets itself or that asyncpg does without: Rowlock drops them."""

_UNSUPPORTED: Final = frozenset(
    {
        *("hostaddr", "replication", "require_auth", "requirepeer", "sslcrldir", "requiressl"),
        *("service", "servicefile"),
    }
)
"""Parameters of libpq that change the target or the security of the connection, and that asyncpg does not know."""

_ESCAPED: Final = str.maketrans({character: quote(character) for character in "@#[]"})
"""Characters that can only belong to the user or the password where they stand before the last @."""

_BOTH_KNOW: Final = frozenset({"host", "port", "user", "password", "passfile", "target_session_attrs"})
"""Parameters that SQLAlchemy passes to asyncpg under the same name."""


def tidy(url: str) -> str:
    """Return the URL in asyncpg's form. Raises `ConfigurationError`, which does not show the URL.

    Removes a driver's name, escapes each `@ # [ ]` of the password, and drops the parameters that Rowlock sets itself.
    A parameter that libpq does not know goes to the server as a setting of the session.
    """
    if not url.isascii() and any("\ud800" <= character <= "\udfff" for character in url):
        raise _unreadable("it has a lone surrogate")
    if "\0" in url:
        raise _unreadable("it has a NUL character")
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise ConfigurationError(
            f"The database URL must begin with postgresql://. Set ROWLOCK_DATABASE_URL (or DATABASE_URL) to one like "
            f"{_EXAMPLE}"
        )
    rest, question, query = url[scheme.end() :].partition("?")
    authority, slash, path = rest.partition("/")
    if "@" in path:
        raise _unreadable("it has a / before its last @")
    user, at, host = authority.rpartition("@")
    kept = "&".join(_kept(query)) if question else ""
    path, kept = _database(path, kept)
    _check_ports(host, kept)
    slash = slash or ("/" if path else "")
    tidied = f"{scheme[1]}://{user.translate(_ESCAPED)}{at}{host}{slash}{path}{'?' if kept else ''}{kept}"
    if "#" in tidied:
        raise _unreadable("it has a # behind its last @")
    try:
        urlsplit(tidied)
    except ValueError:  # its text may quote a part of the password
        raise _unreadable("its host is neither a name nor an address") from None
    return tidied


def _unreadable(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The database URL cannot be read: {why}. Write it as "
        f"{_EXAMPLE}, with / : @ ? # in the password as %2F %3A %40 %3F %23."
    )


def _database(path: str, query: str) -> tuple[str, str]:
    """Move the database's name into the path: asyncpg reads the path, libpq the parameter."""
    pairs = query.split("&") if query else []
    named = [value for name, _, value in (pair.partition("=") for pair in pairs) if name in {"dbname", "database"}]
    if not named:
        return path, query
    if len({*named, *filter(None, (path,))}) > 1:
        raise ConfigurationError("The database URL names two databases, in its path and as dbname. Remove one.")
    return named[0], "&".join(pair for pair in pairs if pair.partition("=")[0] not in {"dbname", "database"})


def _check_ports(hosts: str, query: str) -> None:
    """Refuse ports that no host has: the socket would use the port modulo 65,536."""
    given = [host.rpartition(":")[2] for host in hosts.split(",") if ":" in host and not host.endswith("]")]
    for name, _, value in (pair.partition("=") for pair in query.split("&")):
        given += unquote(value).split(",") if name == "port" else []
    for port in given:
        if port and not port.isdecimal():  # it may be a part of the password: don't show it
            raise _unreadable("its port is not a number")
        if port.isdecimal() and not 1 <= int(port[:_MOST_DIGITS]) <= _LAST_PORT:
            shown = port if len(port) < _MOST_DIGITS else f"one of {len(port)} digits"
            raise ConfigurationError(f"The port in the database URL must be from 1 to {_LAST_PORT}; got {shown}.")


def _kept(query: str) -> Iterator[str]:
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if name and not equals:
            raise _unreadable("it has a parameter without a value")
        if name in _UNSUPPORTED:
            raise ConfigurationError(
                f"The database URL has the parameter {name}, which the driver (asyncpg) does not support. Remove it."
            )
        if name == "ssl":  # the name that SQLAlchemy and others use
            yield f"sslmode={ {'true': 'require', 'false': 'disable'}.get(value.lower(), value) }"
        elif name not in _OURS:
            yield pair


def masked(url: str) -> str:
    """Hide the passwords of a URL, and the settings of the session that may be secrets: safe to print."""
    # Not by urlsplit: with an unescaped / or # in the password it would find no password, and show it.
    url = re.sub(r"(://[^:/?#@]*):.*@", r"\1:***@", url)
    start, question, query = url.partition("?")
    return start + question + "&".join(_masked_pair(*pair.partition("=")) for pair in query.split("&"))


def _masked_pair(name: str, equals: str, value: str) -> str:
    plain = unquote_plus(name).lower()
    may_be_secret = plain.endswith("password") or plain == "options" or "." in plain  # an application's own setting
    return f"{name}{equals}{'***' if may_be_secret and value else value}"


def for_driver(url: str, driver: Driver | None) -> str:
    """Write a tidy URL for one of SQLAlchemy's drivers; None returns the URL itself, for psql and for a driver alone.

    Raises `ConfigurationError` for an unknown driver, and for a parameter that the driver's URL cannot contain.
    """
    if driver is None:
        return url
    if driver not in ("asyncpg", "psycopg", "psycopg2"):  # a value that cannot be hashed is none of them
        raise ConfigurationError(f"driver must be 'asyncpg', 'psycopg', 'psycopg2' or None; got {quoted(driver)}.")
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    query = parse_qsl(parts.query, keep_blank_values=True)
    if "," in hosts:  # SQLAlchemy reads several hosts only from the query
        query = [*(("host", host) for host in hosts.split(",")), *query]
        hosts = ""
    if driver == "asyncpg":
        query = [_of_asyncpg(name, value) for name, value in query]
    text = urlencode(query, quote_via=quote, safe="/:")
    return f"postgresql+{driver}://{user}{at}{hosts}{parts.path}{'?' if text else ''}{text}"


def _of_asyncpg(name: str, value: str) -> tuple[str, str]:
    if name == "sslmode":
        return "ssl", value
    if name not in _BOTH_KNOW:
        raise ConfigurationError(
            f"The database URL has the parameter {name}, which a URL for SQLAlchemy and asyncpg cannot contain. Use "
            "psycopg, or pass it yourself: create_async_engine(connect_args=…)."
        )
    return name, value


__all__ = ["Driver", "for_driver", "masked", "tidy"]
