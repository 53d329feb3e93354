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
"""What of a database's OPTIONS says how to connect. The rest is for Django's own connections."""

_queues: dict[str, Rowlock] = {}
_lock = threading.Lock()


def get_queue(alias: str = DEFAULT) -> Rowlock:
    """The project's queue: its `Rowlock`, which `manage.py rowlock_worker` runs. `alias` is that of a task backend.

    For tasks with all of Rowlock's options, beside those of Django's own framework. Raises `ConfigurationError` where
    its database is no PostgreSQL.

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
    """The alias of the database that a task backend is on: its OPTIONS["database"], or the default one."""
    options = getattr(django_settings, "TASKS", {}).get(alias, {}).get("OPTIONS", {})
    return str(options.get("database", DEFAULT))


def databases() -> set[str]:
    """The aliases of all databases that hold a queue."""
    tasks: Mapping[str, Mapping[str, Any]] = getattr(django_settings, "TASKS", {})
    return {database_of(alias) for alias, backend in tasks.items() if backend["BACKEND"] == BACKEND} or {DEFAULT}


def settings_of(database: str) -> Settings:
    """Rowlock's settings: of the environment, with the URL of Django's database where ROWLOCK_DATABASE_URL is not set.

    Raises `ConfigurationError` for a database that is no PostgreSQL.
    """
    # Not DATABASE_URL: if it means anything here, then by way of DATABASES.
    settings = Settings.from_environment({name: text for name, text in os.environ.items() if name != "DATABASE_URL"})
    url = url_of(database)
    return settings if settings.database_url is not None else replace(settings, database_url=url)


def url_of(database: str) -> str:
    """The URL of one of Django's databases. Raises `ConfigurationError` for one that is no PostgreSQL."""
    connection = connections[database]
    given = connection.settings_dict
    if connection.vendor != "postgresql":
        raise ConfigurationError(
            f"DATABASES[{database!r}] has the engine {given['ENGINE']}, and Rowlock keeps jobs in PostgreSQL: use "
            'django.db.backends.postgresql, or name another database, OPTIONS={"database": "…"} in TASKS.'
        )
    user, password = (quote(str(given[name] or ""), safe="") for name in ("USER", "PASSWORD"))
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    where = {name.lower(): str(given[name]) for name in ("HOST", "PORT") if given[name]}
    options = {name: str(value) for name, value in given["OPTIONS"].items() if name in _PASSED_ON}
    query = urlencode(where | options, quote_via=quote)
    return f"postgresql://{login}/{quote(str(given['NAME'] or ''), safe='')}{'?' if query else ''}{query}"


def _move(queue: Rowlock, settings: Settings) -> None:
    """Have the queue use another database: Django's test runner gives the project another one after it has begun."""
    queue.settings = settings
    queue.database.move(settings)  # before anything has connected, as the runner does it


def _forget(*, setting: str, **_: object) -> None:
    if setting in {"TASKS", "DATABASES"}:
        with _lock:
            _queues.clear()


setting_changed.connect(_forget)
