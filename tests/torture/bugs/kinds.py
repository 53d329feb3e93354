"""What a bug on purpose consists of: the changes that make it, and the one check that has to find it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent.parent
SCHEMA: Final = "rowlock/migrations/versions/0001_initial/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """In this file, the text `old`, which occurs there exactly once, becomes `new`."""

    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """The file's text with the change. Raises `ValueError` unless the old text is there exactly once."""
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} has {found} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Torture:
    """Twenty seconds or so of `rowlock torture`. `faults`: only these, all if it is empty."""

    faults: str = ""
    times: float = 3
    minutes: float = 0.35
    rate: float = 400

    def words(self, seed: int) -> list[str]:
        """The words that follow `python`."""
        words = ["-m", "rowlock", "torture", "--json", "--seed", str(seed), "--minutes", str(self.minutes)]
        words += ["--rate", str(self.rate)]
        return [*words, "--times", str(self.times), *(["--only", self.faults] if self.faults else [])]

    def __str__(self) -> str:
        return f"torture: {self.faults or 'all faults'}, {self.times:g} times"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pytest:
    """One test on a real server, where chance would be too slow, or says too little. `file` has it."""

    file: str

    def words(self, *names: str) -> list[str]:
        """The words that follow `python`, for these tests."""
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=line", "--no-header"]
        return [*words, *(f"{self.file}::{name}" for name in names)]

    def __str__(self) -> str:
        return f"pytest: {self.file}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One bug. `promise` is what it breaks, `rule` the rule of the torture, or the name of the test, that finds it.

    `needs` names the cases (of `rowlock.torture.cases`) without which a run of the torture cannot show it.
    """

    name: str
    promise: str
    changes: tuple[Change, ...]
    engine: Torture | Pytest
    rule: str
    needs: tuple[str, ...] = ()


SHORT_WAITS: Final = (
    Change(file="rowlock/torture/run.py", old="DRAIN_SECONDS: Final = 900.0", new="DRAIN_SECONDS: Final = 120.0"),
    Change(file="rowlock/torture/run.py", old="STUCK_SECONDS: Final = 60.0", new="STUCK_SECONDS: Final = 20.0"),
)
"""For each run of the torture: jobs that a bug has left for ever get less time than slow ones."""

KILLS: Final = Torture(faults="kill")
"""The workload shows most bugs; killed workers show some more."""
CUTS: Final = Torture(faults="cut,delay,server", times=8, rate=1000)
FREEZES: Final = Torture(faults="freeze", times=15)
HOLES: Final = Torture(faults="black_hole", times=10, rate=1000)
MIXED: Final = Torture(faults="kill,cut,poison", times=1, minutes=0.4, rate=200)
"""The program that operates the queue has room for its acts."""
