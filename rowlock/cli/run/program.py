"""A program that a command starts beside itself, in a session of its own: the command forwards a terminal's Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from rowlock.errors import ConfigurationError
from rowlock.words import quoted

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence

PATIENCE: Final = 3.0
"""Seconds for a program to stop after the first signal; then it receives another one."""
LAST_PATIENCE: Final = 10.0
"""Seconds after the second signal; then it is killed."""


class Program:
    """A running program. `await Program.start(command)`; `await program.stop()`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """Start it, with this process's environment. Raises `ConfigurationError` if it cannot be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{quoted(command[0])} cannot be started: {error}. Check its name and PATH."
            ) from error
        return cls(process)

    @property
    def pid(self) -> int:
        """The id of the process, and of the session of everything that it starts."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Its exit code, or the negative number of the signal that ended it, once it has ended."""
        return await self._process.wait()

    async def stop(self, by: signal.Signals = signal.SIGINT) -> None:
        """Signal it to stop, signal again if that takes long, and finally kill its group. Safe to repeat."""
        for number, seconds in ((by, PATIENCE), (by, LAST_PATIENCE), (signal.SIGKILL, None)):
            if self._process.returncode is not None:
                return
            with suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(self._process.pid, number)
                else:
                    self._process.send_signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), seconds)


__all__ = ["Program"]
