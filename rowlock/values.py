"""Values as callers give them: whole numbers, and durations as seconds or a `timedelta`. Pure."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Final, TypeGuard

LONGEST: Final = timedelta(days=365 * 100)
_LONGEST_SECONDS: Final = LONGEST.total_seconds()


def is_whole(value: object, least: int, most: int) -> TypeGuard[int]:
    """Whether it is a whole number from `least` to `most`. True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def to_timedelta(value: object) -> timedelta | None:
    """The duration, negative ones included; None for another value, and above a hundred years."""
    given: timedelta | None = None
    if isinstance(value, timedelta):
        given = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            given = timedelta(seconds=value) if value <= _LONGEST_SECONDS else None  # else it might round
    return None if given is None or given > LONGEST else given


__all__ = ["LONGEST", "is_whole", "to_timedelta"]
