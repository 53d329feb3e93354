"""What ties a worker process to its supervisor (`supervisor.py`): a socket, the file 0 of the process."""

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
    """This process's end. A thread watches it: without its supervisor the process stops, however busy its loop is."""

    def __init__(self) -> None:
        self._patience = PATIENCE
        self._socket = socket.socket(fileno=os.dup(0))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # handlers, and what they start, have nothing to do with it
        os.close(nothing)
        threading.Thread(target=self._watch, name="rowlock-supervisor", daemon=True).start()

    def say_works(self, patience: float) -> None:
        """Tell the supervisor that this process works, and that it may take so many seconds to stop."""
        self._patience = patience
        with suppress(OSError):
            self._socket.sendall(f"{patience:.1f}\n".encode())

    def say_over(self) -> None:
        """Tell the supervisor that an operator has stopped this worker: it is not to be replaced."""
        with suppress(OSError):
            self._socket.sendall(f"{OVER}\n".encode())

    def _watch(self) -> None:
        with suppress(OSError):
            self._socket.recv(1)  # nothing is ever sent: it returns when the other end is closed
        log.warning("supervisor_is_gone", what="this process stops")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._patience)
        os.kill(os.getpid(), signal.SIGKILL)


__all__ = ["Tie"]
