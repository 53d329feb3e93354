"""Uniqueness: the key of a job, how long the job keeps it, and what happens to a duplicate."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, Protocol, TypeAlias, get_args

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.words import quoted, worded

ALL_ARGUMENTS: Final = "arguments"

Until: TypeAlias = Literal["finish", "start"]
OnDuplicate: TypeAlias = Literal["return", "raise", "replace", "skip"]


class Arguments(Protocol):
    """The arguments of a task's function, from which a key is made."""

    def canonical(self, document: str, names: Sequence[str] | None) -> bytes:
        """Bytes that identify the values of the named arguments, or of all that differ from their defaults."""
        ...

    def check_names(self, names: Sequence[str]) -> None:
        """Raise `InvalidOption` unless the function has arguments of all these names."""
        ...


@dataclass(frozen=True, slots=True, init=False)
class Unique:
    """A job's uniqueness: its key, how long the job holds the key, and what happens to a duplicate.

    Give either `key`, a text of up to 512 bytes, or `by`: the names of the arguments whose values make the key, or
    `"arguments"` for all that differ from their defaults. `until`: the job holds the key until it has finished, or only
    until it starts (and again while it waits for another attempt, unless another job holds the key by then). `period`
    (seconds or a `timedelta`, instead of `until`): the key is held for this long after the enqueue, whatever happens to
    the job. A key belongs to its task, unless it is shared `across_tasks`.

    `on_duplicate`: `"return"` stores nothing and returns the handle of the job that holds the key. `"raise"` raises
    `DuplicateJob`. `"replace"` gives the arguments, the time and the other options of the duplicate to the holder, if
    that still waits. `"skip"` is like `"return"`, but `enqueue_many` omits the duplicates. Raises `InvalidOption`.

    >>> @app.task(unique=Unique(by=["customer"], until="start"))
    ... async def rebuild_index(customer: int) -> None: ...
    >>> await send_email.using(unique=Unique("welcome:42", period=3600)).enqueue("ada@example.com", "Hi", "…")
    """

    key: str | None
    by: tuple[str, ...] | Literal["arguments"] | None
    until: Until
    period: timedelta | None
    across_tasks: bool
    on_duplicate: OnDuplicate

    def __init__(
        self,
        key: str | None = None,
        *,
        by: Sequence[str] | Literal["arguments"] | None = None,
        until: Until = "finish",
        period: timedelta | float | None = None,
        across_tasks: bool = False,
        on_duplicate: OnDuplicate = "return",
    ) -> None:
        if (key is None) == (by is None):
            given = "neither" if key is None else "both"
            raise InvalidOption(f"Unique must have either key or by (argument names); got {given}.")
        if period is not None and until == "start":
            raise InvalidOption("Unique must have either period or until='start'; got both.")
        set_field = object.__setattr__
        set_field(self, "key", checks.unique(key))
        set_field(self, "by", None if by is None else _names(by))
        set_field(self, "until", _one_of("until", until, get_args(Until)))
        set_field(self, "period", checks.period(period))
        set_field(self, "across_tasks", _truth("across_tasks", across_tasks))
        set_field(self, "on_duplicate", _one_of("on_duplicate", on_duplicate, get_args(OnDuplicate)))

    def stored_key(self, task: str, document: str, arguments: Arguments | None) -> str:
        """The stored key, with its scope, of a job of the task with these arguments (JSON text).

        `arguments` are those of the task's function, None if the function is unknown. Raises `InvalidOption`.
        """
        key = self.key
        if key is None:
            chosen = None if self.by == ALL_ARGUMENTS else self.by
            canonical = _given(task, document, chosen) if arguments is None else arguments.canonical(document, chosen)
            key = hashlib.sha256(canonical).hexdigest()
        return f"{'' if self.across_tasks else task}:{key}"


def parse_unique(value: object, arguments: Arguments | None = None) -> Unique | None:
    """The `unique=` option: a `Unique`, a text as its key, or None. Raises `InvalidOption`.

    With the arguments of a task, `by` must name some of them.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return Unique(value)
    if not isinstance(value, Unique):
        raise InvalidOption(f"unique must be text (the key) or a rowlock.Unique; got {quoted(value)}.")
    if arguments is not None and value.by is not None and value.by != ALL_ARGUMENTS:
        arguments.check_names(value.by)
    return value


def _given(task: str, document: str, names: Sequence[str] | None) -> bytes:
    """The chosen arguments of a task whose function is unknown here, so each of them must be given."""
    values: dict[str, object] = msgspec.json.decode(document)
    for name in names or ():
        if name not in values:
            raise InvalidOption(
                f"unique by {quoted(name)} needs the argument {quoted(name)}, which was not given; its default is "
                f"unknown here, because the function of {task} is. Give the argument, or a key."
            )
    chosen = values if names is None else {name: values[name] for name in names}
    return msgspec.json.encode(chosen, order="sorted")


def _names(by: object) -> tuple[str, ...] | str:
    if by == ALL_ARGUMENTS:
        return ALL_ARGUMENTS
    if isinstance(by, str) or not isinstance(by, Sequence) or not all(isinstance(name, str) for name in by):
        raise InvalidOption(
            f"Unique: by must be a list of argument names, like by=['recipient'], or by='arguments'; got {quoted(by)}."
        )
    if not by or len(set(by)) < len(by):
        raise InvalidOption(f"Unique: by must name at least one argument, each once; got {quoted(by)}.")
    return tuple(map(checks.plain_text, by))


def _one_of(option: str, value: object, known: Sequence[str]) -> object:
    if value not in known:
        raise InvalidOption(f"Unique: {option} must be one of {', '.join(map(quoted, known))}; got {quoted(value)}.")
    return value


def _truth(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidOption(
            f"Unique: {option} must be {worded('True or False', 'true or false')}; got {quoted(value)}."
        )
    return value
