"""What the end of an attempt means for its job."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from rowlock import Cancel, Fail, InvalidOption, Retry, Snooze
from rowlock.queue.jobs.lifecycle import (
    EDGES,
    FINAL,
    LIVE,
    RELEASED,
    SHOWN,
    Again,
    AttemptTimeout,
    Ended,
    State,
    decide,
)

DELAY = timedelta(seconds=7)


def decision(error: BaseException, *, errors: int = 0, max_attempts: int = 3, may_retry: bool = True) -> Again | Ended:
    return decide(error, errors=errors, max_attempts=max_attempts, delay=lambda: DELAY, may_retry=may_retry)


def test_an_error_is_retried_after_the_policys_delay() -> None:
    assert decision(ValueError("no")) == Again(delay=DELAY, outcome="error", counts=True)


def test_the_last_error_ends_the_job_as_failed() -> None:
    assert decision(ValueError("no"), errors=2) == Ended(state=State.FAILED, outcome="error", counts=True)
    assert decision(ValueError("no"), max_attempts=1) == Ended(state=State.FAILED, outcome="error", counts=True)


def test_a_timeout_is_an_error_of_its_own_name() -> None:
    assert decision(AttemptTimeout()).outcome == "timeout"
    assert decision(TimeoutError("the handler's own")).outcome == "error"


def test_an_error_that_the_rules_do_not_retry_ends_the_job_whatever_attempts_are_left() -> None:
    assert decision(ValueError("no"), may_retry=False) == Ended(state=State.FAILED, outcome="error", counts=True)
    assert decision(AttemptTimeout(), may_retry=False) == Ended(state=State.FAILED, outcome="timeout", counts=True)
    assert decision(Retry(60), may_retry=False).outcome == "retried", "what a handler decides stands above the rules"
    assert isinstance(decision(Retry(60), may_retry=False), Again)


def test_retry_chooses_the_delay_and_counts() -> None:
    assert decision(Retry(60)) == Again(delay=timedelta(minutes=1), outcome="retried", counts=True)
    assert decision(Retry(60), errors=2) == Ended(state=State.FAILED, outcome="retried", counts=True)


def test_snooze_uses_up_no_attempt_even_at_the_last_one() -> None:
    assert decision(Snooze(60), errors=2) == Again(delay=timedelta(minutes=1), outcome="snoozed", counts=False)


def test_cancel_and_fail_end_the_job_whatever_attempts_are_left() -> None:
    assert decision(Cancel("gone")) == Ended(state=State.CANCELLED, outcome="cancelled", counts=False)
    assert decision(Fail("hopeless")) == Ended(state=State.FAILED, outcome="failed", counts=True)


def test_a_release_counts_nothing() -> None:
    assert Again(delay=timedelta(0), outcome="released", counts=False, has_begun=False) == RELEASED


@pytest.mark.parametrize("directive", [Retry, Snooze])
def test_a_negative_delay_is_refused(directive: type[Retry | Snooze]) -> None:
    with pytest.raises(InvalidOption, match="delay must be zero or more seconds; got -1"):
        directive(-1)


def test_every_state_is_live_or_final_and_only_an_operators_retry_leaves_a_final_one() -> None:
    assert set(State) == LIVE | FINAL
    assert not LIVE & FINAL
    assert {verb for start, verb, _ in EDGES if start in FINAL} == {"retry"}
    assert not [edge for edge in EDGES if edge[0] is State.SUCCEEDED]
    assert {*map(str, State), "scheduled", "retrying"} == set(SHOWN)


@pytest.mark.parametrize("directive", [Retry, Snooze])
@pytest.mark.parametrize("delay", ["60", None, [], float("nan"), float("inf"), 2**70, True, timedelta.max])
def test_a_delay_that_is_no_duration_is_refused(directive: type[Retry | Snooze], delay: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidOption, match=f"^{directive.__name__}: delay must be seconds or a timedelta, at most"):
        directive(delay)


@pytest.mark.parametrize("reason", [None, 5, b"x", ["x"]])
def test_a_reason_is_text(reason: Any) -> None:  # noqa: ANN401
    for name, make in {
        "Retry": partial(Retry, 1),
        "Snooze": partial(Snooze, 1),
        "Cancel": Cancel,
        "Fail": Fail,
    }.items():
        with pytest.raises(InvalidOption, match=f"^{name}: reason must be text; got .* Omit it for none"):
            make(reason=reason)  # type: ignore[operator]


@pytest.mark.parametrize("directive", [Retry, Snooze])
def test_a_delay_stays_as_it_was_checked(directive: type[Retry | Snooze]) -> None:
    made = directive(60)
    with pytest.raises(AttributeError):
        made.delay = timedelta.max  # type: ignore[misc]  # that is what is refused
    assert made.delay == timedelta(minutes=1)
