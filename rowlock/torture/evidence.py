"""The evidence that a run leaves, organized for the checks: by job, by process, by worker."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from rowlock.torture.audit import Change, Effect, Last, Recorded, Tick
from rowlock.torture.clocks import Clocks
from rowlock.torture.closing import Closing
from rowlock.torture.facts import (
    Answers,
    Bulk,
    Death,
    Deed,
    Ends,
    Operation,
    Refusal,
    Rescue,
    Run,
    Taken,
    Trouble,
    Wait,
    Worker,
)
from rowlock.torture.history import (
    Note,
    Wanted,
)
from rowlock.torture.logs import Said
from rowlock.torture.remains import Remains
from rowlock.torture.rewinds import Rewinds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from rowlock.torture.life import Life

SECOND: Final = 1_000_000_000
"""In the history's nanoseconds."""
PAUSES: Final = frozenset({"freeze", "stall"})
"""Faults that stop a process altogether."""
SLOW: Final = "slow"
"""The kind of trouble when the machine or the server stalled everybody."""
TIMED: Final = "torture.timed"
TIMEOUT: Final = 0.5
"""A task with a timeout, in seconds. No other task of the workload has one."""
BLOCKS: Final = "torture.blocks"
"""The task whose handler blocks its process's event loop: no other handler there can be stopped meanwhile."""


@dataclass
class Evidence:
    """Everything but the changes of the jobs, which are too many to keep."""

    wanted: dict[UUID, Wanted] = field(default_factory=dict)
    answers: dict[UUID, Answers] = field(default_factory=dict)
    runs: dict[UUID, list[Run]] = field(default_factory=lambda: defaultdict(list))
    operations: dict[UUID, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    refusals: dict[UUID, list[Refusal]] = field(default_factory=lambda: defaultdict(list))
    """By the job that held the key."""
    bulks: dict[str, Bulk] = field(default_factory=dict)
    """By the call's name: calls with several jobs without a unique key."""
    inserted: dict[UUID, int] = field(default_factory=dict)
    """The transaction that first stored a job, for jobs that were enqueued with others in one call."""
    taken: dict[tuple[str, str | None], dict[tuple[int, UUID | None], Taken]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """By the queue: the jobs of each claim, by its transaction and worker."""
    waits: list[Wait] = field(default_factory=list)
    blocking: dict[int, list[Run]] = field(default_factory=lambda: defaultdict(list))
    """The runs that blocked the event loop of the process with this number."""
    deeds: list[Deed] = field(default_factory=list)
    """The calls of the operating program, in the order of time."""
    deeds_on: dict[UUID, list[Deed]] = field(default_factory=lambda: defaultdict(list))
    """The same, by the jobs that they were about."""
    kept: dict[UUID, Life] = field(default_factory=dict)
    """The lives of those jobs, and of the jobs of schedules: few enough to keep."""
    notes: dict[UUID, list[Note]] = field(default_factory=lambda: defaultdict(list))
    """Notes of handlers, by job, in the order of time."""
    closing: Closing = field(default_factory=Closing)
    ends: Ends = field(default_factory=Ends)
    deaths: dict[int, list[Death]] = field(default_factory=lambda: defaultdict(list))
    """When the processes with this number were killed, or were seen to have ended."""
    names: dict[int, str] = field(default_factory=dict)
    """The names of the processes with these numbers in the run."""
    troubles: list[Trouble] = field(default_factory=list)
    broken_lines: list[tuple[str, str]] = field(default_factory=list)
    clocks: Clocks = field(default_factory=Clocks)
    """The steps of the server's clock. All times of changes, leases and outcomes are corrected for them."""
    rewinds: Rewinds = field(default_factory=Rewinds)
    remains: Remains | None = None
    claims: Counter[int] = field(default_factory=Counter)
    stored: Counter[int] = field(default_factory=Counter)
    """How many jobs were claimed, and how many were acknowledged, in each second of the history."""

    workers: dict[UUID, Worker] = field(default_factory=dict)
    recorded: dict[UUID, list[Recorded]] = field(default_factory=lambda: defaultdict(list))
    effects: dict[UUID, list[Effect]] = field(default_factory=lambda: defaultdict(list))
    last: dict[UUID, list[Last]] = field(default_factory=lambda: defaultdict(list))
    ticks: list[Tick] = field(default_factory=list)
    tick_jobs: set[UUID] = field(default_factory=set)
    periods: dict[str, float] = field(default_factory=dict)
    """The seconds between two ticks, for schedules that may miss no tick."""
    holds: dict[str, list[tuple[int, float, UUID]]] = field(default_factory=lambda: defaultdict(list))
    """When a unique key was held (between the changes with these numbers), and by which job."""
    periods_held: dict[str, list[tuple[float, float, float, UUID]]] = field(default_factory=lambda: defaultdict(list))
    """When a job took a unique key for a period (began, at, seconds), and which job."""
    let_go: dict[UUID, tuple[str, Change]] = field(default_factory=dict)
    """How a job finally released its unique key, and when, by the database's clock."""
    between: dict[UUID, list[tuple[float, float]]] = field(default_factory=dict)
    """When a job with a unique key waited for its next attempt, by the database's clock."""
    rescues: dict[UUID, list[Rescue]] = field(default_factory=lambda: defaultdict(list))
    """By the worker that had the jobs."""

    said: dict[UUID, Said] = field(default_factory=dict)
    """By the worker: its log."""
    makers_of_room: set[int] = field(default_factory=set)
    """Processes that released jobs which had not begun: for a job that runs alone, or after an operator's act."""

    looked: Counter[str] = field(default_factory=Counter)
    """How many cases each rule had: a rule without one has proved nothing. By the rule's name, or by
    `rule: case` for a case that a run may or may not contain."""
    epochs: list[float] = field(default_factory=list)
    """The database's clock when the machine's monotonic clock was zero, by each process's measurement."""
    epoch: float = 0.0

    def database_time(self, at: float) -> float:
        """The database's clock, in seconds since 1970, at a time of the history."""
        return at / SECOND + self.epoch

    def history_time(self, at: float) -> float:
        """A time of the history, from the database's clock."""
        return (at - self.epoch) * SECOND

    def death(self, pid: int, after: float) -> float:
        """When the process ended that had this number at that time; infinite if unknown."""
        return min((death.at for death in self.deaths.get(pid, ()) if death.at >= after), default=inf)

    def alive_until(self, run: Run) -> float:
        """Until when a run's process certainly lived; infinite if nothing shows that it ended."""
        after = [death for death in self.deaths.get(run.child or run.pid, ()) if death.at >= run.started]
        surely = max(run.started, min(after).alive_at) if after else inf
        return min(surely, self.death(run.pid, run.started))

    def death_of(self, run: Run) -> float:
        """When a run's process, or its worker, ended; infinite if unknown."""
        child = self.death(run.child, run.started) if run.child else inf
        return min(child, self.death(run.pid, run.started))

    def is_calm(self, pid: int, begin: float, end: float) -> bool:
        """Whether no fault hit this process, or everybody, between the two."""
        return not any(trouble.process in {0, pid} for trouble in self.troubles_between(begin, end))

    def deeds_of(self, *what: str) -> Iterator[Deed]:
        """Return the operating program's calls of these kinds, in the order of time."""
        return (deed for deed in self.deeds if deed.what in what)

    def troubles_between(self, begin: float, end: float) -> Iterator[Trouble]:
        """The troubles at any moment between the two."""
        return (trouble for trouble in self.troubles if trouble.begins <= end and trouble.ends >= begin)
