"""Commands that are forked from a process which has imported all of them: what they import is half of their time.

`python -m tests.db.forked SOCKET` answers each connection by one command: a message with its arguments, folder and
environment as JSON and its three files comes in, the exit code goes out. A command is a process of its own, as ever.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from importlib import import_module

_LONGEST = 4_000_000


def main(path: str) -> None:
    """Serve until the process that started this one is gone: it holds the other end of standard input."""
    import asyncpg  # noqa: F401  # with what follows, what a command loads

    from rowlock.cli import root

    for name in root.COMMANDS:
        import_module(f"rowlock.cli.commands.{name.replace('-', '_')}")
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(path)
    server.listen(64)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while server in select.select([server, sys.stdin], [], [])[0]:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, files, _, _ = socket.recv_fds(connection, _LONGEST, 3)
    if (command := os.fork()) == 0:
        connection.close()
        _run(json.loads(text), files)
    for file in files:
        os.close(file)
    connection.send(str(command).encode())
    _, status = os.waitpid(command, 0)
    connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(asked: dict[str, object], files: list[int]) -> None:
    """Become the command."""
    from rowlock.cli import main as command

    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["environ"])  # type: ignore[call-overload]
    os.chdir(str(asked["folder"]))
    sys.argv[:] = ["rowlock", *asked["arguments"]]  # type: ignore[misc]
    code = 0
    try:
        command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  # what the interpreter does
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
