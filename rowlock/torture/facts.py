"""The facts of a run of the torture, one by one, as they are read from its history."""

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
    """One call of a handler. `ended` is when it ended, or its process did; infinite if neither is known to have."""

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
    """The process of the handler, if that is not the worker's; `pid` is the worker's."""


@dataclass(slots=True, kw_only=True)
class Operation:
    """An operator's call. `ended` is infinite if its answer was never written down; it is unknown then."""

    what: str
    began: int
    ended: float = inf
    outcome: str = "unknown"


@dataclass(slots=True, kw_only=True)
class Deed:
    """A call of the operating program. `ended` is infinite if its answer was never written down."""

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
    """An enqueue that was refused, since another job held the key."""

    began: int
    ended: int
    wanted: list[Wanted]
    raised: bool | None = None
    """Whether the call raised; None of a call that stores jobs again."""


@dataclass(slots=True, kw_only=True)
class Bulk:
    """A call that was given several jobs, to store all of them or none; `of` as in `Enqueue`, or how many there are."""

    op: str
    how: str
    jobs: list[UUID]
    of: int
    outcome: str = "unknown"


@dataclass(slots=True, kw_only=True)
class Taken:
    """What one claim took of one queue, for one executor: the least urgent job of it, as (priority, due time, job)."""

    began: float
    at: float
    priority: int
    run_at: float
    job: UUID


@dataclass(slots=True, kw_only=True)
class Wait:
    """A delayed job that no claim can have overlooked, from when it was due until it was taken, or ended."""

    job: UUID
    lane: tuple[str, str | None]
    """Its queue, and the executor for which it was claimed apart."""
    priority: int
    run_at: float
    until: float


@dataclass(slots=True, kw_only=True)
class Rescue:
    """A job that was taken from its worker: `claimed` and `number` are those changes, in this transaction."""

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
    """A process was gone `at` this time, and surely lived until `alive_at`: a look at all processes takes a while."""

    at: int
    alive_at: int


@dataclass(slots=True, kw_only=True)
class Worker:
    """A worker as its row says: each mark is when it was written, and until when the lease goes (None: it is gone)."""

    pid: int
    marks: list[tuple[float, float | None]] = field(default_factory=list)


@dataclass(slots=True)
class Ends:
    """How the jobs of each task ended, and how many attempts failed: what the statistics must come to."""

    last: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By task and state: the jobs that are in this state in the end."""
    ever: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By task and state: how often a job came to this state, put back since then or not."""
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
