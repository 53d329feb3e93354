"""The single facts of a run, as read from its history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from rowlock.torture.history import (
    Wanted,
)

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(slots=True, kw_only=True)
class Run:
    """One call of a handler. `ended` is when it ended, or its process did; infinite if neither is known."""

    job: UUID
    attempt: int
    run: str
    pid: int
    task: str
    is_stubborn: bool
    started: int
    ended: float = inf
    how: str | None = None
    """As in `End`; None if there is no such event."""
    content: int | None = None
    delay: float = 0.0
    longest: float = 0.0
    """As in `Start` and `End`."""
    takes: float = 0.0
    """As in `Start`."""
    child: int = 0
    """The process of the handler, if it is not the worker's; `pid` is the worker's."""


@dataclass(slots=True, kw_only=True)
class Operation:
    """An operator's call. `ended` is infinite if its answer was never logged; the answer is unknown then."""

    what: str
    began: int
    ended: float = inf
    outcome: str = "unknown"


@dataclass(slots=True, kw_only=True)
class Deed:
    """A call of the operating program. `ended` is infinite if its answer was never logged."""

    what: str
    pid: int
    began: int
    jobs: list[UUID]
    about: dict[str, Any]
    ended: float = inf
    outcome: str = "unknown"
    said: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Refusal:
    """An enqueue that was refused, because another job held the key."""

    began: int
    ended: int
    wanted: list[Wanted]
    raised: bool | None = None
    """Whether the call raised; None for a call that stores jobs again."""


@dataclass(slots=True, kw_only=True)
class Bulk:
    """A call with several jobs, to store all of them or none; `of` as in `Enqueue`, or their number."""

    op: str
    how: str
    jobs: list[UUID]
    of: int
    outcome: str = "unknown"


@dataclass(slots=True, kw_only=True)
class Taken:
    """The jobs of one claim in one queue, for one executor: its least urgent job, as (priority, due time, job)."""

    began: float
    at: float
    priority: int
    run_at: float
    job: UUID


@dataclass(slots=True, kw_only=True)
class Wait:
    """A delayed job that no claim can have overlooked, from its due time until it was claimed, or ended."""

    job: UUID
    lane: tuple[str, str | None]
    """Its queue, and the executor for which it was claimed separately."""
    priority: int
    run_at: float
    until: float


@dataclass(slots=True, kw_only=True)
class Rescue:
    """A job rescued from its worker: `claimed` and `number` are those changes, in this transaction."""

    job: UUID
    claimed: int
    number: int
    xid: int
    crashes: int
    at: float
    is_quarantine: bool


@dataclass(slots=True, kw_only=True)
class Trouble:
    """A fault, from its begin to its end."""

    kind: str
    process: int
    begins: int
    ends: float = inf
    note: str = ""


class Death(NamedTuple):
    """A process was gone `at` this time, and certainly lived until `alive_at`: scanning all processes takes a while."""

    at: int
    alive_at: int


@dataclass(slots=True, kw_only=True)
class Worker:
    """A worker by its row: each mark has the time of the write, and the end of the lease (None: it is gone)."""

    pid: int
    marks: list[tuple[float, float | None]] = field(default_factory=list)


@dataclass(slots=True)
class Ends:
    """How the jobs of each task ended, and how many attempts failed: the statistics must equal this."""

    last: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By task and state: the jobs that are in this state at the end."""
    ever: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By task and state: how often a job came to this state, whether or not it was put back since."""
    undone: Counter[str] = field(default_factory=Counter)
    """By task: the ends that an operator's retry undid."""
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Answers:
    """How many of the enqueues of one job had which outcome."""

    stored: int = 0
    existing: int = 0
    nothing: int = 0
    unknown: int = 0
    first_stored: float = inf
    """When the first of them was acknowledged."""
