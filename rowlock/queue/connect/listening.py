"""Test a listening connection: whether it receives its own notifications.

A connection can answer every statement and receive no notification: a pooler that passed the session on, or a server
that was replaced behind an address, has undone its LISTEN. Then only polling would find the work, for ever.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from rowlock import logs
from rowlock.queue.connect.statements import channel

if TYPE_CHECKING:
    from uuid import UUID

    from rowlock.queue.connect.sessions import ControlConnection

log = logs.get_logger("rowlock.listen")

TEST_EVERY: Final = 4.0
"""Seconds of silence after which a connection notifies itself. If it misses two notifications, it is deaf."""


class Ear:
    """The test of one connection, on a channel that it listens to. `owner` distinguishes its tests from others'.

    Any received notification proves that the connection works: where many listen, few of them need a test. PostgreSQL
    delivers a session's own notification before the answer to the statement that sent it, so no clock decides, and a
    blocked event loop does not count as deafness.
    """

    def __init__(self, connection: ControlConnection, schema: str, name: str, owner: UUID) -> None:
        self._connection = connection
        self._channel = channel(schema, name)
        self._owner = owner
        self._unheard = 0
        self._test_at = 0.0
        self.begin()

    def begin(self) -> None:
        """Begin with a connection that is new, or matters only from now on: its state is unknown."""
        self._unheard = 0
        self.postpone()

    def heard(self) -> None:
        """Note any received notification."""
        self.begin()

    def postpone(self) -> None:
        """Postpone the next test."""
        self._test_at = time.monotonic() + TEST_EVERY * random.uniform(0.8, 1.2)  # noqa: S311  # jitter

    def due_in(self) -> float:
        """The seconds until the next test."""
        return max(self._test_at - time.monotonic(), 0.0)

    async def test(self) -> bool:
        """Test, if it is time. False if the connection is deaf: it is discarded, and its next use reconnects."""
        if self.due_in() > 0:
            return True
        self.postpone()
        self._unheard += 1
        await self._connection.fetch("test_listening", self._channel, f"test:{self._owner}")
        if self._unheard < 2:
            return True
        log.warning(
            "listen_is_deaf",
            channel=self._channel,
            what="the connection is replaced, and polling goes on meanwhile. Behind a pooler set ROWLOCK_LISTEN=false",
        )
        self.begin()
        await self._connection.discard()
        return False


__all__ = ["Ear"]
