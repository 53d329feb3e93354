"""A job's states, the edges between them, and the outcome of an attempt for its job. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from rowlock.errors import InvalidOption
from rowlock.values import to_timedelta
from rowlock.words import quoted, seconds


class State(StrEnum):
    """The stored states. The view `jobs` shows two kinds of `queued` as `scheduled` and `retrying`."""

    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


LIVE: Final = frozenset({State.BLOCKED, State.QUEUED, State.RUNNING})
FINAL: Final = frozenset(State) - LIVE
SHOWN: Final = (*(str(state) for state in State), "scheduled", "retrying")
"""The states that people see and may filter by."""

EDGES: Final[frozenset[tuple[State | None, str, State]]] = frozenset(
    {
        (None, "enqueue", State.QUEUED),
        (State.QUEUED, "claim", State.RUNNING),
        (State.QUEUED, "end_overdue", State.EXPIRED),
        (State.QUEUED, "end_overdue", State.FAILED),
        (State.QUEUED, "end_overdue", State.CANCELLED),
        (State.BLOCKED, "end_overdue", State.EXPIRED),
        (State.BLOCKED, "end_overdue", State.FAILED),
        (State.BLOCKED, "end_overdue", State.CANCELLED),
        (State.RUNNING, "succeed", State.SUCCEEDED),
        (State.RUNNING, "fail", State.FAILED),
        (State.RUNNING, "fail", State.CANCELLED),
        (State.RUNNING, "again", State.QUEUED),
        (State.QUEUED, "cancel", State.CANCELLED),
        (State.BLOCKED, "cancel", State.CANCELLED),
        (State.FAILED, "retry", State.QUEUED),
        (State.CANCELLED, "retry", State.QUEUED),
        (State.EXPIRED, "retry", State.QUEUED),
        (State.RUNNING, "rescue", State.QUEUED),
        (State.RUNNING, "rescue", State.FAILED),
    }
)
"""Every edge of the life cycle: from a state (None: the job does not exist yet), by the named statement, to a state.

`docs/lifecycle.md` draws them, and each statement takes these edges and no others.
"""


class Directive(Exception):
    """A handler raises or returns a directive to decide the outcome of its job: it is not an error."""


def _delay(delay: object, of: str) -> timedelta:
    given = to_timedelta(delay)
    if given is None:
        raise InvalidOption(
            f"{of}: delay must be {seconds()}, at most a hundred years; got {quoted(delay)}.", option="delay"
        )
    if given < timedelta(0):
        raise InvalidOption(f"{of}: delay must be zero or more seconds; got {quoted(delay)}.", option="delay")
    return given


def _reason(reason: object, of: str) -> str:
    if not isinstance(reason, str):
        raise InvalidOption(f"{of}: reason must be text; got {quoted(reason)}. Omit it for none.", option="reason")
    return reason


class _Later(Directive):
    """A directive with a delay, which is checked when it is made and never changes."""

    def __init__(self, delay: timedelta | float, *, reason: str = "") -> None:
        of = "Retry" if isinstance(self, Retry) else "Snooze"
        super().__init__(_reason(reason, of))
        self._delay = _delay(delay, of)

    @property
    def delay(self) -> timedelta:
        """How long the job waits."""
        return self._delay


class Retry(_Later):
    """Run the job again after `delay` (seconds or a `timedelta`); counts as an error of the job.

    >>> raise Retry(60, reason="the mail server is busy")
    """


class Snooze(_Later):
    """Run the job again after `delay` (seconds or a `timedelta`), without using up one of its attempts."""


class Cancel(Directive):
    """End the job as `cancelled`: there is nothing left to do, and nothing went wrong."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(_reason(reason, "Cancel"))


class Fail(Directive):
    """End the job as `failed`, even if it has attempts left: a retry would not help."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(_reason(reason, "Fail"))


class AttemptTimeout(TimeoutError):
    """An attempt that took longer than its job's `timeout`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The attempt is over, and the job goes back to `queued`, due after `delay`.

    Unless it `has_begun`, the job has not started, and still expires.
    """

    delay: timedelta
    outcome: str
    counts: bool
    has_begun: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The attempt is over, and so is the job: `state` is `failed` or `cancelled`."""

    state: State
    outcome: str
    counts: bool


RELEASED: Final = Again(delay=timedelta(0), outcome="released", counts=False, has_begun=False)
"""A worker releases a job that it could not begin."""

INTERRUPTED: Final = Again(delay=timedelta(0), outcome="released", counts=False)  # seam: interrupted
"""A worker releases a job that it could not finish, before it had to stop or because the database was away."""

CANCELLED: Final = Ended(state=State.CANCELLED, outcome="cancelled", counts=False)
"""An operator has cancelled the job, and its attempt has stopped."""


def decide(
    error: BaseException, *, errors: int, max_attempts: int, delay: Callable[[], timedelta], may_retry: bool = True
) -> Again | Ended:
    """Decide the outcome of an attempt that ended in `error`, after `errors` earlier attempts that counted.

    `delay` asks the task's backoff policy, only for a retry; `may_retry` is the verdict of its rules on this error. An
    attempt counts if the job itself caused its end; releases, snoozes and crashes of the worker do not count. The
    outcomes' names are those of the `attempt` table.
    """
    match error:
        case Directive():
            return _follow(error, errors=errors, max_attempts=max_attempts)
        case AttemptTimeout():
            outcome = "timeout"
        case _:
            outcome = "error"  # seam: error
    if errors + 1 >= max_attempts or not may_retry:  # seam: max attempts
        return Ended(state=State.FAILED, outcome=outcome, counts=True)
    return Again(delay=delay(), outcome=outcome, counts=True)  # seam: backoff


def _follow(directive: Directive, *, errors: int, max_attempts: int) -> Again | Ended:
    match directive:
        case Snooze(delay=delay):
            return Again(delay=delay, outcome="snoozed", counts=False)  # seam: snooze
        case Retry(delay=delay) if errors + 1 < max_attempts:
            return Again(delay=delay, outcome="retried", counts=True)
        case Retry():
            return Ended(state=State.FAILED, outcome="retried", counts=True)
        case Cancel():
            return Ended(state=State.CANCELLED, outcome="cancelled", counts=False)
        case Fail():
            return Ended(state=State.FAILED, outcome="failed", counts=True)
        case _:
            raise AssertionError(f"{type(directive).__name__} is not a directive of Rowlock")


__all__ = [
    "CANCELLED",
    "EDGES",
    "FINAL",
    "LIVE",
    "RELEASED",
    "SHOWN",
    "Again",
    "AttemptTimeout",
    "Cancel",
    "Directive",
    "Ended",
    "Fail",
    "Retry",
    "Snooze",
    "State",
    "decide",
]
