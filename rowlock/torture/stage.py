"""Where a run takes place: the server on a disk of its own, the links to it, and the processes, kept alive."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import asyncpg

from rowlock.embedded import EmbeddedServer, make_private_directory
from rowlock.embedded.programs import give_to_server_user
from rowlock.errors import RowlockError
from rowlock.torture.history import Fault, History, Process
from rowlock.torture.proxy import Link
from rowlock.torture.workload import POISONED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from asyncpg import Record

LEASE: Final = {"ROWLOCK_LEASE": "4", "ROWLOCK_HEARTBEAT": "1", "ROWLOCK_GRACE_PERIOD": "2"}
"""Shorter than by default, so that more happens in a minute."""
DISK_BYTES: Final = 6 * 1024**3
SKEWS: Final = ("+3600s", "-3600s", "+2d x1.05")
_FAKETIME: Final = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
RESTART_SECONDS: Final = (0.05, 0.5)
TROUBLE_SECONDS: Final = 1.0
"""After a fault is over, so long a process may still find no database."""
_NO_DATABASE: Final = 2
"""With this a worker or an API ends that cannot begin."""


class Disk:
    """The folder of the server: where root may mount one, a small disk in memory that can be filled up."""

    def __init__(self) -> None:
        self.folder = make_private_directory("rowlock-torture-")
        self.location = self.folder / "disk"
        self.location.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(self.location)]
        mount = shutil.which("mount")
        done = mount and subprocess.run([mount, *options], capture_output=True, check=False)
        self.can_be_filled = bool(done) and done.returncode == 0  # type: ignore[union-attr]  # not None then
        give_to_server_user(self.location)
        self._ballast = self.location / "ballast"

    def fill(self) -> None:
        """Take all that is left of the disk."""
        with self._ballast.open("wb") as file, suppress(OSError):
            left = shutil.disk_usage(self.location).free
            os.posix_fallocate(file.fileno(), 0, left)
            while True:
                file.seek(0, os.SEEK_END)
                file.write(b"\0" * 4096)
                file.flush()

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove everything."""
        if self.can_be_filled:
            subprocess.run(["umount", "--lazy", str(self.location)], capture_output=True, check=False)  # noqa: S607
        shutil.rmtree(self.folder, ignore_errors=True)


class Database:
    """The server, which can be stopped at once and started again."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._server = EmbeddedServer(
            disk.location / "server",
            settings={
                "max_connections": "150",
                "shared_buffers": "256MB",
                "max_wal_size": "1GB",
                "track_commit_timestamp": "on",  # the audit asks since when a row was visible
            },
        )
        self.url = ""

    @property
    def socket(self) -> Path:
        """The server's socket."""
        return next(Path(self._server.location).glob("run/.s.PGSQL.*[0-9]"), Path("/nowhere"))

    async def start(self) -> None:
        """Start it, or wait until it has recovered by itself."""
        while True:
            with suppress(RowlockError):
                await asyncio.to_thread(self._server.start)
                self.url = self._server.url
                if await self._answers():
                    return
            await asyncio.sleep(0.2)

    async def crash(self) -> None:
        """Stop it at once, as `pg_ctl stop -m immediate` does."""
        await asyncio.to_thread(self._server.stop, "immediate")

    async def stop(self) -> None:
        """Stop it for good."""
        await asyncio.to_thread(self._server.stop, "immediate")

    async def connect(self) -> asyncpg.Connection[Record]:
        """A connection past all proxies; waits until the server takes it."""
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                return await asyncpg.connect(self.url, timeout=5, command_timeout=120)
            await asyncio.sleep(0.05)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=5)
            await connection.close(timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            return False
        return True


class Program:
    """A process that is started again whenever it ends, until it is no longer wanted."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], link: Link | None) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.link = link
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self.is_wanted = True
        self.expected: set[int] = set()
        """The exit codes that were asked for by a signal."""

    @property
    def pid(self) -> int:
        """The number of its process; 0 while there is none."""
        return 0 if self.process is None or self.process.returncode is not None else self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is a process."""
        if self.pid:
            if number in {signal.SIGKILL, signal.SIGTERM}:
                self.expected |= {0, -number}  # SIGTERM's own end: of a process that had only just begun
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Programs:
    """All the processes of a run; whoever ends without having been asked to is found in `unexpected`."""

    def __init__(self, folder: Path, history: History, rng: random.Random) -> None:
        self._folder = folder
        self._history = history
        self._rng = rng
        self._watched: list[asyncio.Task[None]] = []
        self.all: list[Program] = []
        self.unexpected: list[str] = []
        self._troubles = 0
        self._trouble_until = 0.0
        self._faketime = next((str(file) for pattern in _FAKETIME for file in Path("/").glob(pattern[1:])), None)

    @property
    def can_skew(self) -> bool:
        """Whether libfaketime is there."""
        return self._faketime is not None

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """While the database may be out of reach: a process that starts in the block, or just after, may give up."""
        self._troubles += 1
        try:
            yield
        finally:
            self._troubles -= 1
            self._trouble_until = time.monotonic() + TROUBLE_SECONDS

    def add(self, program: Program) -> None:
        """Start a program, and again whenever it ends."""
        self.all.append(program)
        self._watched.append(asyncio.create_task(self._keep(program)))

    def of(self, *kinds: str) -> list[Program]:
        """The programs with these names but for their numbers."""
        return [program for program in self.all if program.name.partition("-")[0] in kinds]

    async def end(self, programs: Sequence[Program], *, within: float) -> None:
        """Ask them to stop, and wait; what is left then is killed, which is not as expected."""
        for program in programs:
            program.is_wanted = False
            self._history.write(Fault(kind="stop", process=program.pid))
            program.signal(signal.SIGTERM)
        running = [program.process.wait() for program in programs if program.process is not None]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*running), within)
        for program in programs:
            if program.pid:
                self.unexpected.append(f"{program.name} did not stop within {within:.0f} s of SIGTERM")
                program.signal(signal.SIGKILL)

    async def kill_all(self) -> None:
        """Leave nothing behind."""
        for task in self._watched:
            task.cancel()
        for program in self.all:
            if program.process is not None:
                with suppress(ProcessLookupError):
                    program.process.kill()
                await program.process.wait()

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
            self._history.write(Process(name=program.name, process=process.pid, what="ended", code=code))
            self._judge(program, code, began)
            await asyncio.sleep(self._rng.uniform(*RESTART_SECONDS))

    def _clock(self, program: Program) -> dict[str, str]:
        """Give every third worker process a wrong clock."""
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
        cannot_begin = code == _NO_DATABASE and (self._troubles > 0 or began < self._trouble_until)
        if code not in program.expected and not is_poisoned and not cannot_begin:
            self.unexpected.append(f"{program.name} ended by itself with exit code {code} (see {program.name}.log)")


def program_environment(folder: Path, name: str, url: str) -> dict[str, str]:
    """What a process of the run finds in its environment."""
    return {
        **LEASE,
        "ROWLOCK_DATABASE_URL": url,
        "ROWLOCK_TORTURE_FOLDER": str(folder),
        "ROWLOCK_TORTURE_NAME": name,
        "PYTHONUNBUFFERED": "1",
    }


def url_through(link: Link) -> str:
    """The DSN that leads through a link."""
    return f"postgresql://{quote('postgres')}@127.0.0.1:{link.port}/rowlock"


def python(*words: str) -> list[str]:
    """The command that runs this Python."""
    return [sys.executable, *words]


def numbered(kind: str, count: int) -> Iterator[str]:
    """Make the names `worker-1`, `worker-2` and so on."""
    return (f"{kind}-{number}" for number in range(1, count + 1))
