"""Durations as callers give them: seconds or a `timedelta`. Pure."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Final

LONGEST: Final = timedelta(days=365 * 100)
_LONGEST_SECONDS: Final = LONGEST.total_seconds()


def to_timedelta(value: object) -> timedelta | None:
    """The duration, negative ones included; None for another value, and above a hundred years."""
    given: timedelta | None = None
    if isinstance(value, timedelta):
        given = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            given = timedelta(seconds=value) if value <= _LONGEST_SECONDS else None  # else it might round
    return None if given is None or given > LONGEST else given


__all__ = ["LONGEST", "to_timedelta"]
