"""Detect that the server's clock has gone back, by this machine's monotonic clock."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

TOLERANCE: Final = 0.002
"""Seconds. A smaller step hides next to nothing."""
DRIFT: Final = 0.001
"""The drift between two clocks, in seconds a second: twice as much as NTP slews a clock."""


class ServerClock:
    """The server's clock, as the answers of one connection show it.

    Each answer contains a time that the server read between two moments of the monotonic clock. So it bounds how far
    the server's clock is ahead of the monotonic one, from below and from above. A bound from above that lies below an
    earlier bound from below proves that the server's clock went back in between: it was set, or another server with
    another clock has taken over.
    """

    def __init__(self) -> None:
        self._at_least_ahead = -inf
        self._asked_at = 0.0

    def has_gone_back(self, read: datetime, after: float, before: float) -> bool:
        """Whether the clock has gone back since the last call. `read`: the server's time, read between two moments."""
        at_least, at_most = read.timestamp() - before, read.timestamp() - after
        known = self._at_least_ahead - DRIFT * (before - self._asked_at)
        has_gone_back = at_most < known - TOLERANCE
        self._at_least_ahead = at_least if has_gone_back else max(known, at_least)
        self._asked_at = before
        return has_gone_back


__all__ = ["ServerClock"]
