"""The workers' own logs: why a renewal failed, when a worker made room, and reports that it could not write.

Their times are not used: a process may have a wrong clock. A line belongs to the worker that it names, or to the one
that was started last in its file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNWRITTEN: Final = "end_of_attempt_not_written"
WORDS: Final = (
    "worker_started",
    "lease_not_renewed",
    "lease_lost",
    "claims_paused",
    "jobs_adopted",
    "concurrency_changed",
    UNWRITTEN,
)


class Line(msgspec.Struct, kw_only=True, frozen=True):
    """The used fields of one line of a log."""

    event: str
    worker: UUID | None = None
    job_id: UUID | None = None
    error: str = ""


@dataclass(slots=True)
class Said:
    """The log of one worker: how often each event, the errors of its renewals, and the jobs whose last reports it
    could not write in time.
    """

    events: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    unwritten: set[UUID] = field(default_factory=set)


def read_logs(folder: Path) -> dict[UUID, Said]:
    """Read the logs of the workers in a run's folder."""
    said: dict[UUID, Said] = defaultdict(Said)
    for file in sorted((*folder.glob("worker-*.log"), *folder.glob("supervised-*.log"))):
        last: UUID | None = None
        for line in _lines(file):
            if line.event == "worker_started":
                last = line.worker
            worker = line.worker or last
            if worker is not None:
                said[worker].events[line.event] += 1
                if line.event == "lease_not_renewed":
                    said[worker].errors[line.error] += 1
                if line.event == UNWRITTEN and line.job_id is not None:
                    said[worker].unwritten.add(line.job_id)
    return said


def _lines(file: Path) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    with file.open("rb") as lines:
        for line in lines:
            if any(f'"{word}"'.encode() in line for word in WORDS):
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError:
                    continue  # half a line: its process was killed
