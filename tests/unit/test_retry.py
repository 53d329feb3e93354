"""Backoff policies: values that say how long to wait."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock import Fail, Linear, RemoteError, Retry
from rowlock.errors import InvalidOption
from rowlock.queue.jobs.lifecycle import AttemptTimeout
from rowlock.queue.tasks.backoff import Exponential, parse_backoff, parse_rules
from tests.logged import capture_logs

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
        ({"first": -1}, "first must be"),
        ({"first": float("nan")}, "first must be"),
        ({"first": float("inf")}, "first must be"),
        ({"first": 10**400}, "first must be"),
        ({"first": True}, "first must be"),
        ({"first": "2"}, "first must be"),
        ({"first": timedelta.max}, "first must be"),
        ({"limit": -1}, "limit must be"),
        ({"first": 10, "limit": 5}, "limit must be at least first=10; got 5"),
        ({"factor": 0.5}, "factor must be"),
        ({"factor": float("nan")}, "factor must be"),
        ({"factor": 10**400}, "factor must be"),
        ({"jitter": 1.5}, "jitter must be"),
        ({"jitter": -0.1}, "jitter must be"),
        ({"jitter": False}, "jitter must be"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_its_value_and_a_remedy(
    options: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidOption, match=r"; got ") as refusal:
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


def test_each_error_of_a_linear_policy_waits_a_step_longer_up_to_the_limit() -> None:
    policy = Linear(first=10, step=20, limit=60, jitter=0)
    assert [policy.delay(errors, 0.0).total_seconds() for errors in range(1, 6)] == [10, 30, 50, 60, 60]
    assert policy.delay(10**9, 0.0) == timedelta(seconds=60)


def test_the_step_of_a_linear_policy_is_as_long_as_the_first_delay_and_jitter_only_shortens() -> None:
    policy = Linear(first=5)
    assert [policy.delay(errors, 0.0).total_seconds() for errors in (1, 2, 3)] == [5, 10, 15]
    assert policy.delay(2, 0.5).total_seconds() == 9.5
    assert Linear(first=5, step=0, jitter=0).delay(7, 0.0) == timedelta(seconds=5)


@pytest.mark.parametrize(
    "options, name",
    [
        ({"first": -1}, "first must be"),
        ({"step": -1}, "step must be"),
        ({"step": "1"}, "step must be"),
        ({"first": 10, "limit": 5}, "limit must be at least first=10; got 5"),
        ({"jitter": 2}, "jitter must be"),
    ],
)
def test_a_linear_policy_that_makes_no_sense_is_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(name)):
        Linear(**options)


def test_a_list_is_followed_exactly_and_its_last_delay_repeats() -> None:
    policy = parse_backoff([1, timedelta(seconds=5), 60])
    assert [policy.delay(errors, 0.9, OSError()).total_seconds() for errors in (1, 2, 3, 4, 99)] == [1, 5, 60, 60, 60]
    assert parse_backoff((0,)).delay(1, 0.0) == timedelta(0)


@pytest.mark.parametrize(
    "value, said",
    [
        ([], "backoff must list at least one delay; got []"),
        ([1, -5], "backoff[1] must be seconds or a timedelta, from 0 to 100 years; got -5"),
        ([1, "x"], "backoff[1] must be seconds or a timedelta, from 0 to 100 years; got 'x'"),
        (lambda attempt: attempt, "backoff must be a function of attempt and error; got"),
        (lambda attempt, _error, _more: attempt, "backoff must be a function of attempt and error; got"),
    ],
)
def test_a_list_or_a_function_that_makes_no_sense_is_refused(value: object, said: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        parse_backoff(value)  # type: ignore[arg-type]  # that is the point


def test_an_async_function_is_no_backoff() -> None:
    async def wait(attempt: int, error: BaseException) -> float:
        return 1

    with pytest.raises(InvalidOption, match="must be a plain function, which returns the delay at once"):
        parse_backoff(wait)  # type: ignore[arg-type]  # that is the point


def test_a_function_computes_the_delay_from_the_attempt_and_the_error() -> None:
    policy = parse_backoff(lambda attempt, error: timedelta(minutes=attempt) if isinstance(error, OSError) else 3)
    assert policy.delay(2, 0.5, OSError()) == timedelta(minutes=2)
    assert policy.delay(2, 0.5, ValueError()) == timedelta(seconds=3)


@pytest.mark.parametrize("wrong", [-1, None, "soon", float("nan"), timedelta.max, ZeroDivisionError])
def test_what_a_function_raises_or_returns_wrongly_is_logged_and_the_default_used(wrong: object) -> None:
    def compute(attempt: int, error: BaseException) -> object:
        return attempt / 0 if wrong is ZeroDivisionError else wrong

    with capture_logs() as logs:
        policy = parse_backoff(compute)  # type: ignore[arg-type]  # that is the point
        assert policy.delay(2, 0.0, OSError()) == timedelta(seconds=4)
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("backoff_failed", "error")


def test_without_rules_every_error_is_retried() -> None:
    rules = parse_rules(None, None)
    assert rules.allow(ValueError())
    assert rules.allow(SystemExit())


def test_only_what_retry_on_names_is_retried() -> None:
    rules = parse_rules((TimeoutError, ConnectionError), None)
    assert rules.allow(ConnectionResetError()), "a kind of ConnectionError"
    assert rules.allow(AttemptTimeout()), "an attempt that took too long is a TimeoutError"
    assert not rules.allow(OSError())


def test_never_retry_wins() -> None:
    rules = parse_rules(OSError, [FileNotFoundError])
    assert rules.allow(PermissionError())
    assert not rules.allow(FileNotFoundError())
    assert not parse_rules(None, ValueError).allow(UnicodeDecodeError("utf-8", b"", 0, 1, ""))


def test_an_error_of_another_process_is_known_by_the_names_of_its_classes() -> None:
    error = RemoteError("TimeoutError", "", "", frozenset({"builtins.TimeoutError", "builtins.OSError"}))
    assert parse_rules(OSError, None).allow(error)
    assert not parse_rules(ValueError, None).allow(error)
    assert not parse_rules(None, TimeoutError).allow(error)


@pytest.mark.parametrize(
    "rules, said",
    [
        ({"retry_on": (ConnectionError,), "never_retry": (OSError,)}, "retry_on=ConnectionError is never retried"),
        ({"retry_on": ValueError, "never_retry": ValueError}, "retry_on=ValueError is never retried"),
        ({"retry_on": ()}, "retry_on must name at least one exception class"),
        ({"retry_on": "TimeoutError"}, "(TimeoutError, OSError); got 'TimeoutError'"),
        ({"retry_on": (OSError, 3)}, "(TimeoutError, OSError); got 3"),
        ({"never_retry": (int,)}, "(TimeoutError, OSError); got <class 'int'>"),
        ({"never_retry": ValueError("x")}, "(TimeoutError, OSError); got ValueError('x')"),
        ({"never_retry": Fail}, "never_retry must be classes of errors; got Fail"),
        ({"retry_on": Retry}, "retry_on must be classes of errors; got Retry"),
    ],
)
def test_rules_that_make_no_sense_are_refused_with_a_remedy(rules: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        parse_rules(**{"retry_on": None, "never_retry": None, **rules})


@pytest.mark.parametrize("value", [-1, "2s", None, True, float("nan"), object])
def test_a_backoff_that_makes_no_sense_is_refused(value: object) -> None:
    with pytest.raises(InvalidOption, match="backoff must be the first delay"):
        parse_backoff(value)  # type: ignore[arg-type]  # that is the point


def test_a_policy_is_a_value() -> None:
    policy = Exponential(first=3)
    assert policy == Exponential(first=3)
    assert hash(policy) == hash(Exponential(first=3))
    with pytest.raises(FrozenInstanceError):
        policy.factor = 3.0  # type: ignore[misc]  # that it cannot be set is the point
