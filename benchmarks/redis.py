"""A Redis server for one run, in the place of a database: for systems that need one."""

from __future__ import annotations

import asyncio
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.machine import cpu_seconds
from benchmarks.usage import Usage

START_TRIES = 200
WAIT_SECONDS = 0.02


@dataclass(slots=True)
class Redis:
    """A running Redis, with what a `Database` has for a run."""

    url: str
    socket: str
    pid: int
    connection: None = None

    async def settle(self) -> None:
        """Nothing to do."""

    async def number(self, script: str) -> int:
        """What a Lua script counts."""
        return int(await self._call("EVAL", script, "0"))

    async def usage(self) -> Usage:
        """CPU seconds; there is no WAL."""
        return Usage(cpu_seconds(self.pid), 0, 0)

    async def answers(self) -> bool:
        """Whether it is up."""
        return await self._call("PING") == "PONG"

    async def _call(self, *words: str) -> str:
        program = await asyncio.create_subprocess_exec(
            "redis-cli", "-s", self.socket, *words, stdout=PIPE, stderr=DEVNULL
        )
        printed, _ = await program.communicate()
        return printed.decode().strip()


@asynccontextmanager
async def redis() -> AsyncIterator[Redis]:
    """Run one for the time of the block, with an append-only file that is synced once a second."""
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/redis.sock"
        process = await asyncio.create_subprocess_exec(
            *("redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder, "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "everysec"),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        try:
            running = Redis(f"redis+socket://{socket}", socket, process.pid)
            for _ in range(START_TRIES):
                if await running.answers():
                    break
                await asyncio.sleep(WAIT_SECONDS)
            yield running
        finally:
            process.terminate()
            await process.wait()
