"""The processes of each program of a run, and the resources of the long-lived ones.

A program's processes have its name in their environment: that is how they are found (Linux only). Their ends are
logged in the history, because a grandchild has no waiter.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rowlock.torture.history import Process
from rowlock.torture.remains import Vital
from rowlock.torture.server import sweep_faketime

if TYPE_CHECKING:
    from rowlock.torture.history import History

PROC: Final = Path("/proc")
LOOK_EVERY: Final = 0.1
YOUNG_SECONDS: Final = 1.0
"""A process this young may still show the environment of the program that forked it."""
VITALS_EVERY: Final = 1.0
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class _Seen:
    at: float
    name: str = ""
    alive_at: int = 0
    """When it was last seen alive: a time of the history, the start of a scan."""
    is_own: bool = False
    """Started by this process itself."""


@dataclass(slots=True)
class Kin:
    """The processes of a run. For those that this process started itself, others log the ends."""

    folder: Path
    history: History
    vitals: list[Vital] = field(default_factory=list)
    _seen: dict[int, _Seen] = field(default_factory=dict)

    def of(self, name: str) -> list[int]:
        """Return the processes of one program: its own, and all that it has started."""
        return [pid for pid, seen in self._seen.items() if seen.name == name]

    def children(self, name: str, program: str) -> list[int]:
        """Return the processes of a program that run this Python program (a part of their command line)."""
        return [pid for pid in self.of(name) if program in _command_line(pid)]

    def all(self) -> dict[int, str]:
        """Return all processes of the run, with the names of their programs."""
        self.look()
        return {pid: seen.name for pid, seen in self._seen.items() if seen.name}

    async def watch(self, lives: set[str]) -> None:
        """Scan again and again, and log the resources of the programs with these names."""
        measured = time.monotonic()
        while True:
            self.look()
            if time.monotonic() - measured > VITALS_EVERY:
                measured = time.monotonic()
                self.vitals += [vital for name in lives for pid in self.of(name) for vital in _vitals(pid, name)]
            await asyncio.sleep(LOOK_EVERY)

    def look(self) -> None:
        """Find new processes, and log the ends of those that are gone."""
        if not PROC.is_dir():
            return
        now, alive_at = time.monotonic(), time.monotonic_ns()
        there = {int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()}
        for pid in self._seen.keys() - there:
            self._ended(pid)
        for pid in there:
            seen = self._seen.setdefault(pid, _Seen(now))
            if seen.name:
                if _is_zombie(pid):
                    self._ended(pid)
                else:
                    seen.alive_at = alive_at
            elif now - seen.at < YOUNG_SECONDS:
                self._identify(pid, seen)

    def _identify(self, pid: int, seen: _Seen) -> None:
        with suppress(OSError):
            variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
            if f"ROWLOCK_TORTURE_FOLDER={self.folder}".encode() in variables:
                prefix = b"ROWLOCK_TORTURE_NAME="
                seen.name = next((one[len(prefix) :].decode() for one in variables if one.startswith(prefix)), "")
                seen.alive_at, seen.is_own = time.monotonic_ns(), _parent(pid) == os.getpid()
                if seen.name and not seen.is_own:
                    self.history.write(Process(name=seen.name, process=pid, what="started"))

    def _ended(self, pid: int) -> None:
        seen = self._seen[pid]
        if seen.name:
            sweep_faketime(pid)
        if seen.name and not seen.is_own:
            self.history.write(Process(name=seen.name, process=pid, what="ended", alive_at=seen.alive_at))
        # A zombie stays in the list, without a name, until it is gone.
        self._seen[pid] = _Seen(at=0.0)
        if not (PROC / str(pid)).exists():
            del self._seen[pid]


def _state(pid: int) -> list[str]:
    """Return the third word of a process's line and the following: its state, its parent, … Raises `OSError`."""
    return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()


def _is_zombie(pid: int) -> bool:
    try:
        return _state(pid)[0] == "Z"
    except OSError:
        return True


def _parent(pid: int) -> int:
    return int(_state(pid)[1])


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _vitals(pid: int, name: str) -> list[Vital]:
    """Return a process's current resources; empty if it is gone."""
    try:
        resident = int((PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
        threads = sum(1 for _ in (PROC / str(pid) / "task").iterdir())
        descriptors = sum(1 for _ in (PROC / str(pid) / "fd").iterdir())
    except (OSError, ValueError, IndexError):
        return []
    at = time.monotonic()
    return [Vital(name=name, pid=pid, at=at, resident=resident, threads=threads, descriptors=descriptors)]


__all__ = ["Kin"]
