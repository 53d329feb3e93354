"""The settings of one process: read from the environment in one place, validated once, never changed after."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn

from rowlock.database_url import masked, tidy
from rowlock.errors import ConfigurationError
from rowlock.values import to_timedelta
from rowlock.words import quoted

_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,47}")  # PostgreSQL keeps pg_ for itself
LEAST_PROCESS_MEMORY = 64 * 1024 * 1024
"""Python itself, with what tasks import, needs this much."""

_DURATIONS: Final = ("lease", "heartbeat", "poll_interval", "grace_period", "blocked_loop_after")
_NUMBERS: Final = ("max_args_bytes", "max_result_bytes", "max_crashes", "process_max_jobs")
_END_OF_NUMBERS: Final = {"max_crashes": 2**31}
"""PostgreSQL's `integer`; for the others that of the operating system."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of Rowlock with their defaults. `Settings.from_environment()` reads `ROWLOCK_<NAME>` for each field.

    Durations are seconds or a `timedelta`, and are kept as a `timedelta`; those read from the environment are seconds.
    Raises `ConfigurationError` for an invalid value.
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
    """How often an idle worker polls: a tenth as often while notifications reach it."""

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

    if TYPE_CHECKING:  # durations as numbers, too; the real one is the dataclass's

        def __init__(
            self,
            *,
            database_url: str | None = ...,
            schema: str = ...,
            data_dir: str = ...,
            max_args_bytes: int = ...,
            max_result_bytes: int = ...,
            lease: timedelta | float = ...,
            heartbeat: timedelta | float = ...,
            max_crashes: int = ...,
            poll_interval: timedelta | float = ...,
            listen: bool = ...,
            grace_period: timedelta | float = ...,
            process_max_jobs: int = ...,
            process_memory_limit: int = ...,
            blocked_loop_after: timedelta | float = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        for name, value in self._checked():
            object.__setattr__(self, name, value)
        if self.heartbeat * 3 > self.lease:
            _refuse("heartbeat", self.heartbeat, f"at most a third of the lease, which is {self.lease}")

    def _checked(self) -> Iterator[tuple[str, object]]:
        """The fields as they are kept. Raises `ConfigurationError`."""
        given: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        schema, folder, url = given["schema"], given["data_dir"], given["database_url"]
        if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
            _refuse("schema", schema, "1 to 48 of a-z, 0-9 and _, beginning neither with a digit nor with pg_")
        yield "schema", str.__str__(schema)
        if not isinstance(folder, str) or not _is_path(folder):
            _refuse("data_dir", folder, "the path of a folder, as text")
        if url is not None:
            yield "database_url", tidy(_text_of("database_url", url))
        if not isinstance(given["listen"], bool):
            _refuse("listen", given["listen"], "True or False")
        for name in _NUMBERS:
            yield name, _number(name, given[name], least=1, rule="a whole number of at least 1")
        yield "process_memory_limit", _memory("process_memory_limit", given["process_memory_limit"])
        for name in _DURATIONS:
            yield name, _duration(name, given[name])

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings from the environment; a setting that is not there keeps its default.

        `DATABASE_URL` is the fallback for `ROWLOCK_DATABASE_URL`: hosting platforms set it.
        """
        if not isinstance(environ, Mapping):
            raise ConfigurationError(f"environ must be texts by name, like os.environ; got {quoted(environ)}.")
        given: dict[str, object] = {}
        if url := environ.get("ROWLOCK_DATABASE_URL") or environ.get("DATABASE_URL"):
            given["database_url"] = url
        for field in fields(cls):
            text = environ.get(f"ROWLOCK_{field.name.upper()}")
            if text and field.name != "database_url":
                given[field.name] = _parse(field.name, _text_of(field.name, text), type(field.default))
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


def _text_of(name: str, value: object) -> str:
    if not isinstance(value, str):  # it may contain a password: don't show it
        raise ConfigurationError(
            f"{name} must be text; got a value of type {type(value).__name__} (environment: ROWLOCK_{name.upper()})."
        )
    return str.__str__(value)


def _is_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _number(name: str, value: object, *, least: int, rule: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        _refuse(name, value, rule)
    if value >= (end := _END_OF_NUMBERS.get(name, 2**63)):
        _refuse(name, value, f"less than {end:,}")
    return int.__int__(value)


def _memory(name: str, value: object) -> int:
    rule = f"0 (no limit) or at least {LEAST_PROCESS_MEMORY:,}"
    least = 0 if isinstance(value, int) and value == 0 else LEAST_PROCESS_MEMORY
    return _number(name, value, least=least, rule=rule)


def _duration(name: str, value: object) -> timedelta:
    given = to_timedelta(value)
    if given is None:
        _refuse(name, value, "seconds or a timedelta, at most a hundred years")
    if name == "grace_period" and given < timedelta(0):
        _refuse(name, value, "zero or more seconds")
    if name != "grace_period" and given <= timedelta(0):
        _refuse(name, value, "a duration greater than zero")
    return given


def _refuse(name: str, value: object, rule: str) -> NoReturn:
    raise ConfigurationError(f"{name} must be {rule}; got {quoted(value)} (environment: ROWLOCK_{name.upper()}).")
