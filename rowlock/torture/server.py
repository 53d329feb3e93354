"""One PostgreSQL server of a run: start it, crash it, kill it, copy it, and make it a standby of another."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import asyncpg

from rowlock.embedded import server_command
from rowlock.embedded.folders import PORT
from rowlock.embedded.postmaster import find_postmaster, remove_pid_file_of_a_stranger
from rowlock.embedded.programs import give_to_server_user
from rowlock.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asyncpg import Record

DATABASE: Final = "rowlock"
SETTINGS: Final = {
    "max_connections": "150",
    "shared_buffers": "256MB",
    "max_wal_size": "1GB",
    "track_commit_timestamp": "on",  # the audit reads since when a row was visible
    "dynamic_shared_memory_type": "mmap",  # in the data folder: the leftovers of a killed server go with it
}
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
UNREACHABLE: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
"""The exceptions of a call while the server is down, or does not accept connections yet."""
_LOG_LINES: Final = 15
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # the kernel's folder of shared memory


class Server:
    """A server on a folder of its own, with its WAL in another folder.

    `environment` is added to the environment of the server's processes only. All calls but `connect` block.
    """

    def __init__(self, folder: Path, wal: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._wal = wal
        self._environment = environment
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up = threading.Event()
        folder.mkdir()
        give_to_server_user(folder)

    @property
    def url(self) -> str:
        """The DSN of exactly this server."""
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self.folder))}&port={PORT}"

    def give_up(self) -> None:
        """Start nothing more: a call that waits for the server's start raises `DatabaseUnavailable`."""
        self._given_up.set()

    def initialize(self) -> None:
        """Create the cluster, with an empty database."""
        self._clear()
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        _run("initdb", "-D", str(self.data), f"--waldir={self._wal}", *options)
        single = ["--single", "-D", str(self.data), "-c", "exit_on_error=on", "postgres"]
        _run("postgres", *single, stdin="CREATE DATABASE rowlock\n")

    def follow(self, primary: Server) -> None:
        """Become a standby of the running primary, with a copy of its data."""
        self._clear()
        source = f"host={primary.folder} port={PORT} user=postgres application_name=standby"
        options = ["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync"]
        _run("pg_basebackup", "-D", str(self.data), f"--waldir={self._wal}", "-d", source, *options)

    def copy(self, other: Server) -> None:
        """Become a copy of a stopped server."""
        self._clear()
        for origin, target in ((other.data, self.data), (other._wal, self._wal)):  # of the same class
            subprocess.run(["cp", "--archive", "--no-target-directory", str(origin), str(target)], check=True)  # noqa: S607
        link = self.data / "pg_wal"
        link.unlink()
        link.symlink_to(self._wal)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def execute_alone(self, statement: str) -> None:
        """Execute one statement on this stopped server's data, before any client can connect."""
        _run("postgres", "--single", "-D", str(self.data), "-c", "exit_on_error=on", DATABASE, stdin=f"{statement}\n")

    def start(self) -> None:
        """Start the server, or wait until it has recovered by itself. Raises `DatabaseUnavailable`."""
        if self._given_up.is_set():
            raise DatabaseUnavailable(f"The server in {self.folder} does not start: the run is given up.")
        if self._process is None or self._process.poll() is not None:
            self._launch()
        process = self._process
        assert process is not None  # noqa: S101  # for the type checker

        def is_settled() -> bool:
            running = find_postmaster(self.data)
            return self._given_up.is_set() or process.poll() is not None or (running is not None and running.is_ready)

        if not _wait(is_settled, START_SECONDS) or self._given_up.is_set() or process.poll() is not None:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise DatabaseUnavailable(f"The server in {self.folder} did not start. Its log ends with:\n{tail}")

    def crash(self) -> None:
        """Stop the server at once, as `pg_ctl stop -m immediate` does."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGQUIT)
        if not _wait(lambda: process.poll() is not None, STOP_SECONDS):
            self.kill()
        self._sweep(process.pid)

    def kill(self) -> None:
        """SIGKILL all processes of the server, without a shutdown or a message to clients."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGSTOP)  # it must not start others while they are listed
        for pid in (process.pid, *children_of(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        self._sweep(process.pid)

    async def connect(self) -> asyncpg.Connection[Record]:
        """Connect to this server. Raises one of `UNREACHABLE`."""
        connection: asyncpg.Connection[Record] = await asyncpg.connect(self.url, timeout=5, command_timeout=120)
        return connection

    async def configure(self, setting: str) -> None:
        """Change one setting of the running server, given as an `ALTER SYSTEM` statement."""
        connection = await self.connect()
        try:
            await connection.execute(setting)
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close(timeout=5)

    def _clear(self) -> None:
        for folder in (self.data, self._wal):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.data, self._wal):
            folder.mkdir(mode=0o700)
            give_to_server_user(folder)

    def _sweep(self, pid: int) -> None:
        """Remove the shared memory of a killed server: its own, and that of libfaketime."""
        sweep_faketime(pid)
        with suppress(OSError, IndexError):
            segment = (self.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", segment], capture_output=True, check=False)  # noqa: S607

    def _launch(self) -> None:
        remove_pid_file_of_a_stranger(self.data)
        given = {"listen_addresses": "", "port": str(PORT), "unix_socket_directories": str(self.folder), **SETTINGS}
        options = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                _with_environment(server_command("postgres", "-D", str(self.data), *options), self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_clean_environment(),
                start_new_session=True,
            )


def sweep_faketime(pid: int) -> None:
    """Remove libfaketime's shared memory of a killed process."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        (SHARED_MEMORY / name).unlink(missing_ok=True)


def faketime_files() -> set[Path]:
    """Find libfaketime's shared memory of all processes."""
    return {*SHARED_MEMORY.glob("faketime_shm_*"), *SHARED_MEMORY.glob("sem.faketime_sem_*")}


def sweep_dead_faketime(known: set[Path]) -> None:
    """Remove libfaketime's shared memory of dead processes, except the files in `known`."""
    for file in faketime_files() - known:
        if not Path("/proc", file.name.rpartition("_")[2]).exists():
            with suppress(OSError):
                file.unlink(missing_ok=True)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    listed = subprocess.run(["ps", "-A", "-o", "ppid=,pid="], capture_output=True, text=True, check=True).stdout  # noqa: S607
    return [int(child) for parent, child in map(str.split, listed.splitlines()) if int(parent) == pid]


def _with_environment(command: list[str], environment: Mapping[str, str]) -> list[str]:
    """Set variables for the server only, not for the program before it that drops root."""
    if not environment:
        return command
    index = next(number for number, word in enumerate(command) if Path(word).name == "postgres")
    return [
        *command[:index],
        "/usr/bin/env",
        *(f"{name}={value}" for name, value in environment.items()),
        *command[index:],
    ]


def _clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C"}


def _run(program: str, *arguments: str, stdin: str = "") -> None:
    done = subprocess.run(
        server_command(program, *arguments),
        env=_clean_environment(),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DatabaseUnavailable(f"{program} failed:\n{done.stdout}{done.stderr}")


def _wait(is_so: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


__all__ = [
    "DATABASE",
    "UNREACHABLE",
    "Server",
    "children_of",
    "faketime_files",
    "sweep_dead_faketime",
    "sweep_faketime",
]
