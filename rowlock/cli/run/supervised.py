"""A worker process's side of the socket to its supervisor (`supervisor.py`): the process's file descriptor 0."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress

from rowlock import logs
from rowlock.cli.run.supervisor import OVER, PATIENCE

log = logs.get_logger("rowlock.cli")


class Tie:
    """The process's end of the socket. A thread watches it: without the supervisor the process stops, even if its loop
    is busy.
    """

    def __init__(self) -> None:
        self._patience = PATIENCE
        self._socket = socket.socket(fileno=os.dup(0))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # handlers, and their child processes, must not inherit it
        os.close(nothing)
        threading.Thread(target=self._watch, name="rowlock-supervisor", daemon=True).start()

    def say_works(self, patience: float) -> None:
        """Report to the supervisor that this process works, and how many seconds it may take to stop."""
        self._patience = patience
        with suppress(OSError):
            self._socket.sendall(f"{patience:.1f}\n".encode())

    def say_over(self) -> None:
        """Report to the supervisor that an operator stopped this worker: it must not be replaced."""
        with suppress(OSError):
            self._socket.sendall(f"{OVER}\n".encode())

    def _watch(self) -> None:
        with suppress(OSError):
            self._socket.recv(1)  # the supervisor never sends: recv returns when it closes its end
        log.warning("supervisor_is_gone", what="this process stops")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._patience)
        os.kill(os.getpid(), signal.SIGKILL)


__all__ = ["Tie"]
