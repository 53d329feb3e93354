"""Backoff and retry: policies for the delay before another attempt, and rules for the errors that allow one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias, TypeGuard

from rowlock import logs
from rowlock.errors import InvalidOption, RemoteError
from rowlock.queue.jobs.callables import is_async
from rowlock.queue.jobs.lifecycle import Directive
from rowlock.words import quoted

log = logs.get_logger("rowlock.worker")

_HOUR = timedelta(hours=1)
_LONGEST = timedelta(days=36_500)

BackoffFunction: TypeAlias = Callable[[int, BaseException], "timedelta | float"]
ExceptionClasses: TypeAlias = type[BaseException] | Sequence[type[BaseException]]


@dataclass(frozen=True, slots=True, init=False)
class Exponential:
    """Wait `first` after the first error, `factor` times as long after each further one, and never longer than `limit`.

    Durations are `timedelta` or seconds. `limit` is one hour by default, or `first` if that is longer. `jitter` is the
    random share of each delay, so that jobs which failed together do not come back together: it only shortens, so that
    `limit` holds; 0 is none, 1 is any delay between zero and the full one. Raises `InvalidOption`.

    ```python
    Exponential(
        first=10, factor=3, limit=timedelta(minutes=30)
    )  # 10 s, 30 s, 90 s, 270 s, 810 s, then every 30 minutes
    ```
    """

    first: timedelta
    factor: float
    limit: timedelta
    jitter: float

    def __init__(
        self,
        *,
        first: timedelta | float = timedelta(seconds=2),
        factor: float = 2.0,
        limit: timedelta | float | None = None,
        jitter: float = 0.1,
    ) -> None:
        start, longest = _bounds(first, limit)
        if not _is_number(factor) or not 1 <= factor <= 1000:
            raise InvalidOption(f"factor must be from 1 (always the same delay) to 1000; got {quoted(factor)}.")
        values = {"first": start, "factor": float(factor), "limit": longest, "jitter": _share(jitter)}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def delay(self, errors: int, random: float, _error: BaseException | None = None) -> timedelta:
        """Return the wait after this many errors, counted from 1. `random` is the draw, at least 0 and below 1."""
        seconds, limit = self.first.total_seconds(), self.limit.total_seconds()
        if not seconds:
            return timedelta(0)
        try:
            seconds = min(seconds * self.factor ** max(errors - 1, 0), limit)
        except OverflowError:
            seconds = limit
        return timedelta(seconds=seconds * (1 - self.jitter * random))


@dataclass(frozen=True, slots=True, init=False)
class Linear:
    """Wait `first` after the first error, `step` longer after each further one, and never longer than `limit`.

    Durations are `timedelta` or seconds. `step` is as long as `first` by default; `limit` and `jitter` are those of
    `Exponential`. Raises `InvalidOption`.

    ```python
    Linear(first=10, step=20, limit=60)  # 10 s, 30 s, 50 s, then every minute
    ```
    """

    first: timedelta
    step: timedelta
    limit: timedelta
    jitter: float

    def __init__(
        self,
        *,
        first: timedelta | float = timedelta(seconds=2),
        step: timedelta | float | None = None,
        limit: timedelta | float | None = None,
        jitter: float = 0.1,
    ) -> None:
        start, longest = _bounds(first, limit)
        rise = start if step is None else _duration("step", step)
        values = {"first": start, "step": rise, "limit": longest, "jitter": _share(jitter)}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def delay(self, errors: int, random: float, _error: BaseException | None = None) -> timedelta:
        """Return the wait after this many errors, counted from 1. `random` is the draw, at least 0 and below 1."""
        seconds = self.first.total_seconds() + self.step.total_seconds() * max(errors - 1, 0)
        return timedelta(seconds=min(seconds, self.limit.total_seconds()) * (1 - self.jitter * random))


@dataclass(frozen=True, slots=True)
class FixedDelays:
    """Wait for the delays of a list, one after the other; the last one repeats for all further errors."""

    delays: tuple[timedelta, ...]

    def delay(self, errors: int, _random: float, _error: BaseException | None = None) -> timedelta:
        """Return the wait after this many errors, counted from 1: exactly as listed."""
        return self.delays[min(max(errors, 1), len(self.delays)) - 1]


@dataclass(frozen=True, slots=True)
class Computed:
    """Compute the delay by a function of the application, from the number of the failed attempt and the error.

    If it raises an error, or returns anything but a delay, the error is logged and the default delay applies: the
    outcome stands.
    """

    function: BackoffFunction

    def delay(self, errors: int, random: float, error: BaseException | None = None) -> timedelta:
        """Return the wait after this many errors, counted from 1."""
        try:
            return _duration("the delay", self.function(errors, error if error is not None else Exception()))
        except Exception as failure:  # whatever the function raises
            log.exception("backoff_failed", error=type(failure).__name__, used="the default backoff")
            return DEFAULT.delay(errors, random)


Backoff: TypeAlias = Exponential | Linear | FixedDelays | Computed
"""Every kind of backoff policy."""

BackoffOption: TypeAlias = "Exponential | Linear | timedelta | float | Sequence[timedelta | float] | BackoffFunction"
"""The values of `@app.task(backoff=…)`."""


def parse_backoff(value: BackoffOption) -> Backoff:
    """Return the policy of `@app.task(backoff=…)`.

    A number (seconds) or a `timedelta` is the first delay of an exponential policy; a list contains all delays; a
    function computes them. Raises `InvalidOption` for anything else.
    """
    if isinstance(value, Exponential | Linear):
        return value
    if isinstance(value, list | tuple):
        if not value:
            raise InvalidOption("backoff must list at least one delay; got []. Write it as [1, 5, 60].")
        return FixedDelays(tuple(_duration(f"backoff[{place}]", delay) for place, delay in enumerate(value)))
    if callable(value) and not isinstance(value, type):
        return Computed(_function(value))
    try:
        return Exponential(first=value)  # type: ignore[arg-type]  # it is checked there
    except InvalidOption:
        raise InvalidOption(
            "backoff must be the first delay (seconds or a timedelta, 0 or longer), a list of delays, a function of "
            f"attempt and error, or a policy such as Exponential(first=2); got {quoted(value)}."
        ) from None


def _function(value: BackoffFunction) -> BackoffFunction:
    if is_async(value):
        raise InvalidOption(f"backoff must be a plain function, which returns the delay at once; got {quoted(value)}.")
    try:
        inspect.signature(value).bind(1, Exception())
    except (TypeError, ValueError) as error:
        raise InvalidOption(
            f"backoff must be a function of attempt and error; got {quoted(value)}: {error}. "
            "Write it as lambda attempt, error: seconds."
        ) from None
    return value


@dataclass(frozen=True, slots=True)
class Rules:
    """The exceptions that allow another attempt: those of `only` (None: all), but never those of `never`."""

    only: tuple[type[BaseException], ...] | None = None
    never: tuple[type[BaseException], ...] = ()

    def allow(self, error: BaseException) -> bool:
        """Whether a job may be retried after this error."""
        return not _is_one(error, self.never) and (self.only is None or _is_one(error, self.only))


def parse_rules(retry_on: ExceptionClasses | None, never_retry: ExceptionClasses | None) -> Rules:
    """Return the rules of `@app.task(retry_on=…, never_retry=…)`. Raises `InvalidOption`.

    A class of `retry_on` that `never_retry` covers is refused: it would never be retried.
    """
    only = None if retry_on is None else _classes("retry_on", retry_on)
    never = () if never_retry is None else _classes("never_retry", never_retry)
    for chosen in only or ():
        for refused in never:
            if issubclass(chosen, refused):
                raise InvalidOption(
                    f"retry_on={chosen.__name__} is never retried, because never_retry={refused.__name__} covers it. "
                    "Remove it from one of them."
                )
    return Rules(only, never)


def _classes(option: str, value: ExceptionClasses) -> tuple[type[BaseException], ...]:
    given = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    for one in given:
        if not isinstance(one, type) or not issubclass(one, BaseException):
            raise InvalidOption(
                f"{option} must be exception classes, such as (TimeoutError, OSError); got {quoted(one)}."
            )
        if issubclass(one, Directive):
            raise InvalidOption(
                f"{option} must be classes of errors; got {one.__name__}, a decision of the handler. Remove it."
            )
    if not given:
        raise InvalidOption(f"{option} must name at least one exception class; got none. Name one, or omit the option.")
    return tuple(given)


def _is_one(error: BaseException, classes: tuple[type[BaseException], ...]) -> bool:
    if isinstance(error, RemoteError):  # another process has its class; here is only the name
        return any(qualified_name(one) in error.kinds for one in classes) or isinstance(error, classes)
    return isinstance(error, classes)


def qualified_name(kind: type) -> str:
    """A class's name with its module: the same in every process that can import it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _bounds(first: timedelta | float, limit: timedelta | float | None) -> tuple[timedelta, timedelta]:
    start = _duration("first", first)
    longest = max(_HOUR, start) if limit is None else _duration("limit", limit)
    if longest < start:
        raise InvalidOption(
            f"limit must be at least first={quoted(first)}; got {quoted(limit)}. Raise limit or lower first."
        )
    return start, longest


def _share(jitter: float) -> float:
    if not _is_number(jitter) or not 0 <= jitter <= 1:
        raise InvalidOption(f"jitter must be a share from 0 (none) to 1 (the whole delay); got {quoted(jitter)}.")
    return float(jitter)


def _duration(name: str, value: timedelta | float) -> timedelta:
    duration = value if isinstance(value, timedelta) else None
    if _is_number(value):
        try:
            duration = timedelta(seconds=value)
        except (OverflowError, ValueError):  # NaN and Infinity too
            duration = None
    if duration is None or not timedelta(0) <= duration <= _LONGEST:
        raise InvalidOption(f"{name} must be seconds or a timedelta, from 0 to 100 years; got {quoted(value)}.")
    return duration


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


DEFAULT: Final = Exponential()
"""The policy of a task without `backoff`."""
