"""Percentiles of what was counted in buckets, beside the exact ones."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock.queue.read.histograms import GROWTH, LAST, bucket_of, percentile

MILLISECOND = 0.001

times = st.lists(st.floats(0, 1e8) | st.floats(0, 1), min_size=1, max_size=200)
shares = st.sampled_from([0.5, 0.95, 0.99]) | st.floats(0.001, 1)


def counted(seconds: list[float]) -> tuple[list[int], list[int]]:
    by_bucket = Counter(map(bucket_of, seconds))
    return sorted(by_bucket), [by_bucket[bucket] for bucket in sorted(by_bucket)]


@given(times, shares)
def test_a_percentile_is_wrong_by_no_more_than_the_width_of_a_bucket(seconds: list[float], share: float) -> None:
    exact = sorted(seconds)[max(math.ceil(share * len(seconds) - 1e-9), 1) - 1]
    found = percentile(share, *counted(seconds))
    assert found is not None
    if exact < MILLISECOND:
        assert 0 <= found <= MILLISECOND * 1.000001
    else:
        assert exact / (GROWTH * 1.000001) <= found <= exact * GROWTH * 1.000001


@given(times)
def test_percentiles_ascend(seconds: list[float]) -> None:
    buckets, counts = counted(seconds)
    found = [percentile(share / 100, buckets, counts) or 0 for share in range(1, 101)]
    assert found == sorted(found)


@given(times, times, shares)
def test_histograms_that_are_added_up_tell_the_same_as_one_of_all(
    ones: list[float], others: list[float], share: float
) -> None:
    added = Counter(dict(zip(*counted(ones), strict=True))) + Counter(dict(zip(*counted(others), strict=True)))
    joined = sorted(added), [added[bucket] for bucket in sorted(added)]
    assert percentile(share, *joined) == percentile(share, *counted(ones + others))


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile(0.5, [], []) is None
    assert percentile(0.5, [3], [0]) is None


@pytest.mark.parametrize("seconds, bucket", [(0, 0), (0.0009, 0), (0.001, 1), (0.0015, 2), (0.0021, 3), (1e30, LAST)])
def test_a_time_has_its_bucket(seconds: float, bucket: int) -> None:
    assert bucket_of(seconds) == bucket
