"""Statistics: medians of runs, percentiles, rates and ratios. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import median

Figures = dict[str, float]


def medians(runs: Sequence[Mapping[str, float]]) -> Figures:
    """The median of each figure over the runs that have it."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: median(run[name] for run in runs if name in run) for name in names}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed (nearest rank).

    >>> percentile([1, 2, 3, 4], 0.5)
    2
    """
    if not values:
        raise ValueError("A percentile of no values is not defined.")
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def rate_between(progress: Sequence[tuple[int, int]], began: int, first: int, last: int) -> float:
    """Jobs a second while the count went from `first` to `last`, from reports (nanoseconds, count) and the beginning.

    Between two reports the count is taken to grow evenly.
    """
    seconds = (_moment(progress, began, last) - _moment(progress, began, first)) / 1e9
    return (last - first) / seconds if seconds > 0 else 0.0


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median of the ratios of runs of the same round: what changes from minute to minute cancels out."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=False) if b > 0]
    return median(pairs) if pairs else None


def _moment(progress: Sequence[tuple[int, int]], began: int, wanted: int) -> float:
    before, count_before = began, 0
    for at, count in progress:
        if count >= wanted:
            share = (wanted - count_before) / (count - count_before) if count > count_before else 1.0
            return before + (at - before) * max(0.0, share)
        before, count_before = at, count
    return before
