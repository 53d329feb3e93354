"""Read the testimony of a run's processes, and find what a window that the database has lost may undo."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rowlock.torture.rewinds import Window

SECOND: Final = 1_000_000_000
"""In the nanoseconds of the lines."""
LAG_SECONDS: Final = 1.0
"""A standby may lack a commit acknowledged up to this long before the moment that the database went back to."""
MARGIN_SECONDS: Final = 5.0
"""How much older or younger than its line a commit may be."""
REQUEST_SECONDS: Final = 10
"""How long before its `stored` line a job without an `asked` line was asked for, at most."""


class Call(NamedTuple):
    """One call of a handler, which `run` names."""

    job: UUID
    attempt: int
    run: str


@dataclass(slots=True, kw_only=True)
class Testimony:
    """The processes' testimony: how often each job was asked for, and how often not stored; and the calls, each with
    its end, `returned` or `raised`; None if its process ended first.

    `stored` maps each acknowledged job to whether one of the acknowledgements lies outside of all lost windows, so that
    the job must exist. `touched` counts per job the windows in which it has a line.
    """

    asked: Counter[UUID] = field(default_factory=Counter)
    stored: dict[UUID, bool] = field(default_factory=dict)
    nothing: Counter[UUID] = field(default_factory=Counter)
    calls: dict[Call, str | None] = field(default_factory=dict)
    touched: Counter[UUID] = field(default_factory=Counter)


def read_testimony(folder: Path, windows: Sequence[Window] = ()) -> Testimony:
    """Read the testimony of all processes. A last line that a kill has cut does not count."""
    reader = _Reader(windows)
    for file in sorted(folder.glob("witness-*.txt")):
        with file.open(encoding="ascii") as lines:
            reader.read(line for line in lines if line.endswith("\n"))
    return reader.finish()


class _Reader:
    """Reads the files, one after the other: the two lines around a call are in the same file."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        self._asked_at: dict[UUID, int] = {}
        self._stored: list[tuple[UUID, int, int]] = []
        """For each acknowledgement, when the last call before it began, and when it came."""
        self._touched: dict[UUID, set[Window]] = defaultdict(set)
        self._found = Testimony()

    def read(self, lines: Iterable[str]) -> None:
        """Read one process's lines. A call without an end ended with the process: after its last line."""
        begun: dict[Call, int] = {}
        last = 0
        for line in lines:
            what, word, *more = line.split()
            job, last = UUID(word), int(more[-1])
            if what in {"begun", "ended"}:
                call = Call(job, int(more[0]), more[1])
                self._found.calls[call] = more[2] if what == "ended" else None
                if what == "begun":
                    begun[call] = last
                else:
                    self._touch(job, begun.pop(call, last), last)
            else:
                self._note(what, job, last)
                self._touch(job, last, last)
        for call, at in begun.items():
            self._touch(call.job, at, last)

    def _note(self, what: str, job: UUID, at: int) -> None:
        match what:
            case "asked":
                self._found.asked[job] += 1
                self._asked_at[job] = at
            case "stored":
                self._stored.append((job, self._asked_at.get(job, at - REQUEST_SECONDS * SECOND), at))
            case _:
                self._found.nothing[job] += 1

    def _touch(self, job: UUID, begin: int, end: int) -> None:
        margin = MARGIN_SECONDS * SECOND
        for window in self._windows:
            if begin <= window.ends + margin and end >= window.begins - margin:
                self._touched[job].add(window)

    def finish(self) -> Testimony:
        """After all lines are read, decide which acknowledgements a rewind cannot have undone."""
        for job, asked, at in self._stored:
            may_be_lost = any(
                asked <= window.ends and at >= window.begins - LAG_SECONDS * SECOND for window in self._windows
            )
            self._found.stored[job] = self._found.stored.get(job, False) or not may_be_lost
        self._found.touched.update({job: len(windows) for job, windows in self._touched.items()})
        return self._found


__all__ = ["Call", "Testimony", "read_testimony"]
