"""What the suite knows about one system: its programs, its settings, and what its tables say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.rivals.environments import Environment

Settings = Mapping[str, Any]

LARGE_BYTES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system under test. `settings` go to its driver as they are, and into the results."""

    name: str
    title: str
    driver: str
    """The driver program in `drivers/`, without its suffix."""
    environment: Environment
    settings: Settings
    why: str
    """Where these settings come from, and what they trade."""
    remaining_sql: str
    """Counts the jobs that are not finished."""
    finished_sql: str | None
    """Counts the jobs that are recorded as succeeded; None if finished jobs are deleted without a trace."""
    keeps: str
    """What is left of a finished job."""
    batch: int = 10_000
    """Jobs in one call of the bulk enqueue."""
    most_jobs: int | None = None
    """A slow system drains fewer jobs, so that a run takes minutes. (A short queue is its easier case.)"""
    for_waiting: Settings = field(default_factory=dict)
    """What changes for 1,000 jobs at once that wait."""
    for_large: Settings = field(default_factory=dict)
    """What changes for arguments of 10 KB and more."""
    for_few: Settings = field(default_factory=dict)
    """What changes where few jobs come: its defaults again, where being fast with many costs something meanwhile."""
    store: str = "postgresql"
    """Or `redis`: the statements that count are Lua then."""
    only: frozenset[str] = frozenset()
    """The workloads in which it takes part, if not in all."""
    can_work: bool = True
    """False for what only writes into a table."""
    spread_sql: str | None = None
    """Seconds from the first start to the last finish, by the system's own records: to check the clock with."""

    def settings_for(self, mode: str, size: int = 100) -> dict[str, Any]:
        """The settings of a worker in a mode of the drivers (`noop`, `stamp`, `wait`), for arguments of a size."""
        for_size = self.for_large if size >= LARGE_BYTES else {}
        return {**self.settings, **for_size, **(self.for_waiting if mode == "wait" else {})}

    def quiet(self) -> System:
        """This system with its settings for few jobs."""
        return replace(self, settings={**self.settings, **self.for_few})

    def jobs(self, wanted: int) -> int:
        """How many jobs of those wanted this system gets."""
        return wanted if self.most_jobs is None else min(wanted, self.most_jobs)
