"""`rowlock worker --processes`: keep a number of worker processes running, and stop them all on a signal.

The supervisor does not connect to the database or load the application: each process does. A socket connects each
process to the supervisor, as the process's file descriptor 0 (`supervised.py` is the other side): the process reports
on it that it works, and ends when the socket closes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rowlock import logs
from rowlock.cli.run import running
from rowlock.worker.executors.processes import how_ended

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logs.get_logger("rowlock.cli")

BOOT: Final = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from rowlock.cli import main; main()"
"""The code of a process: the command line, with the supervisor's path of modules."""

PLACE: Final = "ROWLOCK_PROCESS"
"""The environment variable with the number of a process, from 1 on."""
AT_ONCE: Final = 10.0
"""Seconds within which a process counts as having ended at once."""
MOST_AT_ONCE: Final = 5
"""When every process has ended at once so many times in a row, the supervisor gives up."""
PAUSE_FIRST: Final = 0.5
PAUSE_MOST: Final = 30.0
"""The pause before an ended process is replaced: it doubles each time the process ends at once."""
PATIENCE: Final = 60.0
"""Seconds that a process may take to stop, until it has reported its own limit."""


OVER: Final = "over"
"""The message of a process that an operator stopped, and that must not be replaced."""
CLOSED: Final = 1.0
"""Seconds within which the socket of an ended process must close."""


def command_of(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs `rowlock <arguments>` with this Python and its path of modules."""
    return [sys.executable, "-c", BOOT, json.dumps(sys.path), *arguments]


class Supervisor:
    """Processes that run the same command. `await supervisor.run()`, in the main thread, returns the exit code.

    The first process starts alone. If it ends before it works, the supervisor ends with its exit code, so that an error
    of the application or the database is reported once. Later, every ended process is replaced, except those that an
    operator stopped. When an operator has stopped all, the supervisor ends with 0.
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = command
        self._count = count
        self._code = 0
        self._patience = PATIENCE
        self._works = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._over: set[int] = set()
        self._ended_at_once = dict.fromkeys(range(1, count + 1), 0)

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; a second signal releases running jobs at once."""
        signals = running.StopSignals()
        asked = asyncio.create_task(signals.asked.wait())
        works = asyncio.create_task(self._works.wait())
        keepers = {asyncio.create_task(self._keep(1))}
        await asyncio.wait({asked, works, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        if works.done() and not asked.done():
            keepers |= {asyncio.create_task(self._keep(number)) for number in range(2, self._count + 1)}
            await asyncio.wait({asked, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        await self._stop(keepers, signals)
        for task in (asked, works):
            task.cancel()
        for keeper in keepers:
            keeper.result()  # an exception here is a defect: raise it
        return self._code

    async def _keep(self, number: int) -> None:
        """Start a process, and replace it when it ends; return when it must not be replaced."""
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            code = await self._run_one(number)
            lived = asyncio.get_running_loop().time() - began
            if self._stopping.is_set():
                self._code = self._code or int(code not in {0, -signal.SIGTERM})
                return
            if number in self._over:
                log.info("worker_process_stopped", number=number, why="an operator stopped its worker")
                if len(self._over) < self._count:
                    await self._stopping.wait()
                return
            what = {"number": number, "how": how_ended(code), "after": round(lived, 1)}
            if not self._works.is_set():
                self._code = max(code, 1)
                log.error("worker_process_did_not_start", **what)
                return
            self._ended_at_once[number] = self._ended_at_once[number] + 1 if lived < AT_ONCE else 0
            if min(self._ended_at_once.values()) >= MOST_AT_ONCE:
                self._code = 1
                log.error("worker_processes_end_at_once", **what)
                return
            pause = _pause(self._ended_at_once[number])
            log.warning("worker_process_ended", **what, restart_in=round(pause, 1))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run_one(self, number: int) -> int:
        """Run a process to its end; return its exit code, or the negative number of the signal that ended it."""
        ours, its = socket.socketpair()
        with ours:
            ours.settimeout(0)
            with its:
                try:
                    # In a group of its own, so that a terminal's Ctrl-C arrives once: from here.
                    process = await asyncio.create_subprocess_exec(
                        *self._command,
                        stdin=its.fileno(),
                        process_group=0,
                        env=os.environ | {PLACE: str(number)},
                    )
                except OSError as error:
                    log.warning("worker_process_not_started", number=number, error=str(error))
                    return 1
            log.info("worker_process_started", number=number, pid=process.pid)
            self._running[number] = process
            if self._stopping.is_set():
                process.terminate()
            listening = asyncio.create_task(self._listen(number, ours))
            try:
                code = await process.wait()
                await asyncio.wait({listening}, timeout=CLOSED)  # for its last message
                return code
            finally:
                del self._running[number]
                listening.cancel()
                await asyncio.wait({listening})

    async def _listen(self, number: int, tie: socket.socket) -> None:
        """Receive a process's reports: that it works, how long a stop may take, or that an operator stopped it."""
        heard = b""
        with suppress(OSError):
            while told := await asyncio.get_running_loop().sock_recv(tie, 64):
                *lines, heard = (heard + told).split(b"\n")
                for line in map(bytes.decode, lines):
                    if line == OVER:
                        self._over.add(number)
                    else:
                        self._patience = float(line)
                        self._works.set()

    async def _stop(self, keepers: set[asyncio.Task[None]], signals: running.StopSignals) -> None:
        """Stop every process, at once after a second signal; kill those that exceed their reported limit."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        log.info("worker_processes_stopping", running=len(self._running))
        loop = asyncio.get_running_loop()
        until, was_urgent = loop.time() + self._patience, False
        while pending := {keeper for keeper in keepers if not keeper.done()}:
            if signals.is_urgent and not was_urgent:
                was_urgent = True
                self._signal(signal.SIGINT)
            if loop.time() > until:
                log.error("worker_processes_killed", running=len(self._running), after=round(self._patience, 1))
                self._signal(signal.SIGKILL)
            await asyncio.wait(pending, timeout=0.1)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)


def _pause(times: int) -> float:
    return min(PAUSE_FIRST * 2.0 ** max(times - 1, 0), PAUSE_MOST) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter


__all__ = ["PLACE", "Supervisor", "command_of"]
