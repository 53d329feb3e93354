"""A count that other processes keep, in a file in memory: for systems whose workers are programs of their own."""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.rivals.drivers.protocol import Tally

SLOTS = 64
SLOT = struct.Struct("qq")
"""A process's count, and when its first job began: each process that handles jobs writes a slot of its own."""
FILE = "BENCHMARK_TALLY"
LOOK_SECONDS = 0.005

_mapped: dict[int, Any] = {}


def count(slot: int) -> None:
    """One more job was handled by the process that owns this slot."""
    shared = _mapped.get(os.getpid())
    if shared is None:
        with Path(os.environ[FILE]).open("r+b") as file:
            shared = _mapped[os.getpid()] = mmap.mmap(file.fileno(), 0)
    place = slot * SLOT.size
    handled, first = SLOT.unpack_from(shared, place)
    SLOT.pack_into(shared, place, handled + 1, first or time.monotonic_ns())


async def follow(
    start: Callable[[Mapping[str, str]], Awaitable[asyncio.subprocess.Process]],
    tally: Tally,
    ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Start the program, in an environment that names the file, and tell what it counts until told to stop."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(SLOT.size * SLOTS)
        shared = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        process = await start({**os.environ, FILE: file.name})
        ready()
        while not stop.is_set():
            slots = list(SLOT.iter_unpack(shared[:]))
            tally.handled = sum(handled for handled, _ in slots)
            tally.first = min((first for _, first in slots if first), default=0)
            await asyncio.sleep(LOOK_SECONDS)
        process.terminate()
        await process.wait()
