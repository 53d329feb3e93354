"""What processes run in the tests: functions of a module that they can import by its name."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import structlog

from rowlock import Cancel, Fail, Job, Lifespan, Retry, Snooze


@dataclass
class Order:
    number: int
    due: date


class OutOfStockError(LookupError):
    pass


def where(order: Order) -> tuple[int, str, date]:
    assert threading.current_thread() is threading.main_thread()
    return os.getpid(), type(order).__name__, order.due


def add(a: int, b: int) -> int:
    return a + b


def pid() -> int:
    return os.getpid()


def look(job: Job, *, word: str) -> list[str]:
    return [str(job.id), job.task, job.state, str(job.attempt), job.args["word"], str(job.created_at.utcoffset()), word]


def sell(item: str) -> None:
    raise OutOfStockError(f"no {item} left")


def decide(job: Job, what: str) -> object:
    match what:
        case "retry" if job.attempt == 1:
            raise Retry(0, reason="busy")
        case "snooze" if job.attempt == 1:
            return Snooze(0)
        case "cancel":
            raise Cancel("no need")
        case "fail":
            return Fail("hopeless")
    return job.attempt


def leave(how: str) -> None:
    match how:
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "oom":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fork":  # a process that outlives this one, and has all of its files
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
            os._exit(4)
        case "system_exit":
            sys.exit("enough")


def fork(how: str) -> list[int]:
    """Fork; this process's id, and the exit code of the child, which returns to whoever called this, or raises."""
    pid = os.fork()
    if pid == 0:
        if how == "raises":
            raise LookupError("raised in the fork")
        if how == "exits":
            sys.exit(7)
        return []
    return [os.getpid(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


async def _fork_later(how: str) -> list[int]:
    await asyncio.sleep(0)
    return fork(how)


def fork_in_coroutine(how: str) -> object:
    return _fork_later(how)


def end_child(number: int) -> int | None:
    """Start a process that waits for ever, and send it the signal; its exit code."""
    child = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
    child.start()
    assert child.pid is not None
    os.kill(child.pid, number)
    child.join(20)
    return child.exitcode


def pid_with_a_thread_for_ever() -> int:
    threading.Thread(target=threading.Event().wait).start()
    return os.getpid()


def wait_for(file: str, until: str) -> str:
    """Write this process's id into one file, and wait until there is the other."""
    Path(file).write_text(f"{os.getpid()}\n")
    while not Path(until).exists():
        time.sleep(0.005)
    return "done"


def note(job: Job, file: str, number: int) -> int:
    """Write the number into the file, and return which attempt this is."""
    with Path(file).open("a") as noted:
        noted.write(f"{number}\n")
    return job.attempt


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids_in(file: Path) -> list[int]:
    """The process ids that `hang` or `wait_for` has written, once they are there."""
    text = file.read_text() if file.exists() else ""
    return [int(word) for word in text.split()] if text.endswith("\n") else []


def hang(file: str, how: str = "python") -> None:
    """Write this process's id into the file, then that of one that it has started, and never end."""
    helper = subprocess.Popen(["sleep", "600"])
    Path(file).write_text(f"{os.getpid()} {helper.pid}\n")
    if how == "regex":  # holds Python's lock
        re.match("(a+)+b", "a" * 60)
    while True:
        pass


def start_helper(file: str, how: str) -> int:
    """Write down the id of a process that it has started and leaves running; then return, or end this process."""
    helper = subprocess.Popen(["sleep", "600"])
    Path(file).write_text(f"{helper.pid}\n")
    if how == "exit":
        os._exit(3)
    return helper.pid


def allocate(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


def nothing_to_read() -> str:
    return sys.stdin.read()


def unstorable() -> object:
    return float("nan")


def log_and_print(word: str) -> None:
    sys.stdout.write(f"printed {word}\n")
    structlog.get_logger("tests").info("task_logged", word=word)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Bare(BaseException):
    """Derived from the root."""


class Pretender(Exception):
    """Says that it is something else."""

    __class__ = property(lambda _: 1 / 0)


def deep() -> None:
    deep()


def throw(what: str) -> object:
    match what:
        case "NUL":
            raise ValueError("a\0b")
        case "surrogate":
            raise ValueError("a\ud800b")
        case "no text":
            raise UnspeakableError
        case "long text":
            raise ValueError("x" * 5_000_000)
        case "bare":
            raise Bare("bare")
        case "deep":
            deep()
        case "NUL result":
            return "a\0b"
        case "surrogate result":
            return "a\ud800b"
    raise Pretender


async def _sum_later(a: int, b: int) -> int:
    return a + b


def wrapped_sum(a: int, b: int) -> object:
    return _sum_later(a, b)


@Lifespan
def model() -> Iterator[int]:
    yield 10


@Lifespan
async def client() -> AsyncIterator[str]:
    yield f"asked, on {id(asyncio.get_running_loop())}"


@Lifespan
def broken() -> Iterator[None]:
    if "pytest" not in sys.modules:  # in a process of its own
        raise LookupError("no weights")
    yield


def predicted(number: int) -> int:
    return number * model.value


async def _asked(times: int) -> bool:
    return client.value == f"asked, on {id(asyncio.get_running_loop())}" and times > 0


def asked(times: int) -> Awaitable[bool]:
    return _asked(times)
