"""What a handler can do with its own job while it runs: the attempt behind it, as the job sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rowlock.worker.attempts import Attempt


class AttemptRuntime:
    """The running attempt of one job, behind the handler's `Job`."""

    __slots__ = ("_attempt", "is_over")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self.is_over = False

    @property
    def is_cancelled(self) -> bool:
        """Whether an operator wants this attempt to stop."""
        return self._attempt.stop == "cancel"


__all__ = ["AttemptRuntime"]
