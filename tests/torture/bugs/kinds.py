"""What a bug on purpose consists of: the changes that make it, and the one check that has to find it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.torture.bugs import seams

ROOT: Final = Path(__file__).parent.parent.parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """At this seam, `new` stands for what is marked, or for `old` in it. If it is empty, nothing does.

    `old` is as little as says what matters; what else stands there may be reworded.
    """

    seam: str
    old: str = ""
    new: str = ""

    def file_in(self, root: Path) -> str:
        """The path of the file below `root` that it changes."""
        return seams.file_of(root, self.seam)

    def applied(self, text: str, file: str) -> str:
        """The file's text with the change. Raises `ValueError` if it cannot be made."""
        return seams.mend(text, self.seam, old=self.old, new=self.new, is_python=file.endswith(".py"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The constant of this name, of the module in this file, has another value."""

    file: str
    name: str
    value: str

    def file_in(self, _root: Path) -> str:
        """The path of the file that it changes."""
        return self.file

    def applied(self, text: str, _file: str) -> str:
        """The file's text with the change. Raises `ValueError` if it cannot be made."""
        return seams.assign(text, self.name, self.value)


def changed(root: Path, changes: Iterable[Change | Constant]) -> dict[str, str]:
    """The new texts of the files that these changes change, by their paths below `root`."""
    texts: dict[str, str] = {}
    for change in changes:
        file = change.file_in(root)
        text = texts.get(file) or (root / file).read_text(encoding="utf-8")
        texts[file] = change.applied(text, file)
        if texts[file] == text:
            raise ValueError(f"It changes nothing: {change}")
    return texts


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
    changes: tuple[Change | Constant, ...]
    engine: Torture | Pytest
    rule: str
    needs: tuple[str, ...] = ()


SHORT_WAITS: Final = (
    Constant(file="rowlock/torture/run.py", name="DRAIN_SECONDS", value="120.0"),
    Constant(file="rowlock/torture/run.py", name="STUCK_SECONDS", value="20.0"),
)
"""For each run of the torture: jobs that a bug has left for ever get less time than slow ones."""

KILLS: Final = Torture(faults="kill")
"""The workload shows most bugs; killed workers show some more."""
CUTS: Final = Torture(faults="cut,delay,server", times=8, rate=1000)
FREEZES: Final = Torture(faults="freeze", times=15)
HOLES: Final = Torture(faults="black_hole", times=10, rate=1000)
MIXED: Final = Torture(faults="kill,cut,poison", times=1, minutes=0.4, rate=200)
"""The program that operates the queue has room for its acts."""
