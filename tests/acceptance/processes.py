"""Real processes for the acceptance tests: started, signalled, and gone at the end whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from rowlock import Settings

ROOT = Path(__file__).parent.parent.parent
ROWLOCK = str(Path(sys.executable).with_name("rowlock"))


@asynccontextmanager
async def worker(
    settings: Settings, *options: str, of: str = "tasks", **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `rowlock worker` of tests/acceptance/tasks.py, or another module there; killed at the end if it still runs."""
    app = f"tests.acceptance.{of}:app"
    async with _running(settings, "worker", app, *options, environment=environment) as process:
        yield process


@asynccontextmanager
async def api(settings: Settings) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A `rowlock api` of tests/acceptance/tasks.py, and its URL; killed at the end if it still runs."""
    options = ["tests.acceptance.tasks:app", "--port", "0"]
    async with _running(settings, "api", *options, stdout=asyncio.subprocess.PIPE) as process:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("The API is at "), line
        yield process, line.split()[-1]


@asynccontextmanager
async def _running(
    settings: Settings, *arguments: str, stdout: int | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        ROWLOCK,
        *arguments,
        cwd=ROOT,
        stdout=stdout,
        env={**os.environ, "ROWLOCK_DATABASE_URL": settings.database_url or ""} | dict(environment or {}),
    )
    try:
        yield process
    finally:
        for number in (signal.SIGCONT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                process.send_signal(number)
        await process.wait()


@asynccontextmanager
async def supervised(settings: Settings, *options: str, workers: int, **environment: str) -> AsyncIterator[list[int]]:
    """So many workers, each started again when it dies; yields the exit codes of those that died so far."""
    died: list[int] = []

    async def keep_one() -> None:
        while True:
            async with worker(settings, *options, **environment) as process:
                died.append(await process.wait())

    keepers = [asyncio.create_task(keep_one()) for _ in range(workers)]
    try:
        yield died
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
