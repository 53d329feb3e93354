"""One embedded server: the first process starts it, others join it, its owner stops it."""

from __future__ import annotations

import atexit
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from rowlock.embedded.folders import PORT, make_location, make_private_directory, make_socket_dir, reachable_location
from rowlock.embedded.postmaster import Postmaster, find_postmaster, is_postmaster, remove_pid_file_of_a_stranger
from rowlock.embedded.programs import find_binaries, give_to_server_user, server_command, version_of
from rowlock.errors import ConfigurationError, DatabaseUnavailable, RowlockError

_DATABASE = "rowlock"
_TIMEOUT = 60.0
_LOG_LINES = 15


class EmbeddedServer:
    """A PostgreSQL server on one data folder, with a database `rowlock`. It creates the folder if necessary.

    The first caller of `start()` starts the server and owns it; other objects and processes with the same folder
    join it, and their `stop()` leaves it running. If the owner died without stopping it, the next process to start
    takes the server over, unless others still use it: they must not lose it when that process ends. A process also
    stops the server that it started at its exit.
    All calls block: from async code go through `asyncio.to_thread`.

    `durable=False` gives up crash safety for speed, for tests. `settings` are PostgreSQL's own, such as
    `{"max_connections": "200"}`.

    >>> with EmbeddedServer(".rowlock") as server:
    ...     print(server.url)  # doctest: +SKIP
    """

    def __init__(
        self, data_dir: Path | str, *, durable: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        self._data_dir = Path(data_dir).absolute()
        self._durable = durable
        self._settings = dict(settings or {})
        self._location: Path | None = None
        self._socket_dir: Path | None = None
        self._pid: int | None = None  # of the postmaster, while started or joined
        self._process: subprocess.Popen[bytes] | None = None  # only if this object started it
        self._use_lock: int | None = None  # shared by all users of the server
        self._owner_lock: int | None = None
        self._owner_process: int | None = None  # the process that may stop it: not a fork of it

    @property
    def location(self) -> Path:
        """The folder with the server's data: the requested one or, for root, one that the server's user can reach."""
        if self._location is None:
            self._location = reachable_location(self._data_dir)
        return self._location

    @property
    def url(self) -> str:
        """The DSN of the database `rowlock`, for asyncpg, psql and, with its driver named, SQLAlchemy.

        It is the same at each start. Raises `RowlockError` while the server is not started.
        """
        if self._socket_dir is None:
            raise RowlockError("The embedded server has no URL before it is started. Call start() first.")
        return f"postgresql://postgres@/{_DATABASE}?host={quote(str(self._socket_dir))}&port={PORT}"

    @property
    def pid(self) -> int | None:
        """The process id of the server's first process; None while not started."""
        return self._pid

    @property
    def is_owner(self) -> bool:
        """Whether `stop()` of this object stops the server: it started it or took it over."""
        return self._owner_process == os.getpid()

    def psql_command(self) -> str:
        """The shell command that opens psql on the server's database."""
        psql = find_binaries() / "psql"
        return shlex.join([str(psql) if psql.exists() else "psql", self.url])

    def join(self) -> None:
        """Join the server that runs on this folder; never start one.

        Raises `ConfigurationError` if none runs, and `DatabaseUnavailable` if it neither comes up nor ends.
        """
        if find_postmaster(self._data) is not None:
            self._begin(launches=False)
        if self._pid is None:
            raise ConfigurationError(
                f"ROWLOCK_DATABASE_URL (or DATABASE_URL) must be set: no development server runs in {self._data_dir} "
                "— set it to one like postgresql://user:password@host:5432/database, or start a development server: "
                "rowlock dev tasks:app"
            )

    def start(self) -> None:
        """Start the server, or join the one that runs on this folder, and return when it accepts connections.

        A crash in the middle leaves either no data folder or a complete one, and a server that the next start takes
        over. Raises `ConfigurationError` if the folder cannot be used or if another major version of PostgreSQL created
        it, and `DatabaseUnavailable` with the end of the server's log if it does not come up.
        """
        self._begin(launches=True)

    def _begin(self, *, launches: bool) -> None:
        try:
            make_location(self.location)
            with _held(self.location / "start.lock"):
                is_alone = self._use()
                if self._process is not None:
                    self._process.poll()  # a zombie would count as alive
                running = self._await_running()
                if running is not None:
                    self._join(running, is_alone=is_alone)
                elif launches:
                    self._launch()
        except OSError as error:
            raise ConfigurationError(
                f"The embedded server cannot use the folder {self.location} ({error.strerror}: {error.filename}). "
                "Make it writable for the current user, or choose another one (environment: ROWLOCK_DATA_DIR)."
            ) from error
        finally:
            if self._pid is None:
                self._leave()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server if this object owns it; otherwise only leave it. It may be called again.

        `fast` ends all sessions and writes all data to disk. `immediate` is a crash: the next start recovers.
        """
        atexit.unregister(self.stop)
        self._leave()
        pid, socket_dir = self._pid, self._socket_dir
        self._pid = self._socket_dir = None
        if pid is not None and self.is_owner:
            # The folder may have been removed under the server; the server must end nevertheless.
            with _held(self.location / "start.lock") if self.location.exists() else nullcontext():
                self._end(pid, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
                if socket_dir is not None and not socket_dir.is_relative_to(self.location):
                    with suppress(OSError):
                        socket_dir.rmdir()
        self._disown()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.location / "data"

    @property
    def _log(self) -> Path:
        return self.location / "server.log"

    def _await_running(self) -> Postmaster | None:
        """Find a live server on the folder; wait for one that is starting or stopping."""

        def settled() -> bool:
            running = find_postmaster(self._data)
            return running is None or running.is_ready

        if not _wait_for(settled):
            raise DatabaseUnavailable(f"The server in {self.location} neither starts nor ends.\n{_tail(self._log)}")
        return find_postmaster(self._data)

    def _use(self) -> bool:
        """Register this object as a user of the server. Returns whether it is the only one. Needs the start lock."""
        if self._use_lock is None:
            self._use_lock = os.open(self.location / "use.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._use_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_alone = False
        else:
            is_alone = True
        fcntl.flock(self._use_lock, fcntl.LOCK_SH)
        return is_alone

    def _leave(self) -> None:
        if self._use_lock is not None:
            os.close(self._use_lock)
            self._use_lock = None

    def _join(self, running: Postmaster, *, is_alone: bool) -> None:
        if self._pid != running.pid:
            self._disown()  # the server that it owned is gone
            if is_alone:
                self._own_if_orphaned()
        self._pid, self._socket_dir = running.pid, running.socket_dir

    def _own_if_orphaned(self) -> None:
        if self._owner_lock is not None:
            return
        lock = os.open(self.location / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            self._owner_lock = lock
            self._own()

    def _own(self) -> None:
        self._owner_process = os.getpid()
        atexit.unregister(self.stop)
        atexit.register(self.stop)

    def _disown(self) -> None:
        self._process = self._owner_process = None
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None

    def _launch(self) -> None:
        self._disown()
        self._check_version()
        if not self._data.exists():
            self._initialize()
        self._socket_dir = make_socket_dir(self.location)
        # Processes of a killed server may still be ending; PostgreSQL refuses to start beside them.
        deadline = time.monotonic() + 10
        while not self._try_launch():
            text = _tail(self._log)
            if "shared memory block" not in text or time.monotonic() > deadline:
                self._pid = self._socket_dir = None
                self._disown()
                raise DatabaseUnavailable(
                    f"The embedded server in {self.location} did not start. The end of {self._log}:\n{text}"
                )
            time.sleep(0.1)

    def _try_launch(self) -> bool:
        remove_pid_file_of_a_stranger(self._data)
        if self._log.exists():
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                server_command("postgres", "-D", str(self._data), *self._options()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # the terminal's Ctrl-C is for this process, not for the server
            )
        self._process, self._pid = process, process.pid
        # Own it from the first moment: an interrupt during the wait must not leave it behind.
        self._own_if_orphaned()
        self._own()

        def settled() -> bool:
            running = find_postmaster(self._data)
            return process.poll() is not None or (running is not None and running.is_ready)

        try:
            is_up = _wait_for(settled) and process.poll() is None
        except BaseException:
            self._end(process.pid, signal.SIGQUIT)
            raise
        if not is_up:
            self._end(process.pid, signal.SIGQUIT)
        return is_up

    def _options(self) -> list[str]:
        given = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(self._socket_dir),
            "logging_collector": "off",
            "cluster_name": "rowlock",
        }
        if not self._durable:
            given |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        return [word for name, value in (given | self._settings).items() for word in ("-c", f"{name}={value}")]

    def _check_version(self) -> None:
        version = self._data / "PG_VERSION"
        if not version.exists():
            return
        made_by, binaries = version.read_text().strip(), find_binaries()
        if made_by != str(version_of(binaries)[0]):
            raise ConfigurationError(
                f"The data in {self.location} is of PostgreSQL {made_by}, but the programs in {binaries} are of "
                f"version {version_of(binaries)[0]}. Set ROWLOCK_POSTGRES_BIN to the programs of version {made_by}, or "
                "move the folder away to begin with an empty one."
            )

    def _initialize(self) -> None:
        """Create the cluster and its database under another name first, so that `data` is always complete."""
        unfinished = self.location / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        give_to_server_user(unfinished)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        if not self._durable:
            options.append("--no-sync")
        _run(server_command("initdb", "-D", str(unfinished), *options))
        single = ["--single", "-D", str(unfinished), "-c", "exit_on_error=on"]
        if not self._durable:
            single += ["-c", "fsync=off"]
        _run(server_command("postgres", *single, "postgres"), f"CREATE DATABASE {_DATABASE}\n")
        unfinished.rename(self._data)

    def _end(self, pid: int, by: signal.Signals) -> None:
        """Stop the server `pid`; kill it if it does not end."""
        for force in (by, signal.SIGQUIT, signal.SIGKILL):
            if not self._is_alive(pid):
                break
            with suppress(ProcessLookupError):
                os.kill(pid, force)
            if _wait_for(lambda: not self._is_alive(pid), _TIMEOUT if force == by else 10):
                break

    def _is_alive(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        return is_postmaster(pid, self._data)


@contextmanager
def temporary_server(*, durable: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
    """Run a server on a new folder and remove both afterwards: for tests and benchmarks.

    A benchmark that writes must pass `durable=True`: without it nothing waits for the disk.
    """
    folder = make_private_directory()
    server = EmbeddedServer(folder, durable=durable, settings=settings)
    try:
        with server:
            yield server
    finally:
        shutil.rmtree(server.location, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _wait_for(is_so: Callable[[], bool], seconds: float = _TIMEOUT) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _environment() -> dict[str, str]:
    """The environment without the variables that configure PostgreSQL's programs, and with English messages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C"}


def _run(command: list[str], stdin: str = "") -> None:
    done = subprocess.run(
        command,
        input=stdin,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        end = "\n".join(done.stdout.splitlines()[-_LOG_LINES:])
        raise DatabaseUnavailable(f"The embedded server could not create its data folder:\n{end}")


def _tail(log: Path) -> str:
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    return ""
