"""A command in a terminal of its own: what it shows, what is typed, and how it leaves the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import struct
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.db.commands import ROWLOCK
from tests.waiting import eventually

_IN_A_SESSION = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
HOME = "\x1b[H"
_STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """The other end of it."""

    process: Process
    number: int
    width: int
    height: int
    keyboard: int
    printed: str = ""
    raw: bytes = field(default=b"")

    def read(self) -> None:
        """Take what the command has written."""
        with contextlib.suppress(OSError):  # it has ended
            self.raw += os.read(self.number, 65536)
        self.printed = self.raw.decode(errors="ignore")

    @property
    def frame(self) -> list[str]:
        """The lines of the last whole frame, without colours and blanks at the end."""
        frames = self.printed.split(HOME)
        last = frames[-1] if frames[-1].count("\n") >= self.height - 1 else frames[-2] if len(frames) > 1 else ""
        return [_STEERING.sub("", line).rstrip() for line in last.replace("\r", "").split("\n")]

    @property
    def lines(self) -> list[str]:
        """All that was printed, without colours."""
        return _STEERING.sub("", self.printed).replace("\r", "").splitlines()

    def type(self, keys: str) -> None:
        """Press the keys."""
        os.write(self.number, keys.encode())

    async def shows(self, text: str) -> str:
        """The whole frame, once it holds the text."""
        await eventually(lambda: any(text in line for line in self.frame), 30.0)
        return "\n".join(self.frame)

    def modes(self) -> list[Any]:
        """How the terminal is set."""
        return termios.tcgetattr(self.keyboard)


@asynccontextmanager
async def terminal(*arguments: str, url: str, width: int, height: int, **environ: str) -> AsyncIterator[Terminal]:
    """The command `rowlock` in a terminal of this size."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    env |= {"ROWLOCK_DATABASE_URL": url, "TERM": "xterm-256color"} | environ
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _IN_A_SESSION,
        str(ROWLOCK),
        *arguments,
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=Path("/"),
        env=env,
    )
    seen = Terminal(process, ours, width, height, its)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, seen.read)
    try:
        yield seen
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        loop.remove_reader(ours)
        os.close(ours)
        os.close(its)
