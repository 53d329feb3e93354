"""Select jobs: one filter for lists and for acts on many jobs, checked when it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Self
from uuid import UUID

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.fields import (
    TEXT,
    Age,
    AgeText,
    Instant,
    MetadataFilter,
    QueueName,
    State,
    TaskName,
    said,
)
from rowlock.queue.jobs.json_values import find_defect
from rowlock.queue.jobs.lifecycle import SHOWN
from rowlock.values import to_timedelta
from rowlock.words import quoted, seconds, zoned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SKEW: Final = timedelta(hours=1)
"""The enqueuer's clock, which made the job's id, may differ from the database's by this much."""

_WILD: Final = re.compile(r"[\\%_]")
_ESCAPED: Final = r"\\\g<0>"
_FIRST: Final = UUID(int=0)
_LAST: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a reader may see: the jobs of some `queues`, or of all; of `hidden` tasks neither arguments nor errors."""

    queues: frozenset[str] | None = None
    hidden: Sequence[str] = ()


ALL: Final = Sight()


class Criteria(msgspec.Struct, frozen=True, kw_only=True):
    """The criteria that have the same form everywhere, also in the query of a URL."""

    queue: QueueName | None = None
    task: TaskName | None = None
    after: Annotated[UUID, said("a job's id; only jobs enqueued after it")] | None = None
    error: Annotated[str, said("a text in the job's error", minLength=1, pattern=TEXT)] | None = None
    error_kind: (
        Annotated[str, said("an error of the same kind, as the groups of dead letters show it", pattern=TEXT)] | None
    ) = None
    discarded: Annotated[bool, said("true: only discarded dead letters; false: none of them")] | None = None
    tag: Annotated[str, said("one of the job's tags", minLength=1, pattern=TEXT)] | None = None
    text: Annotated[str, said("a text in the job's arguments", minLength=1, pattern=TEXT)] | None = None
    created_after: Annotated[Instant, said("only jobs enqueued at this time or later")] | None = None
    created_before: Annotated[Instant, said("only jobs enqueued before this time")] | None = None


class JobFilter(Criteria, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A filter that selects the jobs that match all its criteria. Raises `InvalidOption`, which names the criterion.

    `state` is one that people see: queued, scheduled, retrying, running, blocked, succeeded, failed, cancelled or
    expired. `after` and `before` are ids, which sort by the time of the enqueue; both exclude the job itself.
    `older_than` and `newer_than` (seconds, or a `timedelta`) limit the age since the job was created, by the database's
    clock; `created_after` and `created_before` are times with a zone, for jobs whose id was made by a clock that was
    right to the hour. `error` is a text that the job's error contains, letter by letter; `error_kind` is an error of
    the same kind: one with the same first line, up to 200 characters, whatever numbers and UUIDs are in it, which the
    groups of dead letters show as # (an empty text selects jobs without an error). `args` are arguments that the job's
    contain (like `@>` of `jsonb`); `text` is somewhere in the arguments, in a value or in their JSON, in upper or lower
    case. `tag` is one of the job's tags; `metadata` is contained in the job's, key and value. `discarded`: True selects
    only discarded dead letters, False omits them.

    >>> JobFilter(task="send_email", error="ConnectionRefused", older_than=3600)
    """

    state: State | None = None
    before: Annotated[UUID, said("a job's id; only jobs enqueued before it")] | None = None
    older_than: AgeText | Age | None = None
    newer_than: AgeText | Age | None = None
    args: Annotated[dict[str, Any], said("arguments that the job must have", minProperties=1)] | None = None
    metadata: MetadataFilter | None = None

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in SHOWN:
            raise InvalidOption(f"state must be one of {', '.join(SHOWN)}; got {quoted(self.state)}.")
        if self.queue is not None:
            checks.queue_name(self.queue)
        if self.task is not None:
            checks.task_name(self.task)
        for name, check in _CHECKS.items():
            if (given := getattr(self, name)) is not None:
                check(name, given)
        if self.metadata is not None:
            msgspec.structs.force_setattr(self, "metadata", _metadata(self.metadata))
        for name in self.__struct_fields__:
            if (plain := _plain(given := getattr(self, name))) is not given:
                msgspec.structs.force_setattr(self, name, plain)

    @property
    def is_empty(self) -> bool:
        """Whether it selects every job."""
        return self == JobFilter()

    def but(self, **changes: object) -> Self:
        """The same filter with other values of some criteria."""
        return msgspec.structs.replace(self, **changes)

    def parameters(self, sight: Sight = ALL, *, before: UUID | None = None) -> tuple[object, ...]:
        """The first parameters of the statements that filter: see `job_filter.sql`.

        `before` is the last id of the page before.
        """
        looks_inside = any(given is not None for given in (self.error, self.error_kind, self.args, self.text))
        low, high = self._ids(before)
        return (  # seam: filter
            self.state,
            self._queues(sight),
            self.task,
            low,
            high,
            _age("older_than", self.older_than),
            _age("newer_than", self.newer_than),
            self.error,
            None if self.args is None else msgspec.json.encode(self.args).decode(),
            self.discarded,
            self._marks(),
            None if self.text is None else _patterns(self.text),
            self.created_after,
            self.created_before,
            list(sight.hidden) if looks_inside and sight.hidden else None,
            self.error_kind,
        )

    def _marks(self) -> str | None:
        """The marks that the jobs must have, as JSON."""
        marks = {name: given for name in ("tag", "metadata") if (given := getattr(self, name)) is not None}
        return msgspec.json.encode(marks).decode() if marks else None

    def _queues(self, sight: Sight) -> list[str] | None:
        wanted = None if self.queue is None else {self.queue}
        if sight.queues is not None:
            wanted = set(sight.queues) if wanted is None else wanted & sight.queues
        return None if wanted is None else sorted(wanted)

    def _ids(self, before: UUID | None) -> tuple[UUID, UUID]:
        """The two ids between which the jobs are, both excluded."""
        lows, highs = [_FIRST, self.after], [_LAST, self.before, before]
        if self.created_after is not None:
            lows.append(_id_of(self.created_after, -SKEW))
        if self.created_before is not None:
            highs.append(_id_of(self.created_before, SKEW))
        return max(low for low in lows if low is not None), min(high for high in highs if high is not None)

    def described(self) -> Mapping[str, object]:
        """The criteria as plain data, for the audit. Durations are seconds."""
        seconds = {
            name: age.total_seconds()
            for name in ("older_than", "newer_than")
            if (age := _age(name, getattr(self, name))) is not None
        }
        said: dict[str, object] = msgspec.to_builtins(self)
        return said | seconds


def _age(name: str, value: object) -> timedelta | None:
    if value is None:
        return None
    age = to_timedelta(value)
    if age is None or age < timedelta(0):
        raise InvalidOption(f"{name} must be {seconds()}, from 0 to 100 years; got {quoted(value)}.")
    return age


def _plain(value: object) -> object:
    """The value itself, of a subclass of its type too: msgspec writes no other."""
    if isinstance(value, str):
        return checks.plain_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return checks.plain_number(value)
    return checks.plain_moment(value) if isinstance(value, datetime) else value


def checked(which: object) -> JobFilter:
    """A filter. Raises `InvalidOption` for anything else."""
    if not isinstance(which, JobFilter):
        raise InvalidOption(f'which must be a JobFilter; got {quoted(which)}. Write it as JobFilter(queue="email").')
    return which


def checked_or_all(which: object) -> JobFilter:
    """A filter; for None the one that selects every job. Raises `InvalidOption` for anything else."""
    return JobFilter() if which is None else checked(which)


def _id(name: str, value: object) -> None:
    if not isinstance(value, UUID):
        raise InvalidOption(f"{name} must be a job's id, a UUID; got {quoted(value)}.")


def _args(name: str, value: object) -> None:
    if not isinstance(value, dict) or not value:
        raise InvalidOption(f"{name} must be a JSON object of one or more arguments to look for; got {quoted(value)}.")
    if (defect := find_defect(value)) is not None:
        raise InvalidOption(f"{name} {defect}.")
    try:
        msgspec.json.encode(value)
    except TypeError as error:
        raise InvalidOption(f"{name} cannot be written as JSON: {error}. Use plain data.") from None


def _metadata(value: object) -> dict[str, str]:
    if not (found := checks.metadata_texts("metadata", value)):
        raise InvalidOption("metadata must have a key to look for; got {}. Omit it for any.", option="metadata")
    return found


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value or find_defect(value) is not None:
        raise InvalidOption(f"{name} must be text of one or more characters; got {quoted(value)}.")


def _line(name: str, value: object) -> None:
    if not isinstance(value, str) or find_defect(value) is not None:
        raise InvalidOption(f"{name} must be the first line of an error; got {quoted(value)}.")


def _moment(name: str, value: object) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidOption(f"{name} must have a time zone, for example {zoned()}; got {quoted(value)}.")
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise InvalidOption(f"{name} must be in the years 1 to 9999 in UTC; got {quoted(value)}.") from None


def _patterns(text: str) -> list[str]:
    """The LIKE patterns that find a text in JSON: with the escapes of JSON, as in a value, and as it is."""
    as_value = msgspec.json.encode(text).decode()[1:-1]
    return [f"%{_WILD.sub(_ESCAPED, one)}%" for one in dict.fromkeys((as_value, text))]


def _id_of(moment: datetime, more: timedelta) -> UUID:
    """The first UUID of version 7 of that time plus `more`."""
    milliseconds = int((moment.timestamp() + more.total_seconds()) * 1000)
    return UUID(int=max(0, milliseconds) << 80)


_CHECKS: Final[Mapping[str, Callable[[str, Any], object]]] = {
    **dict.fromkeys(("after", "before"), _id),
    **dict.fromkeys(("older_than", "newer_than"), _age),
    **dict.fromkeys(("error", "text", "tag"), _text),
    **dict.fromkeys(("created_after", "created_before"), _moment),
    "args": _args,
    "discarded": checks.flag,
    "error_kind": _line,
}

__all__ = ["ALL", "Criteria", "JobFilter", "Sight", "checked", "checked_or_all"]
