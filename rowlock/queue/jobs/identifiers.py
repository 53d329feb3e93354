"""Identifiers of jobs and workers: UUIDs of version 7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

from asyncpg.pgproto import pgproto

from rowlock.errors import InvalidOption

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION = 0x7000
_VARIANT = 0b10 << 62
_RANDOM_BITS = (1 << 62) - 1
_RANDOM_WORDS = struct.Struct("128Q")
_two_words = struct.Struct(">QQ").pack


class _Generator:
    """The process's state: the last tick used, and random numbers fetched from the system a kilobyte at a time.

    A tick is a 4096th of a millisecond, counted from 1970: the 48 bits of `unix_ts_ms` and the 12 of `rand_a` in one
    number (RFC 9562, section 6.2, method 3). Each identifier takes a later tick than the one before, whatever the clock
    does.
    """

    __slots__ = ("_last", "_lock", "_words")

    def __init__(self) -> None:
        self._last = 0
        self.restart()

    def restart(self) -> None:
        """Make a forked child independent: other random numbers, and a lock that no thread of the parent holds."""
        self._lock = threading.Lock()
        self._words: Iterator[int] = iter(())

    def next(self) -> bytes:
        """Return the 16 bytes of the next identifier."""
        with self._lock:
            milliseconds, rest = divmod(time.time_ns(), 1_000_000)
            tick = milliseconds << 12 | (rest << 12) // 1_000_000
            if tick <= self._last:
                tick = self._last + 1
            self._last = tick
            word = next(self._words, None)
            if word is None:
                self._words = iter(_RANDOM_WORDS.unpack(os.urandom(_RANDOM_WORDS.size)))
                word = next(self._words)
        return _two_words((tick >> 12) << 16 | _VERSION | tick & 0xFFF, _VARIANT | word & _RANDOM_BITS)


_generator = _Generator()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_generator.restart)


def uuid7() -> UUID:
    """Make a UUIDv7 that is greater than every one made before in this process.

    That holds across threads, within one microsecond, and when the clock steps back: then the identifiers go on from
    the last one, so that their time is ahead of the clock. 62 bits are random: identifiers of other processes, forked
    ones too, do not collide and cannot be guessed; their order is that of the clock. Its class is asyncpg's subclass of
    `uuid.UUID`, as that of the ids that are read: made, compared and sent in a fraction of the time.
    """
    return pgproto.UUID(_generator.next())


def created_at(identifier: UUID) -> datetime:
    """Return the millisecond, in UTC, at which a UUIDv7 was made. Raises `InvalidOption` for any other UUID."""
    if identifier.variant != RFC_4122 or identifier.version != 7:
        raise InvalidOption(
            f"{identifier} is not a UUID of version 7: it holds no time. Pass the id of a job or a worker"
        )
    try:
        return _EPOCH + timedelta(milliseconds=identifier.int >> 80)
    except OverflowError:
        raise InvalidOption(
            f"{identifier} holds a time after the year 9999. Pass the id of a job or a worker"
        ) from None
