"""The programs of a run: restarted whenever they end, stopped at the end, and judged by how they ended."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from rowlock.torture.database import faketime
from rowlock.torture.history import Fault, History, Process
from rowlock.torture.kin import Kin
from rowlock.torture.process_tasks import MEMORY_LIMIT
from rowlock.torture.proxy import Link
from rowlock.torture.workload import POISONED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

LEASE: Final = {"ROWLOCK_LEASE": "4", "ROWLOCK_HEARTBEAT": "1", "ROWLOCK_GRACE_PERIOD": "2"}
"""Shorter than by default, so that more happens in a minute."""
SKEWS: Final = ("+3600s", "-3600s", "+2d x1.05")
RESTART_SECONDS: Final = (0.05, 0.5)
TROUBLE_SECONDS: Final = 1.0
"""How long after a fault a process may still find no database."""
ORPHAN_SECONDS: Final = 30.0
"""How long the processes of an ended program may live on: a lease, a grace period, a margin."""
SUPERVISED: Final = "supervised"
"""The name of the worker program with a supervisor."""
_NO_DATABASE: Final = 2
"""The exit code of a worker or an API that cannot begin."""
_ENDED_AT_ONCE: Final = 1
"""The exit code of a supervisor whose processes cannot begin, again and again, or one of which was killed."""


class Program:
    """A process that is restarted whenever it ends, until it is no longer wanted.

    `is_spared`: no fault hits only this program, so that it lives for the whole run.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        link: Link | None,
        *,
        is_spared: bool = False,
    ) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.link = link
        self.is_spared = is_spared
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self.is_wanted = True
        self.expected: set[int] = set()
        """The exit codes that a signal asked for."""

    @property
    def pid(self) -> int:
        """The number of its process; 0 while there is none."""
        return 0 if self.process is None or self.process.returncode is not None else self.process.pid

    @property
    def is_supervisor(self) -> bool:
        """Whether it runs workers in separate processes."""
        return self.name.startswith(SUPERVISED)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is a process."""
        if self.pid:
            if number in {signal.SIGKILL, signal.SIGTERM}:
                self.expected |= {0, -number}  # SIGTERM's own end: of a process that had only just begun
                if self.is_supervisor:
                    self.expected.add(_ENDED_AT_ONCE)
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Programs:
    """All the processes of a run; `unexpected` lists each that ended without being asked to."""

    def __init__(self, folder: Path, history: History, rng: random.Random) -> None:
        self._folder = folder
        self._history = history
        self._rng = rng
        self._watched: list[asyncio.Task[None]] = []
        self.kin = Kin(folder, history)
        self.all: list[Program] = []
        self.unexpected: list[str] = []
        self._troubles = 0
        self._trouble_until = 0.0
        self._faketime = faketime()

    @property
    def can_skew(self) -> bool:
        """Whether libfaketime is there."""
        return self._faketime is not None

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """The database may be unreachable: a process that starts in the block, or just after, may fail."""
        self._troubles += 1
        try:
            yield
        finally:
            self._troubles -= 1
            self._trouble_until = time.monotonic() + TROUBLE_SECONDS

    def add(self, program: Program) -> None:
        """Start a program, and restart it whenever it ends."""
        self.all.append(program)
        self._watched.append(asyncio.create_task(self._keep(program)))

    def watch(self) -> None:
        """Follow all processes of the programs, and the resources of the spared ones."""
        spared = {program.name for program in self.all if program.is_spared}
        self._watched.append(asyncio.create_task(self.kin.watch(spared)))

    def of(self, *kinds: str) -> list[Program]:
        """The programs with these names before their numbers."""
        return [program for program in self.all if program.name.partition("-")[0] in kinds]

    def targets(self, *kinds: str) -> list[Program]:
        """The running ones of these programs that a fault may hit on their own."""
        return [program for program in self.of(*kinds) if program.pid and not program.is_spared]

    def processes_through(self, link: Link) -> list[int]:
        """The processes that reach the server through this link."""
        programs = [program for program in self.all if program.link is link]
        return sorted({pid for one in programs for pid in (one.pid, *self.kin.of(one.name)) if pid})

    async def end(self, programs: Sequence[Program], *, within: float) -> None:
        """Ask them to stop, and wait; kill those that are left then, which is unexpected."""
        for program in programs:
            program.is_wanted = False
            self._history.write(Fault(kind="stop", process=program.pid))
            program.signal(signal.SIGTERM)
        running = [program.process.wait() for program in programs if program.process is not None]
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await asyncio.gather(*running)
        for program in programs:
            if program.pid:
                self.unexpected.append(f"{program.name} did not stop within {within:.0f} s of SIGTERM")
                program.signal(signal.SIGKILL)

    async def kill_all(self) -> None:
        """Kill everything that is left."""
        for task in self._watched:
            task.cancel()
        for program in self.all:
            if program.process is not None:
                with suppress(ProcessLookupError):
                    program.process.kill()
                await program.process.wait()
        for pid in self.kin.all():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _keep(self, program: Program) -> None:
        while program.is_wanted:
            program.starts += 1
            program.expected = set()
            began = time.monotonic()
            with (self._folder / f"{program.name}.log").open("ab") as log:
                process = program.process = await asyncio.create_subprocess_exec(
                    *(word.replace("{start}", str(program.starts)) for word in program.command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **program.environment, **self._clock(program)},
                    start_new_session=True,
                )
            self._history.write(Process(name=program.name, process=process.pid, what="started"))
            code = await process.wait()
            self.kin.look()
            self._watched.append(asyncio.create_task(self._see_off(program.name, self.kin.of(program.name))))
            self._history.write(Process(name=program.name, process=process.pid, what="ended", code=code))
            self._judge(program, code, began)
            await asyncio.sleep(self._rng.uniform(*RESTART_SECONDS))

    async def _see_off(self, name: str, orphans: list[int]) -> None:
        """Check that the processes that a program had started end after it."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while left := set(orphans) & set(self.kin.of(name)):
            if time.monotonic() > deadline:
                self.unexpected.append(
                    f"{name}: processes {sorted(left)} live {ORPHAN_SECONDS:.0f} s after their parent"
                )
                return
            await asyncio.sleep(0.5)

    def _clock(self, program: Program) -> dict[str, str]:
        """Set a wrong clock for every third worker process."""
        if self._faketime is None or program.name.partition("-")[0] != "worker" or self._rng.random() > 1 / 3:
            return {}
        return {
            "LD_PRELOAD": self._faketime,
            "FAKETIME": self._rng.choice(SKEWS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def _judge(self, program: Program, code: int, began: float) -> None:
        is_poisoned = program.name.startswith("worker") and code in POISONED
        is_in_trouble = self._troubles > 0 or began < self._trouble_until
        cannot_begin = is_in_trouble and code == _NO_DATABASE
        cannot_begin |= program.is_supervisor and code in {_NO_DATABASE, _ENDED_AT_ONCE}
        if code not in program.expected and not is_poisoned and not cannot_begin:
            self.unexpected.append(f"{program.name} ended by itself with exit code {code} (see {program.name}.log)")


def program_environment(folder: Path, name: str, url: str) -> dict[str, str]:
    """The environment of a process of the run."""
    return {
        **LEASE,
        "ROWLOCK_DATABASE_URL": url,
        "ROWLOCK_PROCESS_MEMORY_LIMIT": str(MEMORY_LIMIT),
        "TMPDIR": str(temporary_files(folder)),
        "ROWLOCK_TORTURE_FOLDER": str(folder),
        "ROWLOCK_TORTURE_NAME": name,
        "PYTHONUNBUFFERED": "1",
    }


def temporary_files(folder: Path) -> Path:
    """Return the folder of temporary files of a run's processes."""
    place = folder / "tmp"
    place.mkdir(exist_ok=True)
    return place


def url_through(link: Link) -> str:
    """The DSN of the server through a link."""
    return f"postgresql://{quote('postgres')}@127.0.0.1:{link.port}/rowlock"


def python(*words: str) -> list[str]:
    """The command that runs this Python."""
    return [sys.executable, *words]


def numbered(kind: str, count: int) -> Iterator[str]:
    """Make the names `worker-1`, `worker-2` and so on."""
    return (f"{kind}-{number}" for number in range(1, count + 1))
