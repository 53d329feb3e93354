"""The queues of a Django project: one `Rowlock` for each of its task backends, on the database of Django's settings."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.db import connections

from rowlock.app import Rowlock
from rowlock.errors import ConfigurationError
from rowlock.settings import Settings

BACKEND: Final = "rowlock.integrations.django.RowlockBackend"
DEFAULT: Final = "default"

_PASSED_ON: Final = (
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "ssl_min_protocol_version"),
    *("passfile", "service", "servicefile", "target_session_attrs", "krbsrvname", "gsslib"),
)
"""The keys of a database's OPTIONS that configure the connection. The others are for Django's own connections."""

_queues: dict[str, Rowlock] = {}
_lock = threading.Lock()


def get_queue(alias: str = DEFAULT) -> Rowlock:
    """Return the project's queue: the `Rowlock` that `manage.py rowlock_worker` runs. `alias` names a task backend.

    Use it for tasks with all of Rowlock's options, beside those of Django's own framework. Raises `ConfigurationError`
    if its database is not PostgreSQL.

    >>> queue = get_queue()
    >>> @queue.task(max_attempts=3)
    ... def send_receipt(order: int) -> None: ...
    """
    settings = settings_of(database_of(alias))
    with _lock:
        queue = _queues.get(alias)
        if queue is None:
            queue = _queues[alias] = Rowlock(settings=settings)
        elif queue.settings != settings:
            _move(queue, settings)
    return queue


def database_of(alias: str) -> str:
    """The alias of a task backend's database: its OPTIONS["database"], or the default one."""
    options = getattr(django_settings, "TASKS", {}).get(alias, {}).get("OPTIONS", {})
    return str(options.get("database", DEFAULT))


def databases() -> set[str]:
    """The aliases of all databases with a queue."""
    tasks: Mapping[str, Mapping[str, Any]] = getattr(django_settings, "TASKS", {})
    return {database_of(alias) for alias, backend in tasks.items() if backend["BACKEND"] == BACKEND} or {DEFAULT}


def settings_of(database: str) -> Settings:
    """Read Rowlock's settings from the environment; ROWLOCK_DATABASE_URL defaults to the URL of Django's database.

    Raises `ConfigurationError` for a database that is not PostgreSQL.
    """
    # Ignore DATABASE_URL: a project that uses it reads it in DATABASES.
    settings = Settings.from_environment({name: text for name, text in os.environ.items() if name != "DATABASE_URL"})
    url = url_of(database)
    return settings if settings.database_url is not None else replace(settings, database_url=url)


def url_of(database: str) -> str:
    """The URL of one of Django's databases. Raises `ConfigurationError` for one that is not PostgreSQL."""
    connection = connections[database]
    given = connection.settings_dict
    if connection.vendor != "postgresql":
        raise ConfigurationError(
            f"DATABASES[{database!r}] must be PostgreSQL for Rowlock's jobs; got the engine {given['ENGINE']}. Use "
            'django.db.backends.postgresql, or name another database, OPTIONS={"database": "…"} in TASKS.'
        )
    user, password = (quote(str(given[name] or ""), safe="") for name in ("USER", "PASSWORD"))
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    where = {name.lower(): str(given[name]) for name in ("HOST", "PORT") if given[name]}
    options = {name: str(value) for name, value in given["OPTIONS"].items() if name in _PASSED_ON}
    query = urlencode(where | options, quote_via=quote)
    return f"postgresql://{login}/{quote(str(given['NAME'] or ''), safe='')}{'?' if query else ''}{query}"


def _move(queue: Rowlock, settings: Settings) -> None:
    """Switch the queue to another database: Django's test runner changes the project's database after start."""
    queue.settings = settings
    queue.database.move(settings)  # before any connection: the runner changes it early enough


def _forget(*, setting: str, **_: object) -> None:
    if setting in {"TASKS", "DATABASES"}:
        with _lock:
            _queues.clear()


setting_changed.connect(_forget)
