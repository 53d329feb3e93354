"""Check the options of tasks and jobs one by one: each error names the option, its rule, its value and the remedy."""

from __future__ import annotations

import inspect
import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import callables
from rowlock.queue.jobs.callables import refuse_generator
from rowlock.queue.jobs.json_values import find_defect
from rowlock.queue.jobs.results import storable_text
from rowlock.values import is_whole, to_timedelta
from rowlock.words import quoted, seconds, worded, zoned

Executor: TypeAlias = Literal["loop", "thread", "process"]

NAME_LIMIT: Final = 128
QUEUE_LIMIT: Final = 48
KEY_LIMIT: Final = 512
NEWEST_VERSION: Final = 2**15 - 1
MOST_IN_BATCH: Final = 10_000
MESSAGE_LIMIT: Final = 500
"""Bytes of a progress report's message."""
MOST_TAGS: Final = 20
LONGEST_TAG: Final = 64
MOST_METADATA: Final = 20
LONGEST_KEY: Final = 64
LONGEST_VALUE: Final = 256

TRACE: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
METADATA_KEY: Final = re.compile(r"[A-Za-z0-9_.-]+")
_NAME = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]+")
"""Not `.` and `..`: in the path of a URL they mean something else, and clients leave them out."""
FIRST_TIME: Final = datetime(1, 1, 2, tzinfo=UTC)
END_OF_TIME: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""Every time zone can show a time from the first on and before the second; the tables contain no other times."""


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
            f"{of} must be 1 to {limit} letters, digits, _ . and -, but not . or .. alone; got {quoted(name)}.",
            option=option or of,
        )
    return plain_text(name)


def plain_text(value: str) -> str:
    """The text itself, of a subclass too: msgspec and others write nothing but `str`."""
    return value if type(value) is str else str.__str__(value)


def plain_number(value: int) -> int:
    """The number itself, of a subclass too."""
    return value if type(value) is int else int.__int__(value)


def plain_moment(value: datetime) -> datetime:
    """The time itself, of a subclass too, such as that of another library."""
    return value if type(value) is datetime else datetime.combine(value.date(), value.timetz())


def priority(value: object) -> int:
    """0 (last) to 9 (first)."""
    if not is_whole(value, 0, 9):
        raise InvalidOption(
            f"priority must be a whole number from 0 (last) to 9 (first); got {quoted(value)}.",
            option="priority",
        )
    return plain_number(value)


def max_attempts(value: object) -> int:
    """At least 1."""
    if not is_whole(value, 1, 2**31 - 1):
        raise InvalidOption(
            f"max_attempts must be a whole number of at least 1 (1: no retry); got {quoted(value)}.",
            option="max_attempts",
        )
    return plain_number(value)


def max_crashes(value: object) -> int | None:
    """At least 1; None for the worker's own limit."""
    if value is not None and not is_whole(value, 1, 2**31 - 1):
        raise InvalidOption(
            f"max_crashes must be a whole number of at least 1 (1: at most once); got {quoted(value)}. "
            "Omit it for the workers' limit.",
            option="max_crashes",
        )
    return None if value is None else plain_number(value)


def concurrency(value: object, option: str = "concurrency") -> int:
    """At least 1."""
    if not is_whole(value, 1, 2**31 - 1):
        raise InvalidOption(f"{option} must be a whole number of at least 1; got {quoted(value)}.", option=option)
    return plain_number(value)


def flag(name: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise InvalidOption(f"{name} must be {worded('True or False', 'true or false')}; got {quoted(value)}.")
    return value


def tags(value: object, more: Sequence[str] = ()) -> tuple[str, ...] | None:
    """Up to 20 tags of 1 to 64 characters, each once, after `more`; None if there are none."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable | None):
        raise InvalidOption(
            f"tags must be a list of texts; got {quoted(value)}. Write them as ['import', 'customer:42'].",
            option="tags",
        )
    given = () if value is None else tuple(value)
    for tag in given:
        if not isinstance(tag, str) or not 1 <= len(tag) <= LONGEST_TAG or not _is_printed(tag):
            raise InvalidOption(
                f"tags must have 1 to {LONGEST_TAG} characters each, none of them a control character; "
                f"got {quoted(tag)}.",
                option="tags",
            )
    found = tuple(dict.fromkeys((*more, *map(plain_text, given))))
    if len(found) > MOST_TAGS:
        raise InvalidOption(f"tags must have at most {MOST_TAGS} entries; got {len(found)}.", option="tags")
    return found or None


def text(option: str, value: object, longest: int) -> str:
    """Text of 1 to `longest` characters that PostgreSQL can store."""
    if not isinstance(value, str) or not 1 <= len(value) <= longest or find_defect(value) is not None:
        raise InvalidOption(f"{option} must be text of 1 to {longest} characters; got {quoted(value)}.", option=option)
    return plain_text(value)


def metadata(value: object, usual: str | None = None) -> str | None:
    """Up to 20 texts by key, as JSON; they override those of `usual`. None if there are none."""
    if value is None:
        return usual
    found = metadata_texts("metadata", value)
    if usual is not None:
        found = {**msgspec.json.decode(usual), **found}
    if len(found) > MOST_METADATA:
        raise InvalidOption(
            f"metadata must have at most {MOST_METADATA} keys, with those of the task; got {len(found)}. "
            "Pass the rest as arguments of the job.",
            option="metadata",
        )
    return msgspec.json.encode(found).decode() if found else None


def metadata_texts(option: str, value: object) -> dict[str, str]:
    """Texts by key, each as the table stores it."""
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
                "Pass it as an argument of the job, or omit it.",
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
                "Pass it as an argument of the job.",
                option=option,
            )
    return {plain_text(key): plain_text(text) for key, text in value.items()}  # an enumeration's members, for example


def metadata_pairs(option: str, pairs: Iterable[str], separator: str) -> dict[str, str]:
    """Texts by key, from texts like `customer:42`. Raises `InvalidOption`, also for a repeated key."""
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
                f"{option} must have each key once; got {quoted(key)} twice. Remove one of them.", option=option
            )
        found[key] = text
    return metadata_texts(option, found)


def trace(value: object) -> str | None:
    """A W3C trace context: a `traceparent`."""
    if value is None:
        return None
    if not isinstance(value, str) or not TRACE.fullmatch(value):
        raise InvalidOption(
            f"trace must be a traceparent like 00-<32 digits>-<16 digits>-01; got {quoted(value)}. Omit it for none."
        )
    return plain_text(value)


def _is_printed(text: str) -> bool:
    return not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


def args_version(value: object, option: str = "args_version") -> int:
    """A version of a task's arguments: 1 to 32767."""
    if not is_whole(value, 1, NEWEST_VERSION):
        raise InvalidOption(
            f"{option} must be a whole number from 1 to {NEWEST_VERSION}; got {quoted(value)}.", option=option
        )
    return plain_number(value)


def delay(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, not negative."""
    given = _duration("delay", value)
    if given is not None and given < timedelta(0):
        raise InvalidOption(f"delay must be zero or more seconds; got {quoted(value)}.", option="delay")
    return given


def jitter(value: object) -> timedelta:
    """Seconds or a `timedelta`, not negative."""
    given = _duration("jitter", value)
    if given is None or given < timedelta(0):
        raise InvalidOption(
            f"jitter must be zero or more {worded('seconds, or a timedelta', 'seconds')}; got {quoted(value)}.",
            option="jitter",
        )
    return given


def timeout(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, above zero; None for no limit."""
    given = _duration("timeout", value)
    if given is not None and given <= timedelta(0):
        raise InvalidOption(
            f"timeout must be greater than zero; got {quoted(value)}. Omit it for no limit.", option="timeout"
        )
    return given


def wait(value: object) -> timedelta | None:
    """How long to wait: seconds or a `timedelta`; zero or less checks once; None for no limit."""
    return _duration("timeout", value)


def grace(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, not negative; None for that of the settings."""
    given = _duration("grace", value)
    if given is not None and given < timedelta(0):
        raise InvalidOption(
            f"grace must be zero or more seconds; got {quoted(value)}. Use 0 to release running jobs at once.",
            option="grace",
        )
    return given


def period(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, above zero."""
    given = _duration("period", value)
    if given is not None and given <= timedelta(0):
        raise InvalidOption(
            f"period must be greater than zero; got {quoted(value)}. Omit it for a key without a period."
        )
    return given


def lifetime(value: object) -> timedelta | None:
    """Seconds or a `timedelta`, above zero, up to a hundred years; None: for ever."""
    given = _duration("expires", value)
    if given is not None and given <= timedelta(0):
        raise InvalidOption(
            f"expires must be greater than zero; got {quoted(value)}. Omit it for a key that never expires."
        )
    return given


def key_name(name: object) -> str:
    """An API key's name: 1 to 64 of letters, digits, `_`, `.` and `-`."""
    return _name("key", name, 64)


def executor(value: object, function: Callable[..., object]) -> Executor:
    """Where the task's function runs: `loop` for `async` functions, `thread` or `process` for plain ones.

    By default `loop` or `thread`. A process imports the function by its name, so the module must define that name.
    """
    refuse_generator("A task", function)
    is_async = callables.is_async(function)
    if value is None:
        return "loop" if is_async else "thread"
    if value != "loop" and value != "thread" and value != "process":  # noqa: PLR1714  # narrows the type
        raise InvalidOption(f"executor must be 'loop', 'thread' or 'process'; got {quoted(value)}.")
    if is_async and value != "loop":
        raise InvalidOption(
            f"executor must be 'loop' for an async function; got {quoted(value)}. "
            "Omit the option, or write the function without async."
        )
    if not is_async and value == "loop":
        raise InvalidOption(
            "executor must be 'thread' or 'process' for a plain function, which would block every other job on the "
            "loop; got 'loop'. Omit the option (the function runs in a thread), or make the function async."
        )
    if value == "process":
        name = getattr(function, "__qualname__", "")
        if not name or "<" in name:
            raise InvalidOption(
                f"executor 'process' imports the function by its name; {quoted(name or function)} has no name in its "
                "module. Define it with def at the top level of a module."
            )
    return value


def callback(option: str, function: object, arguments: str) -> None:
    """A function of two arguments. Raises `InvalidOption` otherwise."""
    if not callable(function):
        raise InvalidOption(f"{option} must be a function of ({arguments}); got {quoted(function)}.")
    refuse_generator(option, function)
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError) as error:
        name = getattr(function, "__qualname__", None) or quoted(function)
        raise InvalidOption(
            f"{option} must be a function of ({arguments}); got {name}: {error}. Give it these two parameters."
        ) from None


def batch(value: object) -> int:
    """How many jobs one call takes: 1 to 10,000."""
    if not is_whole(value, 1, MOST_IN_BATCH):
        raise InvalidOption(
            f"batch must be a whole number from 1 to {MOST_IN_BATCH}; got {quoted(value)}. Omit it for no batches."
        )
    return plain_number(value)


def batch_wait(value: object) -> timedelta:
    """Seconds or a `timedelta`, not negative."""
    given = _duration("batch_wait", value)
    if given is None or given < timedelta(0):
        raise InvalidOption(f"batch_wait must be zero or more seconds; got {quoted(value)}.")
    return given


def result_ttl(value: object) -> timedelta | None:
    """Seconds or a `timedelta`; zero stores no result; None keeps it as long as the job's row."""
    given = _duration("result_ttl", value)
    if given is not None and given < timedelta(0):
        raise InvalidOption(
            f"result_ttl must be zero or more seconds; got {quoted(value)}. "
            "Use 0 to store no result, or omit it to keep the result."
        )
    return given


def capture_logs(value: object) -> int | None:
    """The lowest level of the lines to keep: of `True` the lowest, of a level's name that level, of `False` None."""
    if isinstance(value, bool):
        return logging.NOTSET if value else None
    level = logging.getLevelNamesMapping().get(value.upper()) if isinstance(value, str) else None
    if level is None:
        raise InvalidOption(
            f"capture_logs must be True, False, or a level like 'info' or 'warning'; got {quoted(value)}."
        )
    return level


def progress(fraction: object, message: object) -> tuple[float, str | None]:
    """A fraction from 0 to 1, and a text or None, both as they are stored."""
    if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 <= fraction <= 1:
        raise InvalidOption(f"progress must be a fraction from 0 to 1; got {quoted(fraction)}. Write 40 % as 0.4.")
    if message is not None and not isinstance(message, str):
        raise InvalidOption(
            f"The progress message must be text; got a value of type {type(message).__name__}. Omit it for none."
        )
    return float(fraction), None if message is None else storable_text(message, MESSAGE_LIMIT)


def _duration(option: str, value: object) -> timedelta | None:
    if value is None:
        return None
    given = to_timedelta(value)
    if given is None:
        raise InvalidOption(
            f"{option} must be {seconds()}, at most a hundred years; got {quoted(value)}.",
            option=option,
        )
    return given


def run_at(value: object) -> datetime | None:
    """An aware `datetime`."""
    return None if value is None else instant("run_at", value)


def instant(option: str, value: object) -> datetime:
    """An aware `datetime` that every time zone can show."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidOption(
            f"{option} must have a time zone, for example {zoned()}; got {quoted(value)}.",
            option=option,
        )
    if not FIRST_TIME <= value < END_OF_TIME:
        raise InvalidOption(
            f"{option} must be a time from {FIRST_TIME.date()} on, before {END_OF_TIME.date()}; got {quoted(value)}.",
            option=option,
        )
    return plain_moment(value)


def limit_in_time(option: str, value: object) -> timedelta | datetime | None:
    """`expires` or `deadline`: seconds or a `timedelta` above zero, from the enqueue on, or an aware `datetime`."""
    if isinstance(value, datetime):
        return instant(option, value)
    given = _duration(option, value)
    if given is not None and given <= timedelta(0):
        raise InvalidOption(
            f"{option} must be greater than zero; got {quoted(value)}. Omit it for no limit.", option=option
        )
    return given


def times(
    *,
    delay: timedelta | None,
    run_at: datetime | None,
    expires: timedelta | datetime | None,
    deadline: timedelta | datetime | None,
) -> None:
    """Refuse a job that would end before it is due, where no clock of the database is needed to know that."""
    for option, limit in (("expires", expires), ("deadline", deadline)):
        for name, due in (("delay", delay), ("run_at", run_at)):
            if type(limit) is type(due) and limit is not None and limit <= due:  # type: ignore[operator]  # the same types
                raise InvalidOption(
                    f"{option} must be after {name} {quoted(due)}; got {quoted(limit)}. The job could never run.",
                    option=option,
                )


def unique(value: object) -> str | None:
    """A key of 1 to 512 bytes that PostgreSQL can store."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidOption(f"unique must be text; got {quoted(value)}.", option="unique")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidOption(
            "unique contains a lone surrogate, which PostgreSQL cannot store.", option="unique"
        ) from error
    if "\0" in value:
        raise InvalidOption("unique contains a NUL character, which PostgreSQL cannot store.", option="unique")
    if not 1 <= size <= KEY_LIMIT:
        raise InvalidOption(
            f"unique must have 1 to {KEY_LIMIT} bytes; got {size}. Use a hash of a longer key.", option="unique"
        )
    return plain_text(value)
