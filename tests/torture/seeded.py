"""Shows that the harness sees something: makes each bug of tests/torture/bugs.py in a copy, and lets the harness look.

`python -m tests.torture.seeded [WORD …]` for the bugs whose names contain one of the words, else for all; it prints a
table, and ends with 1 if one was missed. `--control` lets the torture look at an unbroken copy: it must find nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.torture.bugs import BUGS, ROOT, SHORT_WAITS, Bug, Change, Pytest, Torture

COPIED: Final = ("rowlock", "tests", "pyproject.toml")
LONGEST: Final = 600.0
LONGEST_LINE: Final = 150
CONTROLS: Final = (
    Torture(seed=1, times=1, minutes=0.5, rate=1000),
    Torture(seed=2, times=1, minutes=0.5, rate=1000),
    Torture(faults="cut,delay,server", times=8, rate=1000),
    Torture(faults="black_hole", times=10, minutes=0.5, rate=1000),
    Torture(faults="freeze", times=15),
)
"""How the unbroken copy is looked at: as in every run, and by the faults that are had oftener for a bug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What came of one look: the broken rules or failed tests, each with the first line that says so."""

    code: int
    complaints: dict[str, str]
    output: str
    seconds: float


def copy(to: Path, changes: Iterable[Change]) -> None:
    """Copy what the harness needs, with these changes in it. Raises `RuntimeError` if Python imports something else."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)
    for change in changes:
        file = to / change.file
        file.write_text(change.applied(file.read_text(encoding="utf-8")), encoding="utf-8")
    imported = python(to, ["-c", "import rowlock; print(rowlock.__file__)"]).stdout.strip()
    if Path(imported).parent.parent.resolve() != to.resolve():
        raise RuntimeError(f"Python imports {imported}, not the copy in {to}.")


def python(folder: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run Python, and all the Pythons that it starts, with the package of a copy."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST,
        check=False,
    )


def look(engine: Torture | Pytest, changes: Iterable[Change], keep: Path | None) -> Look:
    """Let the harness look at a copy with these changes."""
    with tempfile.TemporaryDirectory(prefix="rowlock-bug-") as name:
        folder = Path(name)
        copy(folder, changes)
        began = time.monotonic()
        history = ["--keep", str(folder / "history")] if isinstance(engine, Torture) else []
        done = python(folder, [*engine.words(), *history])
        seconds = time.monotonic() - began
        if keep is not None and (folder / "history").is_dir():
            shutil.copytree(folder / "history", keep, dirs_exist_ok=True)
    read = broken_rules if isinstance(engine, Torture) else failed_tests
    return Look(code=done.returncode, complaints=dict(read(done.stdout)), output=done.stdout, seconds=seconds)


def broken_rules(output: str) -> Iterator[tuple[str, str]]:
    """The rules that a torture's report counts violations of, each with its first violation."""
    lines = output.splitlines()
    for line in lines:
        if (counted := re.fullmatch(r"([A-Za-z':;, ]+) ([\d,]+)", line)) and _is_complaint(
            counted[1], lines, counted[2]
        ):
            yield counted[1], next((one for one in lines if one.startswith(f"{counted[1]}: ")), line)


def _is_complaint(name: str, lines: Sequence[str], count: str) -> bool:
    return count != "0" and (name in OUTCOMES or any(line.startswith(f"{name}: ") for line in lines))


OUTCOMES: Final = (
    "jobs left unfinished",
    "HTTP requests that made two jobs",
    "jobs that the claims' cursors left behind",
    "processes that ended by themselves",
)


def failed_tests(output: str) -> Iterator[tuple[str, str]]:
    """The names of the tests that have failed, each with its line in pytest's summary."""
    for line in output.splitlines():
        if failed := re.match(r"(?:FAILED|ERROR) [^:]+::(\w+)", line):
            yield failed[1], line


def try_one(bug: Bug, keep: Path | None) -> bool:
    """Make one bug, let the harness look, and print a line of the table. Returns whether it was caught."""
    harness, changes = "tests", bug.changes
    if isinstance(bug.engine, Torture):
        harness, changes = "torture", (*bug.changes, *SHORT_WAITS)
    seen = look(bug.engine, changes, keep)
    caught = [rule for rule in bug.caught_by if rule in seen.complaints] if seen.code == 1 else []
    what = seen.complaints[caught[0]] if caught else f"MISSED ({seen.code}): {', '.join(seen.complaints) or 'clean'}"
    _print_row(bug.name, harness, what, seen.seconds)
    if not caught:
        sys.stderr.write(f"{seen.output[-3000:]}\n")
    return bool(caught)


def _print_row(name: str, harness: str, what: str, seconds: float) -> None:
    sys.stdout.write(f"| {name} | {harness} | {what[:LONGEST_LINE].replace('|', '/')} | {seconds:.0f} s |\n")
    sys.stdout.flush()


def control(keep: Path | None) -> bool:
    """Let the torture look at an unbroken copy, in each way. Returns whether it found nothing."""
    is_clean = True
    for engine in CONTROLS:
        seen = look(engine, (), keep)
        name = f"unbroken: {engine.faults or 'all faults'}, {engine.times:g} times, seed {engine.seed}"
        _print_row(
            name, "torture", "clean" if seen.code == 0 else next(iter(seen.complaints.values()), "?"), seen.seconds
        )
        if seen.code != 0:
            is_clean = False
            sys.stderr.write(f"{seen.output[-3000:]}\n")
    return is_clean


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.seeded", description=__doc__)
    parser.add_argument("words", metavar="WORD", nargs="*", help="only bugs whose names contain it")
    parser.add_argument("--control", action="store_true", help="look at an unbroken copy instead")
    parser.add_argument("--keep", type=Path, help="keep the history of the last torture in this folder")
    given = parser.parse_args()
    if given.control:
        return 0 if control(given.keep) else 1
    chosen = [bug for bug in BUGS if not given.words or any(word in bug.name for word in given.words)]
    sys.stdout.write("| Bug | Looked for by | Caught: the first that says so | Took |\n| --- | --- | --- | --- |\n")
    missed = [bug.name for bug in chosen if not try_one(bug, given.keep)]
    sys.stdout.write(f"{len(chosen) - len(missed)} of {len(chosen)} were caught.\n")
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
