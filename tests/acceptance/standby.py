"""A primary and its streaming standby, both real and durable: killed, promoted, and made the other's standby again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

import asyncpg

from rowlock import Settings
from rowlock.embedded import make_private_directory, server_command, temporary_server
from rowlock.embedded.folders import PORT
from rowlock.embedded.postmaster import find_postmaster
from rowlock.embedded.programs import give_to_server_user
from rowlock.migrations import upgrade
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

DATABASE = "rowlock"
SECONDS = 30.0


class Node:
    """One server on a folder of its own, listening on a Unix socket there: the same place whatever it is."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self._log = folder / "log"
        self.host = str(folder)
        self.url = f"postgresql://postgres@/{DATABASE}?host={quote(self.host)}&port={PORT}"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        give_to_server_user(folder)

    def copy(self, data: Path) -> None:
        """Begin with the data of a server that was shut down."""
        subprocess.run(["cp", "-a", str(data), str(self._data)], check=True)

    def follow(self, primary: Node) -> None:
        """Forget all data, and begin as a standby of this primary, with a copy of its data."""
        shutil.rmtree(self._data, ignore_errors=True)
        source = f"host={primary.host} port={PORT} user=postgres"
        options = ["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync"]
        _run("pg_basebackup", "-D", str(self._data), "-d", source, *options)

    async def start(self) -> None:
        """Start the server, as durable as it is by default, and wait until it takes connections."""
        settings = {"listen_addresses": "", "unix_socket_directories": self.host, "max_connections": "100"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # it starts at once
                server_command("postgres", "-D", str(self._data), *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )

        def is_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()
            running = find_postmaster(self._data)
            return running is not None and running.is_ready

        await eventually(is_ready, SECONDS)

    def kill(self) -> None:
        """Kill all of its processes at once, by SIGKILL: nothing is shut down, nobody is told."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGSTOP)  # it must not start others while they are counted
        for pid in (self._process.pid, *_children(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection to this very server, whether it takes writes or not."""
        opened = await asyncpg.connect(host=self.host, port=PORT, user="postgres", database=DATABASE)
        try:
            yield opened
        finally:
            opened.terminate()

    async def configure(self, **settings: str) -> None:
        """Change settings of the running server."""
        async with self.connection() as connection:
            for name, value in settings.items():
                await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            await connection.execute("SELECT pg_reload_conf()")


class Pair:
    """A primary whose commits wait for its standby. `url` names both, and stays the same whatever happens to them."""

    def __init__(self, first: Node, second: Node) -> None:
        self.primary = first
        self.standby = second
        hosts = f"{quote(first.host)},{quote(second.host)}"
        self.url = f"postgresql://postgres@/{DATABASE}?host={hosts}&port={PORT},{PORT}"

    async def start(self, data: Path) -> None:
        """Start the primary with these data, and the standby."""
        await asyncio.to_thread(self.primary.copy, data)
        await self.primary.start()
        await self.attach()

    async def attach(self) -> None:
        """Make the standby anew from the primary, and have the primary's commits wait for it."""
        await asyncio.to_thread(self.standby.follow, self.primary)
        await self.standby.start()
        await self.primary.configure(synchronous_standby_names="*")

        async def is_synchronous() -> bool:
            async with self.primary.connection() as connection:
                return bool(await connection.fetchval("SELECT sync_state = 'sync' FROM pg_stat_replication"))

        await eventually(is_synchronous, SECONDS)

    async def detach(self) -> None:
        """Have the standby follow no more. The primary's commits go on waiting for it."""
        await self.standby.configure(primary_conninfo="")

        async def is_alone() -> bool:
            async with self.primary.connection() as connection:
                return bool(await connection.fetchval("SELECT NOT EXISTS (SELECT FROM pg_stat_replication)"))

        await eventually(is_alone, SECONDS)

    async def promote(self) -> None:
        """Let the standby take the primary's part. It waits for no standby of its own."""
        self.primary, self.standby = self.standby, self.primary
        async with self.primary.connection() as connection:
            assert await connection.fetchval("SELECT pg_promote(wait_seconds => 30)")

    def kill(self) -> None:
        """Kill both."""
        self.primary.kill()
        self.standby.kill()


@contextmanager
def migrated_data() -> Iterator[Path]:
    """The data folder of a server that was shut down, with a migrated database."""
    with temporary_server() as server:
        upgrade(Settings(database_url=server.url))
        server.stop()
        yield server.location / "data"


@asynccontextmanager
async def running_pair(data: Path) -> AsyncIterator[Pair]:
    """A pair of servers with these data for the time of the block, and nothing left of it."""
    with _folder() as folder:
        pair = Pair(Node(folder / "a"), Node(folder / "b"))
        try:
            await pair.start(data)
            yield pair
        finally:
            pair.kill()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = make_private_directory("rowlock-pair-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "ppid=,pid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for parent, child in map(str.split, listed.splitlines()) if int(parent) == pid]


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run(
        server_command(program, *arguments), env=_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C"}
