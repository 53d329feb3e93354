"""Which jobs are meant: one filter for lists and for acts on many jobs, checked when it is made."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue import options
from rowlock.queue.forms import TEXT, Age, QueueName, State, TaskName, said
from rowlock.queue.json_values import find_defect
from rowlock.queue.lifecycle import SHOWN

if TYPE_CHECKING:
    from collections.abc import Mapping


class JobFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which jobs are meant: those that fit everything that is given. Raises `InvalidOption`, which names what is wrong.

    `state` is one that people see: queued, scheduled, retrying, running, blocked, succeeded, failed, cancelled or
    expired. `after` and `before` are ids, which sort by the time of the enqueue; both are excluded themselves.
    `older_than` and `newer_than` (seconds, or a `timedelta`) count back from now, by the database's clock, to when the
    job was created. `error` is a text that the job's error contains, letter by letter; `args` are arguments that are
    among the job's (as `@>` of `jsonb` has it). `discarded`: only dead letters that were discarded, or False: leave
    those out.

    >>> JobFilter(task="send_email", error="ConnectionRefused", older_than=3600)
    """

    state: State | None = None
    queue: QueueName | None = None
    task: TaskName | None = None
    after: Annotated[UUID, said("enqueued after this job")] | None = None
    before: Annotated[UUID, said("enqueued before this job")] | None = None
    older_than: timedelta | Age | None = None
    newer_than: timedelta | Age | None = None
    error: Annotated[str, said("a text in its error", minLength=1, pattern=TEXT)] | None = None
    args: Annotated[dict[str, Any], said("arguments that are among its own", minProperties=1)] | None = None
    discarded: Annotated[bool, said("only dead letters that were discarded, or none of them")] | None = None

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in SHOWN:
            raise InvalidOption(f"state {self.state!r} is not one of {', '.join(SHOWN)}.")
        if self.queue is not None:
            options.queue_name(self.queue)
        if self.task is not None:
            options.task_name(self.task)
        for name in ("after", "before"):
            if not isinstance(getattr(self, name), UUID | None):
                raise InvalidOption(f"{name} {getattr(self, name)!r} is no job's id: use a UUID.")
        for name in ("older_than", "newer_than"):
            _age(name, getattr(self, name))
        if self.error is not None and not _is_text(self.error):
            raise InvalidOption(f"error {self.error!r} is no text to look for: use one or more characters.")
        if self.args is not None:
            self._check_args(self.args)

    @property
    def is_empty(self) -> bool:
        """Whether it means every job."""
        return self == JobFilter()

    def but(self, **changes: object) -> Self:
        """The same filter with something else in place of what it says."""
        return msgspec.structs.replace(self, **changes)

    def parameters(self) -> tuple[object, ...]:
        """The first ten parameters of the statements that filter."""
        return (
            self.state,
            self.queue,
            self.task,
            self.after,
            self.before,
            _age("older_than", self.older_than),
            _age("newer_than", self.newer_than),
            self.error,
            None if self.args is None else msgspec.json.encode(self.args).decode(),
            self.discarded,
        )

    def described(self) -> Mapping[str, object]:
        """What it says, as plain data: what the audit keeps of it. Durations are seconds."""
        seconds = {
            name: age.total_seconds()
            for name in ("older_than", "newer_than")
            if (age := _age(name, getattr(self, name))) is not None
        }
        said: dict[str, object] = msgspec.to_builtins(self)
        return said | seconds

    @staticmethod
    def _check_args(args: object) -> None:
        if not isinstance(args, dict) or not args:
            raise InvalidOption("args is no JSON object with something in it: name the arguments to look for.")
        if (defect := find_defect(args)) is not None:
            raise InvalidOption(f"args {defect}.")
        try:
            msgspec.json.encode(args)
        except TypeError as error:
            raise InvalidOption(f"args cannot be written as JSON: {error}. Use plain data.") from None


def _age(name: str, value: object) -> timedelta | None:
    if value is None:
        return None
    age: timedelta | None = None
    if isinstance(value, timedelta):
        age = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            age = timedelta(seconds=value)
        except (ValueError, OverflowError):
            age = None
    if age is None or not timedelta(0) <= age <= timedelta(days=36_500):
        raise InvalidOption(f"{name} {value!r} is no age: give seconds or a timedelta, from 0 to 100 years.")
    return age


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and find_defect(value) is None


__all__ = ["JobFilter"]
