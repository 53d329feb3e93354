"""The database of a run: the current primary, its clock, and its standby."""

from __future__ import annotations

import asyncio
import atexit
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from rowlock.embedded.folders import PORT
from rowlock.embedded.programs import give_to_server_user
from rowlock.errors import RowlockError
from rowlock.torture.server import DATABASE, UNREACHABLE, Server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg
    from asyncpg import Record

    from rowlock.torture.disk import Disk

_FAKETIME: Final = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
SKIP_NUMBERS: Final = (
    "SELECT setval('rowlock_audit.change_number_seq', last_value + 10000000) FROM rowlock_audit.change_number_seq"
)
"""After the database went back in time, the audit's numbers continue above those that it has forgotten."""
STANDBY_SECONDS: Final = 60.0
RECOVERY_SECONDS: Final = 30.0
"""How long a server may recover by itself before it is restarted."""


def faketime() -> str | None:
    """Find libfaketime; None if it is not installed."""
    return next((str(file) for pattern in _FAKETIME for file in Path("/").glob(pattern[1:])), None)


class Clock:
    """The server's clock, which a file moves by some seconds while the server runs (by libfaketime)."""

    def __init__(self, file: Path, library: str) -> None:
        self._file = file
        self._library = library
        self.offset = 0
        self.highest = 0
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which a server follows this clock."""
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset: int) -> None:
        """Set the clock this many seconds ahead of the machine's, from now on."""
        coming = self._file.with_suffix(".coming")
        coming.write_text(f"{offset:+d}s\n")
        give_to_server_user(coming)
        coming.replace(self._file)
        self.offset = offset
        self.highest = max(self.highest, offset)


class Database:
    """The server: it can be stopped at once and started again, and its standby can replace it.

    `socket` and `url` stay the same whichever server is the primary. `url` names both servers if `has_two`.
    """

    def __init__(self, disk: Disk, *, has_clock: bool = False, has_two: bool = False) -> None:
        library = faketime() if has_clock else None
        self.clock = None if library is None else Clock(disk.folder / "clock", library)
        environment = {} if self.clock is None else self.clock.environment
        a, b = (Server(disk.data.location / name, disk.wal.location / name, environment) for name in "ab")
        self.server, self.other = a, b
        self._place = disk.folder / "primary"
        hosts = [str(a.folder), str(b.folder)] if has_two else [str(self._place)]
        ports = ",".join(str(PORT) for _ in hosts)
        self.url = f"postgresql://postgres@/{DATABASE}?host={','.join(map(quote, hosts))}&port={ports}"
        self._working: set[asyncio.Future[None]] = set()
        self._lead_to(a)
        atexit.register(self._kill)

    @property
    def socket(self) -> Path:
        """The primary's socket, through a link that points to the current primary."""
        return self._place / f".s.PGSQL.{PORT}"

    async def _work(self, do: Callable[..., None], *arguments: object) -> None:
        """Call it in a thread. A thread continues when its waiter is cancelled: `stop` waits for it."""
        working = asyncio.ensure_future(asyncio.to_thread(do, *arguments))
        self._working.add(working)
        working.add_done_callback(self._forget)
        await asyncio.shield(working)

    def _forget(self, working: asyncio.Future[None]) -> None:
        self._working.discard(working)
        if not working.cancelled():
            working.exception()  # the waiter has got it, or was cancelled

    async def create(self) -> None:
        """Create the database, and start it."""
        await self._work(self.server.initialize)
        await self.start()

    async def start(self) -> None:
        """Start the server, or wait until it has recovered by itself. Restart one that does not recover.

        PostgreSQL 18 waits for ever if its recovery from a crash meets a full disk: its startup process ends, and it
        starts no other one.
        """
        restart_at = time.monotonic() + RECOVERY_SECONDS
        while True:
            with suppress(RowlockError, *UNREACHABLE):
                await self._work(self.server.start)
                connection = await self.server.connect()
                await connection.close(timeout=5)
                return
            if time.monotonic() > restart_at:
                await self._work(self.server.crash)
                restart_at = time.monotonic() + RECOVERY_SECONDS
            await asyncio.sleep(0.2)

    async def crash(self) -> None:
        """Stop it at once, as `pg_ctl stop -m immediate` does."""
        await self._work(self.server.crash)

    async def stop(self) -> None:
        """Stop everything for good, after nothing uses the servers any more."""
        for server in (self.server, self.other):
            server.give_up()
        await asyncio.gather(*self._working, return_exceptions=True)
        for server in (self.server, self.other):
            await asyncio.to_thread(server.crash)
        atexit.unregister(self._kill)

    async def connect(self) -> asyncpg.Connection[Record]:
        """Open a connection past all proxies; wait until the server accepts it."""
        while True:
            with suppress(*UNREACHABLE):
                return await self.server.connect()
            await asyncio.sleep(0.05)

    # Failover to another server.

    async def attach(self, *, is_synchronous: bool) -> None:
        """Start a standby; all commits wait for it if `is_synchronous`."""
        await self._work(self.other.kill)
        await self._work(self.other.follow, self.server)
        await self._work(self.other.start)
        if is_synchronous:
            await self.server.configure("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        wanted = "sync" if is_synchronous else "async"
        await _wait_until(lambda: self._is_followed(wanted))

    async def detach(self) -> None:
        """Cut the standby off: from now on it falls behind."""
        await self.other.configure("ALTER SYSTEM SET primary_conninfo = ''")
        await _wait_until(lambda: self._is_followed(None))

    async def give_up_standby(self) -> None:
        """Continue without the standby."""
        await self._work(self.other.kill)
        await self.server.configure("ALTER SYSTEM RESET synchronous_standby_names")

    async def fail_over(self, *, skips_numbers: bool = False) -> None:
        """SIGKILL the primary, and promote the standby."""
        await self._work(self.server.kill)
        connection = await self.other.connect()
        await connection.execute("SELECT pg_promote(wait => false)")

        async def is_promoted() -> bool:
            return not await connection.fetchval("SELECT pg_is_in_recovery()")

        await _wait_until(is_promoted, every=0.001)
        if skips_numbers:
            await connection.execute(SKIP_NUMBERS)
        await connection.close(timeout=5)
        self._swap()
        await self.start()

    async def snapshot(self) -> None:
        """Stop the server, copy its data, and start it again."""
        await self.crash()
        await self._work(self.other.copy, self.server)
        await self.start()

    async def restore(self) -> None:
        """SIGKILL the server, and continue with the copy."""
        await self._work(self.server.kill)
        await self._work(self.other.execute_alone, SKIP_NUMBERS)
        self._swap()
        await self.start()

    async def last_number(self) -> int:
        """The number of the audit's last change."""
        connection = await self.connect()
        number: int = await connection.fetchval("SELECT last_value FROM rowlock_audit.change_number_seq")
        await connection.close(timeout=5)
        return number

    async def _is_followed(self, how: str | None) -> bool:
        """Whether the standby streams in this way; None: not at all."""
        connection = await self.connect()
        state: str | None = await connection.fetchval(
            "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'standby' AND state = 'streaming'"
        )
        await connection.close(timeout=5)
        return state == how

    def _swap(self) -> None:
        self.server, self.other = self.other, self.server
        self._lead_to(self.server)

    def _lead_to(self, server: Server) -> None:
        coming = self._place.with_suffix(".coming")
        coming.symlink_to(server.folder)
        coming.replace(self._place)

    def _kill(self) -> None:
        """Kill the servers when this process ends early."""
        for server in (self.server, self.other):
            server.kill()


async def _wait_until(is_so: Callable[[], Awaitable[bool]], *, every: float = 0.05) -> None:
    """Raises `TimeoutError` if the condition does not become true."""
    async with asyncio.timeout(STANDBY_SECONDS):
        while True:
            if await is_so():
                return
            await asyncio.sleep(every)


__all__ = ["Clock", "Database", "faketime"]
