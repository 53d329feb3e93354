"""The options of tasks and jobs, checked one by one: each refusal names the option, its value and what would do."""

from __future__ import annotations

import inspect
import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import callables
from rowlock.queue.jobs.callables import refuse_generator
from rowlock.queue.jobs.results import storable_text
from rowlock.words import quoted, seconds, worded, zoned

Executor: TypeAlias = Literal["loop", "thread", "process"]

NAME_LIMIT: Final = 128
QUEUE_LIMIT: Final = 48
KEY_LIMIT: Final = 512
NEWEST_VERSION: Final = 2**15 - 1
MOST_IN_BATCH: Final = 10_000
MESSAGE_LIMIT: Final = 500
"""Bytes of the message of a progress report."""
MOST_TAGS: Final = 20
LONGEST_TAG: Final = 64
MOST_METADATA: Final = 20
LONGEST_KEY: Final = 64
LONGEST_VALUE: Final = 256

TRACE: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
METADATA_KEY: Final = re.compile(r"[A-Za-z0-9_.-]+")
_NAME = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]+")
"""Not `.` and `..`: in the path of a URL they mean something else, and clients leave them out."""
_LONGEST = timedelta(days=365 * 100)
_LONGEST_SECONDS = _LONGEST.total_seconds()
FIRST_TIME: Final = datetime(1, 1, 2, tzinfo=UTC)
END_OF_TIME: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""Times from the first on and before the other can be shown in each time zone; the tables hold no others."""


def task_name(name: object) -> str:
    """A task's name: 1 to 128 of letters, digits, `_`, `.` and `-`."""
    return _name("task", name, NAME_LIMIT)


def queue_name(name: object) -> str:
    """A queue's name: 1 to 48 of letters, digits, `_`, `.` and `-`."""
    return _name("queue", name, QUEUE_LIMIT)


def schedule_name(name: object) -> str:
    """A schedule's name: 1 to 128 of letters, digits, `_`, `.` and `-`."""
    return _name("schedule", name, NAME_LIMIT, option="name")


def _name(of: str, name: object, limit: int, *, option: str | None = None) -> str:
    if not isinstance(name, str) or len(name) > limit or not _NAME.fullmatch(name):
        raise InvalidOption(
            f"{of} {quoted(name)} is not usable: use 1 to {limit} of letters, digits, _ . and -, but not . or .. alone",
            option=option or of,
        )
    return name


def priority(value: object) -> int:
    """0 (last) to 9 (first)."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 9:
        raise InvalidOption(
            f"priority {quoted(value)} is out of range: use a whole number from 0 (last) to 9 (first).",
            option="priority",
        )
    return value


def max_attempts(value: object) -> int:
    """At least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise InvalidOption(
            f"max_attempts {quoted(value)} makes no sense: use a whole number of at least 1 (1: no retry).",
            option="max_attempts",
        )
    return value


def max_crashes(value: object) -> int | None:
    """At least 1; None for the worker's own limit."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31):
        raise InvalidOption(
            f"max_crashes must be a whole number of at least 1 (1: at most once); got {quoted(value)}. "
            "Omit it for the workers' limit.",
            option="max_crashes",
        )
    return value


def concurrency(value: object) -> int:
    """At least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise InvalidOption(
            f"concurrency {quoted(value)} makes no sense: use a whole number of at least 1.", option="concurrency"
        )
    return value


def flag(name: str, value: object) -> bool:
    """Yes or no."""
    if not isinstance(value, bool):
        raise InvalidOption(f"{name} {quoted(value)} is neither {worded('True nor False', 'true nor false')}.")
    return value


def tags(value: object, more: Sequence[str] = ()) -> tuple[str, ...] | None:
    """Up to 20 tags of 1 to 64 characters, each once, after `more`; None if there are none."""
    if isinstance(value, str) or not isinstance(value, Iterable | None):
        raise InvalidOption(
            f"tags {quoted(value)} are no list of texts: write them as ['import', 'customer:42'].", option="tags"
        )
    found = tuple(dict.fromkeys((*more, *(value or ()))))
    for tag in found:
        if not isinstance(tag, str) or not 1 <= len(tag) <= LONGEST_TAG or not _is_printed(tag):
            raise InvalidOption(
                f"tags: {quoted(tag)} is no tag: use 1 to {LONGEST_TAG} characters, none of them a control character.",
                option="tags",
            )
    if len(found) > MOST_TAGS:
        raise InvalidOption(f"tags: there are {len(found)} of them, and {MOST_TAGS} at most may be.", option="tags")
    return found or None


def metadata(value: object, usual: str | None = None) -> str | None:
    """Up to 20 texts by key, over those of `usual`, as JSON; None if there are none."""
    if value is None:
        return usual
    found = metadata_texts("metadata", value)
    if usual is not None:
        found = {**msgspec.json.decode(usual), **found}
    if len(found) > MOST_METADATA:
        raise InvalidOption(
            f"metadata must have at most {MOST_METADATA} keys, with those of the task; got {len(found)}. "
            "Give the rest as arguments of the job.",
            option="metadata",
        )
    return msgspec.json.encode(found).decode() if found else None


def metadata_texts(option: str, value: object) -> dict[str, str]:
    """Texts by key, each as the table holds it."""
    if not isinstance(value, Mapping):
        raise InvalidOption(
            f'{option} must be texts by key; got {quoted(value)}. Write it as {{"customer": "42"}}.', option=option
        )
    for key, text in value.items():
        if not isinstance(key, str) or len(key) > LONGEST_KEY or not METADATA_KEY.fullmatch(key):
            raise InvalidOption(
                f"{option} must have keys of 1 to {LONGEST_KEY} of letters, digits, _ . and -; got {quoted(key)}. "
                "Rename it.",
                option=option,
            )
        if not isinstance(text, str):
            found, remedy = (
                f"a value of type {type(text).__name__}",
                "Give it as an argument of the job, or leave it out.",
            )
            if isinstance(text, int | float):
                found, remedy = quoted(text), f"Write it as {quoted(str(text))}."
            raise InvalidOption(
                f"{option} must have texts as values; got {found} for {quoted(key)}. {remedy}", option=option
            )
        if len(text) > LONGEST_VALUE or not _is_printed(text):
            raise InvalidOption(
                f"{option} must have values of up to {LONGEST_VALUE} characters, none of them a control character; got "
                f"{quoted(text) if len(text) <= LONGEST_VALUE else f'{len(text)} characters'} for {quoted(key)}. "
                "Give it as an argument of the job.",
                option=option,
            )
    return {str.__str__(key): str.__str__(text) for key, text in value.items()}  # of an enumeration, say


def metadata_pairs(option: str, pairs: Iterable[str], separator: str) -> dict[str, str]:
    """Texts by key, from texts like `customer:42`. Raises `InvalidOption`, also for a key that is there twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, between, text = pair.partition(separator)
        if not between:
            raise InvalidOption(
                f"{option} must be a key and a text with {separator} between them; got {quoted(pair)}. "
                f"Write it as customer{separator}42.",
                option=option,
            )
        if key in found:
            raise InvalidOption(
                f"{option} must have each key once; got {quoted(key)} twice. Leave one of them out.", option=option
            )
        found[key] = text
    return metadata_texts(option, found)


def trace(value: object) -> str | None:
    """A W3C trace context: a `traceparent`."""
    if value is None:
        return None
    if not isinstance(value, str) or not TRACE.fullmatch(value):
        raise InvalidOption(
            f"trace {quoted(value)} is no traceparent: give one like 00-<32 digits>-<16 digits>-01, or none."
        )
    return value


def _is_printed(text: str) -> bool:
    return not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


def args_version(value: object, option: str = "args_version") -> int:
    """A version of a task's arguments: 1 to 32767."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= NEWEST_VERSION:
        raise InvalidOption(
            f"{option} {quoted(value)} is out of range: use a whole number from 1 to {NEWEST_VERSION}.", option=option
        )
    return value


def delay(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, not negative."""
    given = _duration("delay", value)
    if given is not None and given < timedelta(0):
        raise InvalidOption(f"delay {quoted(value)} is negative: use zero or more seconds.", option="delay")
    return given


def jitter(value: object) -> timedelta:
    """Seconds or a `timedelta`, not negative."""
    given = _duration("jitter", value)
    if given is None or given < timedelta(0):
        raise InvalidOption(
            f"jitter {quoted(value)} is not usable: use zero or more {worded('seconds, or a timedelta', 'seconds')}.",
            option="jitter",
        )
    return given


def timeout(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, above zero; None for no limit."""
    given = _duration("timeout", value)
    if given is not None and given <= timedelta(0):
        raise InvalidOption(f"timeout {quoted(value)} is not above zero: leave it out for no limit.", option="timeout")
    return given


def wait(value: object) -> timedelta | None:
    """How long to wait: seconds or a `timedelta`, of which zero and less mean one look; None for no limit."""
    return _duration("timeout", value)


def grace(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, not negative; None for the settings' own."""
    given = _duration("grace", value)
    if given is not None and given < timedelta(0):
        raise InvalidOption(
            f"grace must be zero or more seconds; got {quoted(value)}. Use 0 to give running jobs back at once.",
            option="grace",
        )
    return given


def period(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, above zero."""
    given = _duration("period", value)
    if given is not None and given <= timedelta(0):
        raise InvalidOption(f"period {quoted(value)} is not above zero: a key is held for some time, or leave it out.")
    return given


def lifetime(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, above zero, up to a hundred years; None: for ever."""
    given = _duration("expires", value)
    if given is not None and given <= timedelta(0):
        raise InvalidOption(f"expires {quoted(value)} is not above zero: say how long it holds, or leave it out.")
    return given


def key_name(name: object) -> str:
    """The name of a key of the HTTP API: 1 to 64 of letters, digits, `_`, `.` and `-`."""
    return _name("key", name, 64)


def executor(value: object, function: Callable[..., object]) -> Executor:
    """Where the task's function runs: `loop` for `async` functions, `thread` or `process` for plain ones.

    By default `loop` or `thread`. A process imports the function by its name, so it must have one in its module.
    """
    refuse_generator("A task", function)
    is_async = callables.is_async(function)
    if value is None:
        return "loop" if is_async else "thread"
    if value != "loop" and value != "thread" and value != "process":  # noqa: PLR1714  # narrows the type
        raise InvalidOption(f"executor {quoted(value)} is not known: use 'loop', 'thread' or 'process'.")
    if is_async and value != "loop":
        raise InvalidOption(
            f"executor {quoted(value)} runs plain functions, and this one is async: "
            "leave the option out, or write the function without async."
        )
    if not is_async and value == "loop":
        raise InvalidOption(
            "executor 'loop' would let a plain function block every other job: "
            "leave the option out (it runs in a thread), or make the function async."
        )
    if value == "process":
        name = getattr(function, "__qualname__", "")
        if not name or "<" in name:
            raise InvalidOption(
                f"executor 'process' imports the function by its name, and {quoted(name or function)} has none in its "
                "module: define it with def at the top level of a module."
            )
    return value


def callback(option: str, function: object, arguments: str) -> None:
    """A function that can be called with two arguments. Raises `InvalidOption` otherwise."""
    if not callable(function):
        raise InvalidOption(f"{option} was given {quoted(function)}: give it a function of ({arguments}).")
    refuse_generator(option, function)
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError) as error:
        name = getattr(function, "__qualname__", repr(function))
        raise InvalidOption(
            f"{option}: {name} cannot be called with ({arguments}): {error}. Give it these two parameters."
        ) from None


def batch(value: object) -> int:
    """How many jobs one call takes: 1 to 10,000."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_IN_BATCH:
        raise InvalidOption(
            f"batch {quoted(value)} is out of range: use a whole number from 1 to {MOST_IN_BATCH}, or leave it out."
        )
    return value


def batch_wait(value: object) -> timedelta:
    """Seconds or a `timedelta`, not negative."""
    given = _duration("batch_wait", value)
    if given is None or given < timedelta(0):
        raise InvalidOption(f"batch_wait {quoted(value)} is negative: use zero or more seconds.")
    return given


def result_ttl(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, zero for no result at all; None for as long as the job's row is kept."""
    given = _duration("result_ttl", value)
    if given is not None and given < timedelta(0):
        raise InvalidOption(
            f"result_ttl {quoted(value)} is negative: use 0 to store no result, or leave it out to keep it."
        )
    return given


def capture_logs(value: object) -> int | None:
    """The level from which on lines are kept: of `True` the lowest, of a level's name that level, of `False` None."""
    if isinstance(value, bool):
        return logging.NOTSET if value else None
    level = logging.getLevelNamesMapping().get(value.upper()) if isinstance(value, str) else None
    if level is None:
        raise InvalidOption(
            f"capture_logs {quoted(value)} is not usable: use True, False, or a level as 'info' or 'warning'."
        )
    return level


def progress(fraction: object, message: object) -> tuple[float, str | None]:
    """A fraction from 0 to 1, and a text or None, both as they are stored."""
    if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 <= fraction <= 1:
        raise InvalidOption(
            f"progress {quoted(fraction)} is out of range: use a fraction from 0 to 1, like 0.4 for 40 %."
        )
    if message is not None and not isinstance(message, str):
        raise InvalidOption(f"The progress message is of type {type(message).__name__}: use text, or leave it out.")
    return float(fraction), None if message is None else storable_text(message, MESSAGE_LIMIT)


def _duration(option: str, value: object) -> timedelta | None:
    if value is None:
        return None
    given: timedelta | None = None
    if isinstance(value, timedelta):
        given = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            given = timedelta(seconds=value) if value <= _LONGEST_SECONDS else None  # else it might round
    if given is None or given > _LONGEST:
        raise InvalidOption(
            f"{option} {quoted(value)} is not usable: give {seconds()}, at most a hundred years.",
            option=option,
        )
    return given


def run_at(value: object) -> datetime | None:
    """An aware `datetime`."""
    return None if value is None else instant("run_at", value)


def instant(option: str, value: object) -> datetime:
    """An aware `datetime` that can be shown in each time zone."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidOption(
            f"{option} must have a time zone, as {zoned()} has; got {quoted(value)}.",
            option=option,
        )
    if not FIRST_TIME <= value < END_OF_TIME:
        raise InvalidOption(
            f"{option} must be a time from {FIRST_TIME.date()} on, before {END_OF_TIME.date()}; got {quoted(value)}.",
            option=option,
        )
    return value


def limit_in_time(option: str, value: object) -> timedelta | datetime | None:
    """Of `expires` and `deadline`: seconds or a `timedelta` above zero, from the enqueue on, or an aware `datetime`."""
    if isinstance(value, datetime):
        return instant(option, value)
    given = _duration(option, value)
    if given is not None and given <= timedelta(0):
        raise InvalidOption(f"{option} {quoted(value)} is not above zero: leave it out for no limit.", option=option)
    return given


def times(
    *,
    delay: timedelta | None,
    run_at: datetime | None,
    expires: timedelta | datetime | None,
    deadline: timedelta | datetime | None,
) -> None:
    """Refuse a job that would be over before it is due, as far as that can be known without the database's clock."""
    for option, limit in (("expires", expires), ("deadline", deadline)):
        for name, due in (("delay", delay), ("run_at", run_at)):
            if type(limit) is type(due) and limit is not None and limit <= due:  # type: ignore[operator]  # the same types
                raise InvalidOption(
                    f"{option} {quoted(limit)} is not after {name} {quoted(due)}: the job could never run. "
                    "Give it time.",
                    option=option,
                )


def unique(value: object) -> str | None:
    """A key of 1 to 512 bytes that PostgreSQL can store."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidOption(f"unique {quoted(value)} is not text: use a string as the key.", option="unique")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidOption("unique holds a lone surrogate, which PostgreSQL cannot store.", option="unique") from error
    if "\0" in value:
        raise InvalidOption("unique holds a NUL character, which PostgreSQL cannot store.", option="unique")
    if not 1 <= size <= KEY_LIMIT:
        raise InvalidOption(
            f"unique has {size} bytes: use 1 to {KEY_LIMIT}; of something longer, use a hash.", option="unique"
        )
    return value
