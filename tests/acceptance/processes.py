"""Real processes for the acceptance tests: started, signalled, and gone at the end whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from rowlock import Settings

ROOT = Path(__file__).parent.parent.parent
ROWLOCK = str(Path(sys.executable).with_name("rowlock"))


@asynccontextmanager
async def worker(settings: Settings, *options: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `rowlock worker` of tests/acceptance/tasks.py; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        ROWLOCK,
        "worker",
        "tests.acceptance.tasks:app",
        *options,
        cwd=ROOT,
        env={**os.environ, "ROWLOCK_DATABASE_URL": settings.database_url or "", **environment},
    )
    try:
        yield process
    finally:
        for number in (signal.SIGCONT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                process.send_signal(number)
        await process.wait()
