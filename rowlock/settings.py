"""The settings of one process: read from the environment in one place, validated once, never changed after."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import NoReturn

from rowlock.database_url import masked, tidy
from rowlock.errors import ConfigurationError
from rowlock.words import quoted

_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,47}")  # PostgreSQL keeps pg_ for itself
LEAST_PROCESS_MEMORY = 64 * 1024 * 1024
"""Python itself, with what tasks import, needs this much."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of Rowlock with their defaults. `Settings.from_environment()` reads `ROWLOCK_<NAME>` for each field.

    Durations read from the environment are seconds. Raises `ConfigurationError` for an invalid value.
    """

    database_url: str | None = None
    """`postgresql://user:password@host:port/database`. None: the server that `rowlock dev` runs in `data_dir`.

    Rowlock removes a driver's name (`postgresql+asyncpg://`), escapes an `@` in the password, and drops the parameters
    of libpq that it sets itself (`connect_timeout`, `channel_binding`, `keepalives`, …).
    """

    schema: str = "rowlock"
    """The schema of the tables. One database can contain several schemas, each a separate queue system."""

    data_dir: str = ".rowlock"
    """The folder in which the embedded server keeps its data between runs."""

    max_args_bytes: int = 256 * 1024
    """The largest arguments of one job, as JSON. Keep larger data in a storage, and pass its key as the argument."""

    max_result_bytes: int = 1024 * 1024
    """The largest result of one job, as JSON."""

    lease: timedelta = timedelta(seconds=15)
    """The lease: how long a worker that stopped renewing keeps its jobs."""

    heartbeat: timedelta = timedelta(seconds=4)
    """How often a worker renews its lease: at least three times a lease."""

    max_crashes: int = 3
    """After how many crashes of its worker a job becomes `failed`."""

    poll_interval: timedelta = timedelta(seconds=1)
    """How often an idle worker polls. Notifications wake it sooner; a lost notification costs this much time."""

    listen: bool = True
    """Whether sessions belong to Rowlock alone, so that workers can LISTEN. Turn it off behind a transaction pooler
    (PgBouncer): workers then only poll, and nothing relies on a session."""

    grace_period: timedelta = timedelta(seconds=25)
    """How long running jobs may continue after SIGTERM before the worker releases them. Most supervisors wait 30 s."""

    process_max_jobs: int = 100
    """After how many jobs a worker replaces a process of `executor="process"` tasks."""

    process_memory_limit: int = 0
    """How many bytes such a process may use for its data; 0 means no limit. Linux only."""

    blocked_loop_after: timedelta = timedelta(seconds=1)
    """How long an event loop may not turn before the worker logs it as blocked, with the code that blocks it."""

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            _refuse("schema", self.schema, "1 to 48 of a-z, 0-9 and _, beginning neither with a digit nor with pg_")
        if self.database_url is not None:
            object.__setattr__(self, "database_url", tidy(self.database_url))
        for name in ("max_args_bytes", "max_result_bytes", "max_crashes", "process_max_jobs"):
            if getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "a whole number of at least 1")
        for name in ("lease", "heartbeat", "poll_interval", "blocked_loop_after"):
            if getattr(self, name) <= timedelta(0):
                _refuse(name, getattr(self, name), "a duration greater than zero")
        if self.grace_period < timedelta(0):
            _refuse("grace_period", self.grace_period, "zero or more seconds")
        if self.process_memory_limit != 0 and self.process_memory_limit < LEAST_PROCESS_MEMORY:
            _refuse(
                "process_memory_limit", self.process_memory_limit, f"0 (no limit) or at least {LEAST_PROCESS_MEMORY:,}"
            )
        if self.heartbeat * 3 > self.lease:
            _refuse("heartbeat", self.heartbeat, f"at most a third of the lease, which is {self.lease}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings from the environment; a setting that is not there keeps its default.

        `DATABASE_URL` is the fallback for `ROWLOCK_DATABASE_URL`: hosting platforms set it.
        """
        given: dict[str, object] = {}
        if url := environ.get("ROWLOCK_DATABASE_URL") or environ.get("DATABASE_URL"):
            given["database_url"] = url
        for field in fields(cls):
            text = environ.get(f"ROWLOCK_{field.name.upper()}")
            if text and field.name != "database_url":
                given[field.name] = _parse(field.name, text, type(field.default))
        return replace(cls(), **given)  # type: ignore[arg-type]  # each value was parsed to its field's type

    def masked_database_url(self) -> str:
        """The database URL with its password hidden: safe to print."""
        return "(development server)" if self.database_url is None else masked(self.database_url)

    def __repr__(self) -> str:
        shown = ((f.name, getattr(self, f.name)) for f in fields(self) if f.name != "database_url")
        return f"Settings(database_url={self.masked_database_url()!r}, {', '.join(f'{n}={v!r}' for n, v in shown)})"


def _parse(name: str, text: str, kind: type) -> object:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        _refuse(name, text, "true or false")
    try:
        return timedelta(seconds=float(text)) if kind is timedelta else int(text)
    except (ValueError, OverflowError):
        _refuse(name, text, "a number of seconds" if kind is timedelta else "a whole number")


def _refuse(name: str, value: object, rule: str) -> NoReturn:
    raise ConfigurationError(f"{name} must be {rule}; got {quoted(value)} (environment: ROWLOCK_{name.upper()}).")
