"""Backoff policies: values that say how long to wait."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock.errors import InvalidOption
from rowlock.queue.retry import Exponential, parse_backoff

HOUR = timedelta(hours=1)


def seconds(policy: Exponential, errors: int, random: float = 0.0) -> float:
    return policy.delay(errors, random).total_seconds()


def test_each_error_doubles_the_delay() -> None:
    policy = Exponential(first=2, jitter=0)
    assert [seconds(policy, errors) for errors in (1, 2, 3, 4)] == [2, 4, 8, 16]


def test_the_delay_stops_growing_at_its_limit() -> None:
    policy = Exponential(first=10, factor=3, limit=timedelta(minutes=30), jitter=0)
    assert [seconds(policy, errors) for errors in range(1, 8)] == [10, 30, 90, 270, 810, 1800, 1800]


def test_the_limit_is_an_hour_unless_the_first_delay_is_longer() -> None:
    assert Exponential(first=2).limit == HOUR
    assert Exponential(first=timedelta(hours=2)).limit == timedelta(hours=2)


def test_ten_thousand_errors_wait_for_the_limit() -> None:
    assert Exponential(first=2, jitter=0).delay(10_000, 0.5) == HOUR
    assert Exponential(first=1e-6, factor=1000, jitter=0).delay(10_000, 0.5) == HOUR


def test_jitter_shortens_by_its_share_at_most() -> None:
    policy = Exponential(first=100, jitter=0.1)
    assert seconds(policy, 1, 0.0) == 100
    assert seconds(policy, 1, 0.5) == 95
    assert 90 < seconds(policy, 1, 0.999) < 90.1


def test_full_jitter_is_anything_up_to_the_delay() -> None:
    assert seconds(Exponential(first=8, jitter=1), 2, 0.75) == 4


def test_no_delay_stays_none() -> None:
    assert Exponential(first=0).delay(10_000, 0.0) == timedelta(0)


def test_a_factor_of_one_is_always_the_same_delay() -> None:
    assert Exponential(first=5, factor=1, jitter=0).delay(10_000, 0.0) == timedelta(seconds=5)


def test_a_count_below_one_is_taken_for_the_first_error() -> None:
    assert seconds(Exponential(first=5, jitter=0), 0) == 5


@given(
    first=st.floats(0, 3600),
    factor=st.floats(1, 1000),
    jitter=st.floats(0, 1),
    errors=st.integers(1, 10**9),
    random=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_never_negative_nor_above_the_limit(
    first: float, factor: float, jitter: float, errors: int, random: float
) -> None:
    policy = Exponential(first=first, factor=factor, jitter=jitter)
    assert timedelta(0) <= policy.delay(errors, random) <= policy.limit


@given(first=st.floats(0, 100), factor=st.floats(1, 10))
def test_without_jitter_delays_never_shrink(first: float, factor: float) -> None:
    policy = Exponential(first=first, factor=factor, jitter=0)
    delays = [policy.delay(errors, 0.5) for errors in range(1, 40)]
    assert all(earlier <= later for earlier, later in pairwise(delays))


@pytest.mark.parametrize(
    "options, name",
    [
        ({"first": -1}, "first=-1"),
        ({"first": float("nan")}, "first=nan"),
        ({"first": float("inf")}, "first=inf"),
        ({"first": 10**400}, "first="),
        ({"first": True}, "first=True"),
        ({"first": "2"}, "first='2'"),
        ({"first": timedelta.max}, "first="),
        ({"limit": -1}, "limit=-1"),
        ({"first": 10, "limit": 5}, "limit=5 is below first=10"),
        ({"factor": 0.5}, "factor=0.5"),
        ({"factor": float("nan")}, "factor=nan"),
        ({"factor": 10**400}, "factor="),
        ({"jitter": 1.5}, "jitter=1.5"),
        ({"jitter": -0.1}, "jitter=-0.1"),
        ({"jitter": False}, "jitter=False"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_its_value_and_a_remedy(
    options: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidOption, match=r"pass|raise the limit") as refusal:
        Exponential(**options)
    assert name in str(refusal.value)


def test_the_longest_limit_is_computed_without_overflow() -> None:
    assert Exponential(first=1, limit=timedelta(days=36_500), jitter=0).delay(500, 0.0) == timedelta(days=36_500)


def test_a_number_is_the_first_delay_in_seconds() -> None:
    assert parse_backoff(2.5) == Exponential(first=timedelta(seconds=2.5))
    assert parse_backoff(timedelta(minutes=1)) == Exponential(first=60)


def test_a_policy_is_taken_as_it_is() -> None:
    policy = Exponential(first=3)
    assert parse_backoff(policy) is policy


@pytest.mark.parametrize("value", [-1, "2s", None, True, float("nan"), object])
def test_a_backoff_that_makes_no_sense_is_refused(value: object) -> None:
    with pytest.raises(InvalidOption, match=r"backoff=.*pass the first delay"):
        parse_backoff(value)  # type: ignore[arg-type]  # that is the point


def test_a_policy_is_a_value() -> None:
    policy = Exponential(first=3)
    assert policy == Exponential(first=3)
    assert hash(policy) == hash(Exponential(first=3))
    with pytest.raises(FrozenInstanceError):
        policy.factor = 3.0  # type: ignore[misc]  # that it cannot be set is the point
