"""Links: the connections to PostgreSQL of one shift of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.queue.connect.sessions import ControlConnection
from rowlock.worker.duties.steps import LOCK_WAIT

if TYPE_CHECKING:
    from collections import Counter

    from rowlock.settings import Settings

PURPOSES: Final = ("claim", "finish", "attention", "upkeep", "handlers", "lease")
"""The purposes of a worker's connections. `handlers` connects when a handler needs it."""


class Links:
    """One connection for each purpose, so that no purpose waits for another's statements.

    `claim` claims jobs and listens for notifications. `finish` records outcomes. `attention` reads operators' acts and
    fires ticks. `upkeep` does the duties. The lease has its own connection, in its thread. `connects` counts the
    connects of each purpose.
    """

    def __init__(self, settings: Settings, dsn: str, connects: Counter[str]) -> None:
        self.claim = ControlConnection(settings, dsn, purpose="claim", connects=connects)
        self.finish = ControlConnection(settings, dsn, purpose="finish", connects=connects)
        self.attention = ControlConnection(settings, dsn, purpose="attention", lock_wait=LOCK_WAIT, connects=connects)
        self.upkeep = ControlConnection(settings, dsn, purpose="upkeep", lock_wait=LOCK_WAIT, connects=connects)

        self.every: Final = (self.claim, self.finish, self.attention, self.upkeep)
        self.all_but_finish: Final = (self.claim, self.attention, self.upkeep)


__all__ = ["PURPOSES", "Links"]
