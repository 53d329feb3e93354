"""Watch the machine and the server from the runner, which no fault hits: a starved worker is not a defect of it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from rowlock.torture.history import History, Stall

if TYPE_CHECKING:
    from collections.abc import Callable

STALL_SECONDS: Final = 0.5
"""The shortest stall that counts."""
LOOK_EVERY: Final = 0.25
_LOST: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)


class Watch:
    """Log when the machine stalled the runner, and when the server was slow to commit."""

    def __init__(self, history: History, url: Callable[[], str]) -> None:
        self._history = history
        self._url = url
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch_machine, name="torture-machine", daemon=True)
        self._probing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._thread.start()
        self._probing = asyncio.create_task(self._watch_server())

    async def __aexit__(self, *_: object) -> None:
        self._stopped.set()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await asyncio.to_thread(self._thread.join)

    def _watch_machine(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(0.1):
            now = time.monotonic()
            if now - last > STALL_SECONDS:
                self._history.write(Stall(seconds=now - last, of="machine"))
            last = now

    async def _watch_server(self) -> None:
        connection: asyncpg.Connection[Any] | None = None
        try:
            while True:
                began = time.monotonic()
                try:
                    if connection is None:
                        connection = await asyncpg.connect(self._url(), timeout=5)
                    # It writes: the commit waits for the disk, as that of a renewal does.
                    await connection.execute("SELECT pg_logical_emit_message(true, 'rowlock-torture', '')", timeout=30)
                except _LOST:
                    if connection is not None:
                        connection.terminate()
                    connection = None
                if (took := time.monotonic() - began) > STALL_SECONDS:
                    self._history.write(Stall(seconds=took, of="server"))
                await asyncio.sleep(LOOK_EVERY)
        finally:
            if connection is not None:
                with suppress(*_LOST):
                    connection.terminate()
