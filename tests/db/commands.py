"""Commands as the tests of the command line run them: the real executable, or forked with all of it imported."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryFile, mkdtemp

ROWLOCK = Path(sys.executable).with_name("rowlock")
SECONDS = 90.0
"""For what never comes, not for what is slow: longer than a server has to come up, shorter than a test may last."""
TASKS = """
import asyncio
import multiprocessing
import os
import sys
import threading

from rowlock import Rowlock

app = Rowlock()


@app.task(queue="greetings")
async def hello(name: str) -> str:
    return f"Hello, {name}"


@app.task(max_attempts=1)
async def fail(text: str) -> None:
    raise ValueError(text)


@app.task
def end_child() -> int | None:
    child = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
    child.start()
    child.terminate()
    child.join(20)
    return child.exitcode


@app.task
def fork() -> int | None:
    child = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else None


@app.task
def stick() -> None:
    print("stuck", file=sys.stderr, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    asyncio.run(app.worker().run(on_started=lambda: print("worker_started", file=sys.stderr, flush=True)))
"""


_servers: list[Popen[str]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@asynccontextmanager
async def started(
    *arguments: str, url: str | None, cwd: Path, program: Path | str = ROWLOCK, **environ: str
) -> AsyncIterator[Process]:
    """A running command, which is killed if the test does not see its end."""
    env = os.environ | environ | ({} if url is None else {"ROWLOCK_DATABASE_URL": url})
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=cwd, env=env
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def rowlock(*arguments: str, url: str | None, cwd: Path = Path("/"), stdin: str = "", **environ: str) -> Done:
    """A command, run to its end; by default from a folder that has nothing to do with it."""
    env = os.environ | environ | ({} if url is None else {"ROWLOCK_DATABASE_URL": url})
    with ExitStack() as opened:
        connection = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        files = [opened.enter_context(TemporaryFile()) for _ in range(3)]
        files[0].write(stdin.encode())
        files[0].seek(0)
        await asyncio.to_thread(connection.connect, _forking())
        asked = json.dumps({"arguments": arguments, "folder": str(cwd), "environ": env})
        socket.send_fds(connection, [asked.encode()], [file.fileno() for file in files])
        process = int(await asyncio.to_thread(connection.recv, 100))
        try:
            code = int(await asyncio.wait_for(asyncio.to_thread(connection.recv, 100), SECONDS))
        except BaseException:
            os.kill(process, signal.SIGKILL)
            raise
        for file in files:
            file.seek(0)
        return Done(code=code, out=files[1].read().decode(), err=files[2].read().decode())


@cache
def _forking() -> str:
    """The socket of the process that forks the commands, started at the first one; it ends with this process."""
    path = str(Path(mkdtemp(), "socket"))
    command = [sys.executable, "-m", "tests.db.forked", path]
    server = Popen(command, cwd=Path(__file__).parents[2], stdin=PIPE, stdout=PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    _servers.append(server)
    return path


async def line_with(stream: asyncio.StreamReader | None, text: str) -> str:
    """The next line that holds the text."""
    assert stream is not None
    others = ""
    try:
        async with asyncio.timeout(SECONDS):
            async for line in stream:
                if text in line.decode():
                    return line.decode()
                others += line.decode()
    except TimeoutError:
        raise AssertionError(f"the process has not said {text!r} for {SECONDS} s, but:\n{others}") from None
    raise AssertionError(f"the process ended without saying {text!r}, but:\n{others}")


async def stopped(process: Process, by: signal.Signals = signal.SIGTERM) -> int:
    """The exit code, after the signal."""
    process.send_signal(by)
    await asyncio.wait_for(process.communicate(), SECONDS)
    return await process.wait()


def assert_refused(done: Done, said: str, code: int = 2) -> None:
    """It printed one line, on standard error."""
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("rowlock: ")
    assert done.err.count("\n") == 1, "one line"
    assert said in done.err


def with_tasks(folder: Path) -> Path:
    """The folder, with an application in it: `tasks:app`."""
    (folder / "tasks.py").write_text(TASKS)
    return folder
