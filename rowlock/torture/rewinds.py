"""The windows of time that the database has lost because it went back to an earlier moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowlock.torture.history import Fault, History, read_event, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From the moment that the database went back to, until it answered again; both are times of the history."""

    begins: int
    ends: int


@dataclass(slots=True)
class Rewinds:
    """All windows of a run."""

    windows: list[Window] = field(default_factory=list)


def rewound(faults: Sequence[Fault]) -> Iterator[Window]:
    """Find the windows: the note of each rewind is the moment that it goes back to."""
    for fault in faults:
        if fault.kind == "rewind" and fault.is_over:
            yield Window(begins=int(fault.note), ends=fault.at)


def read_windows(folder: Path) -> list[Window]:
    """Read the windows of a run from the history of its runner."""
    files = folder.glob(f"runner-*{History.SUFFIX}")
    events = [read_event(line) for file in files for line in read_lines(file)]
    return list(rewound([event for event in events if isinstance(event, Fault)]))


__all__ = ["Rewinds", "Window", "read_windows", "rewound"]
