"""Percentiles of times that were counted in buckets, each √2 times as wide as the one before. Pure: no I/O.

Bucket 0 counts times below a millisecond, bucket n times between 2^((n - 1) / 2) and 2^(n / 2) milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

GROWTH: Final = 2**0.5
"""The ratio of the longest to the shortest time in a bucket: the largest possible error of a percentile."""

_FIRST: Final = 0.001
"""Seconds: where bucket 0 ends."""


def percentile(share: float, buckets: Sequence[int], counts: Sequence[int]) -> float | None:
    """The time in seconds that `share` (0 to 1) of all take at most; None if nothing was counted.

    `buckets` in ascending order, each with its count. Between the ends of its bucket, times are assumed to be spread
    evenly in proportion.
    """
    rank = share * sum(counts)
    for bucket, count in zip(buckets, counts, strict=True):
        if rank <= count and count:
            return _within(bucket, rank / count)
        rank -= count
    return None


def bucket_of(seconds: float) -> int:
    """The bucket that a time falls into."""
    bucket = 0
    while bucket < LAST and seconds >= _end(bucket):
        bucket += 1
    return bucket


LAST: Final = 80
"""The bucket of all times longer than 17 years."""


def _within(bucket: int, place: float) -> float:
    if bucket == 0:
        return _FIRST * place
    return float(_end(bucket - 1) * GROWTH**place)


def _end(bucket: int) -> float:
    return float(_FIRST * GROWTH**bucket)


__all__ = ["GROWTH", "LAST", "bucket_of", "percentile"]
