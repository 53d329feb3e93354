"""API keys, and the sessions that began with one: `app.keys`."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args
from uuid import UUID

import msgspec

from rowlock.errors import ApiKeyNotFound, InvalidOption
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.operate.act import Act, acting
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from rowlock.queue.connect.database import Database

Scope: TypeAlias = Literal["read", "enqueue", "operate", "admin"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
PREFIX: Final = "rowlock_"
"""The prefix of every key, so that secret scanners find keys."""
SESSION_HOLDS: Final = timedelta(hours=12)

_RANDOM_BYTES: Final = 32
_RANDOM: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_KEY: Final = re.compile(PREFIX + _RANDOM.pattern)


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key, without its text, which cannot be read again.

    `scopes`: the requests that it allows. `queues`: the key is limited to these; None: no limit. `last_used_at` may be
    a minute behind. `is_active`: the key was not revoked, and has not expired.
    """

    id: UUID
    name: str
    scopes: list[Scope]
    queues: list[str] | None
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    is_active: bool


class NewApiKey(ApiKey, frozen=True, kw_only=True):
    """A new key. A client sends its `text`, which is not stored: it is available only now."""

    text: str

    def __repr__(self) -> str:
        return f"<NewApiKey {self.name} {', '.join(self.scopes)}>"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The holder of a valid API key or session cookie, and its expiry."""

    id: UUID
    name: str
    scopes: list[Scope]
    queues: list[str] | None
    expires_at: datetime | None
    is_unmarked: bool


class Keys:
    """The API keys: `app.keys`.

    Each change is one transaction, with a row in the table `operation`, where a key's name stands for its holder: no
    two keys have the same name at a time.

    >>> key = await app.keys.create("deploys", scopes=["enqueue", "read"], queues=["email"], expires=timedelta(days=90))
    >>> key.text
    """

    def __init__(self, database: Database, origin: Origin | None = None) -> None:
        self._database = database
        self._origin = Origin() if origin is None else origin

    def through(self, origin: Origin) -> Keys:
        """The same keys, for acts of another origin, which the table `operation` records."""
        return Keys(self._database, origin)

    async def create(
        self,
        name: str,
        *,
        scopes: Sequence[Scope],
        queues: Iterable[str] | None = None,
        expires: timedelta | float | None = None,
        by: str | None = None,
    ) -> NewApiKey:
        """Make a key. This returns its `text`, once.

        `scopes`: `read`, `enqueue`, `operate` (which includes `read`), `admin` (all of them). `queues`: the only queues
        whose jobs the key can see, enqueue and act on. `expires`: how long the key is valid, in seconds or as a
        `timedelta`; None: until it is revoked. Raises `InvalidOption`, also for the name of another key.
        """
        wanted, allowed, only = checks.key_name(name), _checked_scopes(scopes), _checked_queues(queues)
        holds = checks.lifetime(expires)
        origin = self._origin.acted_by(by)
        text = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        async with acting(self._database, _Act, origin) as act:
            rows = await act.run("create_key", wanted, _hash(text), allowed, only, holds, origin.by)
            if not rows:
                raise InvalidOption(f"key {quoted(wanted)} exists already. Revoke it, or choose another name.")
            made = NewApiKey(text=text, **rows[0])
            told = {"name": made.name, "scopes": made.scopes, "queues": made.queues, "expires_at": made.expires_at}
            await act.record("create", str(made.id), told, name=made.name, scopes=allowed, queues=only)
        return made

    async def list(self) -> list[ApiKey]:
        """All keys, newest first, without those that ended more than three months ago."""
        return [ApiKey(**row) for row in await self._database.run("list_keys")]

    async def revoke(self, key: UUID | str, *, by: str | None = None) -> ApiKey:
        """Revoke a key (its id or its name) at once, and end the sessions that began with it.

        Raises `ApiKeyNotFound`, also for a revoked key.
        """
        async with acting(self._database, _Act, self._origin.acted_by(by)) as act:
            for key_id, name in _meant(key):
                if rows := await act.run("revoke_key", key_id, name):
                    break
            else:
                meant = quoted(str(key) if isinstance(key, UUID) else key)
                raise ApiKeyNotFound(f"There is no key {meant}, or it is revoked. See `rowlock keys list`.")
            revoked = ApiKey(**rows[0])
            await act.record("revoke", str(revoked.id), {"name": revoked.name}, name=revoked.name)
        return revoked

    async def holder(self, text: str) -> Holder | None:
        """Authenticate by API key; None for an unknown, revoked or expired key."""
        if not _fits(_KEY, text):
            return None
        return await self._found(await self._database.run("find_key", _hash(text)))

    async def log_in(self, text: str) -> tuple[str, Holder] | None:
        """Begin a session with a key: return the cookie's value and the holder; None for an invalid key."""
        if not _fits(_KEY, text):
            return None
        cookie = secrets.token_urlsafe(_RANDOM_BYTES)
        found = await self._found(await self._database.run("begin_session", _hash(text), _hash(cookie), SESSION_HOLDS))
        return None if found is None else (cookie, found)

    async def session(self, cookie: str) -> Holder | None:
        """Authenticate by session cookie; None once the session, or its key, has ended."""
        if not _fits(_RANDOM, cookie):
            return None
        return await self._found(await self._database.run("find_session", _hash(cookie)))

    async def log_out(self, cookie: str) -> None:
        """End a session; do nothing for an ended or unknown session."""
        if _fits(_RANDOM, cookie):
            await self._database.run("end_session", _hash(cookie))

    async def had_any(self) -> bool:
        """Whether a key was ever made."""
        had: bool = (await self._database.run("has_keys"))[0]["had_any"]
        return had

    async def is_any_active(self) -> bool:
        """Whether there is a valid key."""
        active: bool = (await self._database.run("has_keys"))[0]["is_any_active"]
        return active

    async def _found(self, rows: Sequence[Record]) -> Holder | None:
        if not rows:
            return None
        found = Holder(**rows[0])
        if found.is_unmarked:
            await self._database.run("mark_key_used", found.id)
        return found


class _Act(Act):
    """An act on a key."""

    kind = field = "key"


def _fits(pattern: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def _hash(text: str) -> bytes:
    """The stored hash of a key or cookie: of 256 random bits, which no salt and no slow hash makes harder to guess."""
    return hashlib.sha256(text.encode()).digest()


def _meant(key: object) -> list[tuple[UUID | None, str | None]]:
    """The keys that may be meant: the one of this id, else the one of this name, which can look like an id."""
    meant: list[tuple[UUID | None, str | None]] = []
    if not isinstance(key, UUID | str):
        return []
    with suppress(ValueError):
        meant.append((key if isinstance(key, UUID) else UUID(key), None))
    with suppress(InvalidOption):
        meant.append((None, checks.key_name(key)))
    return meant


def _checked_scopes(given: object) -> list[str]:
    if (
        isinstance(given, str)
        or not isinstance(given, Collection)
        or len(given) == 0
        or not all(isinstance(scope, str) and scope in SCOPES for scope in given)
    ):
        raise InvalidOption(f"scopes must be a list of one or more of {', '.join(SCOPES)}; got {quoted(given)}.")
    return [scope for scope in SCOPES if scope in given]


def _checked_queues(given: object) -> list[str] | None:
    if given is None:
        return None
    if (
        isinstance(given, str)
        or not isinstance(given, Iterable)
        or not (names := sorted({checks.queue_name(name) for name in given}))
    ):
        raise InvalidOption(f"queues must be a list of one or more names; got {quoted(given)}. Omit it for all queues.")
    return names


__all__ = ["ApiKey", "Keys", "NewApiKey"]
