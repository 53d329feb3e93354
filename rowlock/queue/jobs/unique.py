"""Uniqueness: what makes two jobs the same, for how long, and what becomes of the second one."""

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
    """The arguments of a task's function, as far as a key is made of them."""

    def canonical(self, document: str, names: Sequence[str] | None) -> bytes:
        """The bytes that stand for the values of the named arguments, or of all that differ from their defaults."""
        ...

    def check_names(self, names: Sequence[str]) -> None:
        """Raise `InvalidOption` unless the function has arguments of all these names."""
        ...


@dataclass(frozen=True, slots=True, init=False)
class Unique:
    """What makes a job unique: its key, how long the key is held, and what becomes of a second job with the same one.

    Either `key`, a text of up to 512 bytes, or `by`: the names of the arguments whose values make the key, or
    `"arguments"` for all that differ from their defaults. `until`: the key is held until its job has finished, or only
    until it starts (and again while it waits for another attempt, unless another job has the key by then). `period`
    (seconds or a `timedelta`, instead of `until`): it is held for so long from the enqueue on, whatever becomes of the
    job. A key belongs to its task, unless it is shared `across_tasks`.

    `on_duplicate`: `"return"` stores nothing, the handle is that of the job which holds the key. `"raise"` raises
    `DuplicateJob`. `"replace"` gives the holder, if it still waits, the arguments, the time and the other options of
    the second one. `"skip"` is like `"return"`, but `enqueue_many` leaves the duplicates out. Raises `InvalidOption`.

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
            given = "neither key nor by is given" if key is None else "key and by are both given"
            raise InvalidOption(f"Unique: {given}: give the key, or the names of the arguments that make it.")
        if period is not None and until == "start":
            raise InvalidOption(
                "Unique: period and until='start' are both given: a key is held for a period, or until."
            )
        set_field = object.__setattr__
        set_field(self, "key", checks.unique(key))
        set_field(self, "by", None if by is None else _names(by))
        set_field(self, "until", _one_of("until", until, get_args(Until)))
        set_field(self, "period", checks.period(period))
        set_field(self, "across_tasks", _truth("across_tasks", across_tasks))
        set_field(self, "on_duplicate", _one_of("on_duplicate", on_duplicate, get_args(OnDuplicate)))

    def stored_key(self, task: str, document: str, arguments: Arguments | None) -> str:
        """The key in its scope, as it is stored, of a job of the task with these arguments (JSON text).

        `arguments` are those of the task's function, None where it is not known. Raises `InvalidOption`.
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
        raise InvalidOption(f"unique {quoted(value)} is not usable: give the key as text, or a rowlock.Unique.")
    if arguments is not None and value.by is not None and value.by != ALL_ARGUMENTS:
        arguments.check_names(value.by)
    return value


def _given(task: str, document: str, names: Sequence[str] | None) -> bytes:
    """The chosen arguments of a task whose function is not known here: all of them must be given."""
    values: dict[str, object] = msgspec.json.decode(document)
    for name in names or ():
        if name not in values:
            raise InvalidOption(
                f"unique by {quoted(name)}: the arguments of {task} have none of this name, and its function, "
                "which may have a default for it, is not known here: give the argument, or a key."
            )
    chosen = values if names is None else {name: values[name] for name in names}
    return msgspec.json.encode(chosen, order="sorted")


def _names(by: object) -> tuple[str, ...] | str:
    if by == ALL_ARGUMENTS:
        return ALL_ARGUMENTS
    if isinstance(by, str) or not isinstance(by, Sequence) or not all(isinstance(name, str) for name in by):
        raise InvalidOption(
            f"Unique: by {quoted(by)} is not usable: give a list of argument names, as by=['recipient'], "
            "or by='arguments'."
        )
    if not by or len(set(by)) < len(by):
        raise InvalidOption(f"Unique: by {quoted(by)} names no argument, or one twice: name each argument once.")
    return tuple(by)


def _one_of(option: str, value: object, known: Sequence[str]) -> object:
    if value not in known:
        raise InvalidOption(
            f"Unique: {option} {quoted(value)} is not known: use one of {', '.join(map(quoted, known))}."
        )
    return value


def _truth(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidOption(
            f"Unique: {option} {quoted(value)} is neither {worded('True nor False', 'true nor false')}."
        )
    return value
