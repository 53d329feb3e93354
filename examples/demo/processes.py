"""The processes of the demonstration: started in the repository's folder, and stopped whatever happens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = "examples.article.tasks:app"
_STOP_SECONDS = 2


class ProcessEnded(Exception):
    """One of the processes ended before the demonstration did; its output is the message."""


class Program:
    """One `rowlock …` process, with its output in a file."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def check(self) -> None:
        """Raise `ProcessEnded` if the process is gone."""
        if self._process.poll() is not None:
            end = "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])
            raise ProcessEnded(f"{self.name} ended with status {self._process.returncode}:\n{end}")

    def stop(self) -> None:
        """Stop the process as a supervisor does: SIGTERM, again if it lets a job finish, and SIGKILL at last."""
        for signal_process in (self._process.terminate, self._process.terminate, self._process.kill):
            if self._process.poll() is None:
                signal_process()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)


@contextmanager
def run(name: str, arguments: list[str], *, database_url: str, folder: Path) -> Iterator[Program]:
    """Run `rowlock <arguments>` for the time of the block."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("rowlock"), *arguments],
            cwd=ROOT,
            env=os.environ | {"ROWLOCK_DATABASE_URL": database_url},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # the terminal's Ctrl-C is for the demonstration, which then stops this one
        )
    program = Program(name, process, log)
    try:
        yield program
    finally:
        program.stop()


def free_port() -> int:
    """A TCP port that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
