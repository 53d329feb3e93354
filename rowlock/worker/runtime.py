"""What a handler can do with its own job while it runs: the attempt behind it, as the job sees it."""

from __future__ import annotations


class AttemptRuntime:
    """The running attempt of one job, behind the handler's `Job`."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False


__all__ = ["AttemptRuntime"]
