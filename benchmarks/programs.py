"""Driver programs, from outside: starts them, reads what they print, ends them."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from benchmarks.rivals.system import System

READY_SECONDS = 60
END_SECONDS = 60
LATE_SECONDS = 30.0
REPORT_SECONDS = 0.01
LINE_BYTES = 64 * 1024 * 1024


class Failed(Exception):
    """A driver program failed; the message holds the end of what it complained."""


async def command(system: System, name: str, url: str, **options: object) -> dict[str, Any]:
    """Run one command of a system's driver, and return its result."""
    program = await _start(system, name, url, system.settings_for("noop"), options)
    printed, complaints = await program.communicate()
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith(b"{")]
    if program.returncode or not lines or "result" not in lines[-1]:
        raise Failed(f"{system.name}: `{name}` ended with {program.returncode}: {complaints.decode()[-1500:]}")
    result: dict[str, Any] = lines[-1]["result"]
    return result


class Worker:
    """A running worker process: how many jobs it has handled by now, and when."""

    def __init__(self, system: System, process: Process) -> None:
        self._system = system
        self._process = process
        self.pid = process.pid
        self.handled = 0
        self.first = 0
        self.progress: list[tuple[int, int]] = []
        self.result: dict[str, Any] = {}
        self._loaded = asyncio.Event()
        self._ready = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._complaints = asyncio.create_task(self._complain())

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.returncode is not None

    async def loaded(self) -> None:
        """Wait until the program has imported everything."""
        await self._said(self._loaded)

    def go(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    async def ready(self) -> None:
        """Wait until the worker says that it runs."""
        await self._said(self._ready)

    async def _said(self, event: asyncio.Event) -> None:
        waits = asyncio.create_task(event.wait())
        await asyncio.wait({waits, self._reader}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not event.is_set():
            waits.cancel()
            raise Failed(f"{self._system.name}: no worker started: {await self.complaints()}")

    async def all_handled(self, jobs: int) -> None:
        """Wait until it has handled so many. Raises `Failed` if it takes too long."""
        for _ in range(int(LATE_SECONDS * 100)):
            if self.handled >= jobs:
                return
            await asyncio.sleep(0.01)
        raise Failed(f"{self._system.name}: after {LATE_SECONDS} s only {self.handled} of {jobs} jobs were handled")

    async def stop(self) -> None:
        """Ask it to end, by closing its standard input, and wait for what it prints at last."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            self.kill()
            raise Failed(f"{self._system.name}: a worker did not end: {await self.complaints()}") from None
        await self._reader

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if not self.has_ended:
            self._process.kill()

    async def complaints(self) -> str:
        """The end of what it wrote to standard error, once it is gone."""
        self.kill()
        return (await self._complaints)[-1500:]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if not line.startswith(b"{"):
                continue
            said = json.loads(line)
            if "loaded" in said:
                self._loaded.set()
            elif "ready" in said:
                self._ready.set()
            elif "handled" in said:
                self.handled, self.first = said["handled"], said["first"]
                self.progress.append((said["at"], said["handled"]))
            elif "result" in said:
                self.result = said["result"]

    async def _complain(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode(errors="replace")


@asynccontextmanager
async def workers(
    system: System, count: int, url: str, mode: str = "noop", *, size: int = 100, report: float = REPORT_SECONDS
) -> AsyncIterator[list[Worker]]:
    """Run that many worker processes for the time of the block. They are stopped inside it, or killed after it.

    They look every `report` seconds whether they have something to report.
    """
    async with AsyncExitStack() as stack:
        running = []
        for _ in range(count):
            process = await _start(
                system, "work", url, system.settings_for(mode, size), {"mode": mode, "report": report}
            )
            running.append(Worker(system, process))
            stack.callback(running[-1].kill)
        for worker in running:
            await worker.loaded()
        for worker in running:
            worker.go()
        for worker in running:
            await worker.ready()
        yield running


async def _start(
    system: System, name: str, url: str, settings: Mapping[str, Any], options: Mapping[str, object]
) -> Process:
    return await asyncio.create_subprocess_exec(
        *system.environment.command(system.driver),
        name,
        json.dumps({"url": url, "settings": settings, **options}),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=system.environment.folder(),
        env={**os.environ, "PYTHONPATH": ""},
        limit=LINE_BYTES,
    )
