"""Lets the harness look at a copy of the tree with a bug in it, and reads what the harness says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.torture.bugs import ROOT, SHORT_WAITS, Change, Constant, Pytest, Torture, changed

COPIED: Final = ("rowlock", "tests", "docs", "examples", "pytest_rowlock.py", "pyproject.toml")
LONGEST: Final = 400.0
STOP_SECONDS: Final = 30.0
RAN: Final = (0, 1)
"""The exit codes of a harness that has looked: it found nothing, or something."""
DID_NOT_RUN: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What came of one look: the broken rules or failed tests, each with the first line that says so.

    `looked` has the counters of the cases that a torture has looked at.
    """

    code: int
    complaints: Mapping[str, str]
    looked: Mapping[str, int] = field(default_factory=dict)
    output: str = ""
    seconds: float = 0.0

    @property
    def has_run(self) -> bool:
        """Whether the harness has looked at all."""
        return self.code in RAN


Read = Callable[[int, str, str, float], Look]
"""Reads what a harness has said: its exit code, its output, its errors, and how many seconds it took."""


class Tree:
    """A copy of the tree as it is now: what happens to the tree afterwards does not matter.

    Several threads may look at once. Each look has a copy, a server and temporary folders of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[subprocess.Popen[str], signal.Signals] = {}
        self._lock = threading.Lock()
        self._is_stopping = False
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "images"))
            else:
                shutil.copy(source, folder / name)
        words = [sys.executable, "-c", "import rowlock; print(rowlock.__file__)"]
        imported = subprocess.run(words, cwd=folder, env=_environment(folder), capture_output=True, check=True).stdout
        if Path(imported.decode().strip()).parent.parent.resolve() != folder.resolve():
            raise RuntimeError(f"Python imports {imported!r}, not the copy in {folder}.")

    def look(
        self,
        engine: Torture | Pytest,
        changes: Iterable[Change | Constant],
        *,
        rules: Sequence[str],
        seed: int,
        keep: Path | None = None,
    ) -> Look:
        """Let the harness look at a copy with these changes, by a run with this seed or by the tests of these names."""
        with tempfile.TemporaryDirectory(prefix="rowlock-bug-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            shutil.copytree(self._folder, folder, dirs_exist_ok=True)
            if isinstance(engine, Pytest):
                _apply(folder, changes)
                return self._run(folder, engine.words(*rules), signal.SIGINT, read_tests)
            _apply(folder, (*changes, *SHORT_WAITS))
            history = folder / "history"
            look = self._run(folder, [*engine.words(seed), "--keep", str(history)], signal.SIGTERM, read_torture)
            if keep is not None and history.is_dir():
                shutil.copytree(history, keep, dirs_exist_ok=True)
            return look

    def stop(self) -> None:
        """End all that runs, in a way in which it leaves no servers behind, and begin nothing more."""
        with self._lock:
            self._is_stopping = True
            running = dict(self._running)
        for process, number in running.items():
            process.send_signal(number)

    def _run(self, folder: Path, words: Sequence[str], stops: signal.Signals, read: Read) -> Look:
        began = time.monotonic()
        with self._started(folder, words, stops) as process:
            try:
                said, complained = process.communicate(timeout=LONGEST)
            except subprocess.TimeoutExpired:
                process.send_signal(stops)
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=STOP_SECONDS)
                return Look(
                    code=DID_NOT_RUN,
                    complaints={},
                    output=f"It had not ended after {LONGEST:.0f} s.",
                    seconds=time.monotonic() - began,
                )
        return read(process.returncode, said, complained, time.monotonic() - began)

    @contextmanager
    def _started(self, folder: Path, words: Sequence[str], stops: signal.Signals) -> Iterator[subprocess.Popen[str]]:
        """A Python with the package of a copy. Whatever happens, neither it nor its children outlive the block."""
        with self._lock:
            if self._is_stopping:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=folder,
                env=_environment(folder),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running[process] = stops
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with self._lock:
                del self._running[process]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}


def _apply(folder: Path, changes: Iterable[Change | Constant]) -> None:
    for file, text in changed(folder, changes).items():
        (folder / file).write_text(text, encoding="utf-8")


def read_torture(code: int, said: str, complained: str, seconds: float) -> Look:
    """Read the document that `rowlock torture --json` prints."""
    output = said + complained
    try:
        document = json.loads(said)
    except ValueError:  # it has printed something else, or nothing
        return Look(code=DID_NOT_RUN, complaints={}, output=output, seconds=seconds)
    violations: list[str] = document["violations"]
    complaints = {
        rule: next((one for one in violations if one.startswith(f"{rule}: ")), f"{rule} {count:,}")
        for rule, count in document["counts"].items()
        if count
    }
    return Look(code=code, complaints=complaints, looked=document["looked"], output=output, seconds=seconds)


def read_tests(code: int, said: str, complained: str, seconds: float) -> Look:
    """Read pytest's summary. A test that had an error before it began has shown nothing."""
    complaints: dict[str, str] = {}
    for line in said.splitlines():
        if failed := re.match(r"FAILED [^:]+::(\w+)", line):
            complaints.setdefault(failed[1], line)
    is_broken = code == 1 and not complaints
    return Look(
        code=DID_NOT_RUN if is_broken else code, complaints=complaints, output=said + complained, seconds=seconds
    )
