"""The test of a listening connection: whether it hears what it says itself.

A connection can answer every statement and hear nothing: its LISTEN was undone, by a pooler that handed the session on,
or a server that was exchanged behind an address. Only polling would find the work then, for ever.
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
"""Seconds of silence after which a connection says something to itself. Missed twice, it is deaf."""


class Ear:
    """The hearing of one connection, on a channel that it listens to. `owner` tells its words from those of others.

    Whatever is heard proves that it hears: where many listen, few of them need to say anything. PostgreSQL delivers a
    session's own notification before the answer to the statement that sent it, so no clock decides, and a blocked event
    loop is not taken for deafness.
    """

    def __init__(self, connection: ControlConnection, schema: str, name: str, owner: UUID) -> None:
        self._connection = connection
        self._channel = channel(schema, name)
        self._owner = owner
        self._unheard = 0
        self._test_at = 0.0
        self.begin()

    def begin(self) -> None:
        """The connection is a new one, or one that only now matters: nothing is known of it."""
        self._unheard = 0
        self.postpone()

    def heard(self) -> None:
        """Something was heard, whatever it was."""
        self.begin()

    def postpone(self) -> None:
        """Let the next test wait."""
        self._test_at = time.monotonic() + TEST_EVERY * random.uniform(0.8, 1.2)  # noqa: S311  # jitter

    def due_in(self) -> float:
        """In how many seconds to test."""
        return max(self._test_at - time.monotonic(), 0.0)

    async def test(self) -> bool:
        """Test, if it is time. False if the connection is deaf: it is thrown away, and its next use connects anew."""
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
            what="it is connected anew; polling goes on meanwhile. Behind a pooler set ROWLOCK_LISTEN=false",
        )
        self.begin()
        await self._connection.discard()
        return False


__all__ = ["Ear"]
