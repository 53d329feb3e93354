"""Processes for tasks that compute: started when needed, recycled, limited in memory, killed at their time limit.

Each process has a socket of its own. A process that dies fails the attempt that it ran and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Self

from rowlock import logs
from rowlock.errors import InvalidOption, ProcessEnded, RemoteError
from rowlock.queue.enqueue.task import Task
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.lifecycle import Cancel, Directive, Fail, Retry, Snooze
from rowlock.worker.executors.messages import (
    HEAD,
    Answer,
    Call,
    Decided,
    Order,
    Raised,
    Returned,
    SetUp,
    packed,
    read_answer,
)
from rowlock.worker.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from asyncpg import Record

    from rowlock.queue.tasks.lifespan import Lifespan

log = logs.get_logger("rowlock.worker")

BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); import rowlock.worker.executors.child as c; c.main()"
)
START_SECONDS: Final = 60.0
"""How long a new process may take to import the tasks."""
EXIT_SECONDS: Final = 1.0
"""How long an idle process may take to end by itself."""
END_SECONDS: Final = 5.0
"""How long the kernel may take to end a killed process."""
_DELAYED: Final[dict[str, type[Retry | Snooze]]] = {"Retry": Retry, "Snooze": Snooze}
_FINAL: Final[dict[str, type[Cancel | Fail]]] = {"Cancel": Cancel, "Fail": Fail}


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Process:
    """One process, from its start to its end. It runs one job at a time."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.jobs = 0
        self._orders = 0
        self._process = process
        self._reader = reader
        self._writer = writer
        self.exit = asyncio.create_task(process.wait())
        self.exit.add_done_callback(lambda _: self._end_group())

    @classmethod
    async def start(cls, set_up: SetUp) -> Self:
        """Start a process, and wait until it has imported the tasks. Raises `ProcessEnded`."""
        ours, its = socket.socketpair()
        with its, ExitStack() as unless_started:
            unless_started.enter_context(ours)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                BOOT,
                json.dumps(sys.path),
                stdin=its.fileno(),
                start_new_session=True,  # so that killing its group also kills processes that a task started
            )
            unless_started.pop_all()
        reader, writer = await asyncio.open_connection(sock=ours)
        started = cls(process, reader, writer)
        try:
            async with asyncio.timeout(START_SECONDS):
                await started.ask(set_up)
        except TimeoutError:
            await started.kill()
            raise ProcessEnded(f"The process of the task was not ready within {START_SECONDS:g} s.") from None
        except BaseException:
            await started.kill()
            raise
        return started

    async def ask(self, order: Order) -> Answer:
        """Send an order, and wait for its first answer. Raises `ProcessEnded` if the process ends before."""
        self._orders += 1
        with suppress(ConnectionError):  # the process has ended: `answer` raises that
            self._writer.write(packed(order, self._orders))
            await self._writer.drain()
        return await self.answer()

    async def answer(self) -> Answer:
        """Wait for the next answer to the last order.

        Raises `ProcessEnded` if the process ends before, or answers another order.
        """
        answer = asyncio.ensure_future(self._read())
        try:
            # The end of the process closes the socket, unless a process that it started keeps the socket open.
            await asyncio.wait({answer, self.exit}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done() and (said := answer.result()) is not None:
                return said
        finally:
            answer.cancel()
        await asyncio.wait({self.exit}, timeout=END_SECONDS)
        raise ProcessEnded(  # seam: process ended
            f"The process of the task ended {how_ended(self._process.returncode)} before the task was done."
        )

    async def _read(self) -> Answer | None:
        try:
            length, number = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            text = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        if number != self._orders:
            raise ProcessEnded("The process of the task sent an answer that was not this job's, and was killed.")
        return read_answer(text)

    async def kill(self) -> None:
        """Kill the process and all that it started, and wait until it has ended."""
        if not self.exit.done():
            self._end_group()
        self._writer.close()
        await asyncio.wait({self.exit}, timeout=END_SECONDS)

    def _end_group(self) -> None:
        """Kill its process group: also processes that it left behind when it ended by itself."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def retire(self) -> None:
        """Let the idle process end by itself; kill it after `EXIT_SECONDS`."""
        self._writer.close()
        await asyncio.wait({self.exit}, timeout=EXIT_SECONDS)
        await self.kill()


class Processes:
    """The processes that the process tasks of one worker share: at most `most`, as many as calls come at once."""

    def __init__(self, most: int, *, max_jobs: int, memory_limit: int, max_result_bytes: int) -> None:
        self.most: Final = most
        self._max_jobs = max_jobs
        self._memory_limit = memory_limit
        self._max_result_bytes = max_result_bytes
        self._modules: list[str] = []
        self._lifespans: list[tuple[str, str]] = []
        self._idle: list[Process] = []
        self._retiring: list[asyncio.Task[None]] = []
        self._all: set[Process] = set()

    def expect(self, tasks: Iterable[Task[..., Any]], lifespans: Iterable[Lifespan[Any]] = ()) -> None:
        """Set the tasks that processes import, and the lifespans that each process opens for them.

        Raises `InvalidOption` for a task or a lifespan that a process could not import by its name.
        """
        chosen = [task for task in tasks if task.executor == "process"]
        for task in chosen:
            _check_importable(task, f"Task {task.name!r}: executor 'process' imports the function by its name")
        self._modules = sorted({task.__module__ for task in chosen})
        self._lifespans = [lifespan.place for lifespan in lifespans] if chosen else []
        for lifespan in lifespans if chosen else ():
            _check_importable(lifespan, f"{lifespan!r}: processes of tasks import it by its name")

    async def call(self, task: Task[..., Any], claimed: Record, begin: Callable[[], timedelta | None]) -> str | None:
        """Run the job in a process, and return its result as JSON text.

        `begin` is called once a process is ready for the job, and returns the time limit, or raises. The time counts
        from when the process begins the job. At the limit, or when this call is cancelled, the process is killed.
        Raises the task's directive, `RemoteError` for an error of the task, `ProcessEnded` or `AttemptTimeout`.
        """
        order = Call(task.name, task.__module__, task.function.__qualname__, claimed["args"], _row(claimed))
        process, limit = await self._begin(order, begin)
        try:
            outcome = process.answer()
            answer = await outcome if limit is None else await within(limit, outcome)
        except BaseException:
            await process.kill()
            raise
        self._put_back(process, is_spent=isinstance(answer, Raised) and "builtins.MemoryError" in answer.kinds)
        return _understood(answer)

    async def close(self) -> None:
        """End all processes: let the idle ones exit by themselves, with Python's steps at exit, and kill the rest."""
        await asyncio.gather(*(process.retire() for process in self._idle), *self._retiring)
        await asyncio.gather(*(process.kill() for process in tuple(self._all)))

    async def _begin(self, order: Call, begin: Callable[[], timedelta | None]) -> tuple[Process, timedelta | None]:
        """Let a process begin the job. Replace a process that ended while it was idle."""
        while True:
            process = self._idle.pop() if self._idle else await self._start()
            try:
                limit = begin()
            except BaseException:
                self._idle.append(process)
                raise
            try:
                await process.ask(order)
            except BaseException as error:
                had_ended = process.exit.done()
                await process.kill()
                if isinstance(error, ProcessEnded) and process.jobs and had_ended:
                    continue
                raise
            return process, limit

    async def _start(self) -> Process:
        """Start a process, after one that retires has ended, so that there are never more than `most`."""
        if self._retiring:
            ending = self._retiring.pop()
            try:
                await asyncio.wait({ending})
            except BaseException:
                self._retiring.append(ending)
                raise
        process = await Process.start(SetUp(self._modules, self._lifespans, self._memory_limit, self._max_result_bytes))
        self._all.add(process)
        process.exit.add_done_callback(lambda _: self._all.discard(process))
        return process

    def _put_back(self, process: Process, *, is_spent: bool) -> None:
        process.jobs += 1
        if is_spent or process.jobs >= self._max_jobs:
            self._retiring.append(asyncio.create_task(process.retire()))
        else:
            self._idle.append(process)


def _understood(answer: Answer) -> str | None:
    match answer:
        case Returned(result=result):
            return result
        case Decided():
            raise _directive(answer) from (None if answer.cause is None else _remote(answer.cause))
        case Raised():
            raise _remote(answer)
        case _:
            raise AssertionError(f"a process answered a job with {type(answer).__name__}")


def _remote(raised: Raised) -> RemoteError:
    return RemoteError(raised.error_type, raised.message, raised.traceback, frozenset(raised.kinds))


def _directive(answer: Decided) -> Directive:
    if (delayed := _DELAYED.get(answer.directive)) is not None:
        return delayed(answer.delay or 0, reason=answer.reason)
    return _FINAL[answer.directive](answer.reason)


def _row(claimed: Record) -> dict[str, Any]:
    job = Job.from_row({**claimed, "state": "running"})
    names = (name for name in job.__struct_fields__ if name != "args_json" and not name.startswith("_"))
    return {name: getattr(job, name) for name in names}


def _check_importable(made: Task[..., Any] | Lifespan[Any], why: str) -> None:
    module, name = made.__module__, made.function.__qualname__
    remedy = "Move it to the top level of a module that can be imported."
    if module == "__main__":
        raise InvalidOption(f"{why}, but {name} is in the main program, which cannot be imported. {remedy}")
    try:
        found = attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        found = None
    is_its_function = isinstance(made, Task) and found is made.function  # the undecorated function suffices
    if not is_its_function and getattr(found, "function", None) is not made.function:
        raise InvalidOption(f"{why}, but {module}.{name} is missing or another object. {remedy}")


def how_ended(returncode: int | None) -> str:
    """The end of a process in words, by the return code of `subprocess`."""
    if returncode is None:
        return "in an unknown way"
    if returncode >= 0:
        return f"with exit code {returncode}"
    try:
        return f"by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"by signal {-returncode}"


__all__ = ["Process", "Processes", "cpus", "how_ended"]
