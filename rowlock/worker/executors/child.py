"""The main program of a process that runs tasks for a worker: it imports them by name, and ends with the worker.

The socket on file descriptor 0 is its only connection to the worker: jobs come in, outcomes go out. When the worker's
end closes, the worker is gone or does not need this process any more.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import inspect
import os
import queue
import resource
import signal
import socket
import sys
import threading
from contextlib import AsyncExitStack, suppress
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_type_hints

import msgspec

from rowlock import logs
from rowlock.queue.enqueue.task import Task, return_type
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.lifecycle import Directive
from rowlock.queue.jobs.results import checked_type, describe_error, encode_result
from rowlock.queue.tasks.arguments import Arguments
from rowlock.queue.tasks.backoff import qualified_name
from rowlock.worker.executors.forks import ending_here, keep_handler
from rowlock.worker.executors.messages import (
    HEAD,
    Answer,
    Call,
    Decided,
    Raised,
    Ready,
    Returned,
    SetUp,
    packed,
    read_order,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    _Found: TypeAlias = tuple[Callable[..., object], Arguments, object]
    """A task's function, its arguments, and the annotation that its results are checked against, if any."""

PR_SET_PDEATHSIG: Final = 1
"""Linux: the option of prctl(2) that sends a signal to this process when its parent ends."""


class Child:
    """The process's side of the socket. A thread reads it, so that the end of the worker also ends a busy process."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._orders: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._number = 0
        self._is_busy = self._is_over = False
        self._functions: dict[tuple[str, str], _Found] = {}
        self._set_up = SetUp([], [], 0, 0)
        self._runner = asyncio.Runner()
        self._opened = AsyncExitStack()
        self._defect: BaseException | None = None

    def run(self) -> None:
        """Execute orders one after the other, until the worker closes its end of the socket."""
        os.register_at_fork(after_in_child=self._cut)
        threading.Thread(target=self._read, name="rowlock-worker", daemon=True).start()
        with self._runner:
            self._run()
            self._runner.run(self._opened.aclose())

    def _run(self) -> None:
        while (received := self._orders.get()) is not None:
            self._number, text = received
            order = read_order(text)
            self._is_busy = True
            if self._is_over:
                return
            answer: Answer = Ready()
            if isinstance(order, SetUp):
                self._prepare(order)
            else:
                self._send(answer)
                answer = self._perform(order)
            self._is_busy = False  # before the answer, after which the worker may close the socket
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        self._wire.sendall(packed(answer, self._number))

    def _cut(self) -> None:
        """Close the socket in a process that a task forked: it could answer in the place of this process."""
        with suppress(OSError):  # it is closed
            os.close(self._wire.detach())

    def _read(self) -> None:
        with suppress(OSError), self._wire.makefile("rb") as stream:
            while head := stream.read(HEAD.size):
                length, number = HEAD.unpack(head)
                self._orders.put((number, stream.read(length)))
        self._is_over = True
        if self._is_busy:  # seam: busy child
            os.killpg(0, signal.SIGKILL)
        self._orders.put(None)

    def _prepare(self, order: SetUp) -> None:
        self._set_up = order
        if order.memory_limit and sys.platform == "linux":  # seam: memory limit
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (order.memory_limit, hard))
        for module in order.modules:
            with suppress(Exception):  # each job of this module raises it again
                importlib.import_module(module)
        try:
            for place in order.lifespans:
                self._runner.run(self._open(*place))
        except BaseException as error:  # noqa: BLE001  # each job of this process raises it
            self._defect = error

    async def _open(self, module: str, name: str) -> None:
        lifespan = attrgetter(name)(importlib.import_module(module))
        await self._opened.enter_async_context(lifespan.opened())

    def _perform(self, call: Call) -> Answer:
        logs.JOB.set(call.job)
        try:
            function, arguments, returns = self._find(call)
            job = None if arguments.job_parameter is None else _job(call)
            args, kwargs = arguments.bind(call.args, job)
            with ending_here():
                value = function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = self._runner.run(_awaited(value))
            if isinstance(value, Directive):
                return _decided(value)
            return Returned(encode_result(value, limit=self._set_up.max_result_bytes, type_=returns))
        except Directive as directive:
            return _decided(directive)
        except BaseException as error:  # noqa: BLE001  # the worker waits for an answer
            return self._raised(error)
        finally:
            logs.JOB.set(None)
            _flush()

    def _find(self, call: Call) -> _Found:
        place = call.module, call.function
        if self._defect is not None:
            raise self._defect
        if place not in self._functions:
            found = attrgetter(call.function)(importlib.import_module(call.module))
            function = found.function if isinstance(found, Task) else found
            arguments = Arguments(function, task=call.task, injected=Job)
            self._functions[place] = function, arguments, checked_type(return_type(function))
        return self._functions[place]

    def _raised(self, error: BaseException) -> Raised:
        limit = self._set_up.memory_limit
        if isinstance(error, MemoryError) and limit:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))  # reporting the error needs memory
            why = f"the task needs more than the {limit:,} bytes its process may use (ROWLOCK_PROCESS_MEMORY_LIMIT)"
            error.args = (why,)
        return _described(error)


async def _awaited(value: Awaitable[object]) -> object:
    """Await the value, and cancel the tasks that it leaves on the loop, as `asyncio.run` does."""
    before = asyncio.all_tasks()
    try:
        with ending_here():
            return await value
    finally:
        left = asyncio.all_tasks() - before
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _flush() -> None:
    """Flush the task's output: the next task may be killed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the task may have closed it
            stream.flush()


def _decided(directive: Directive) -> Decided:
    delay = getattr(directive, "delay", None)
    cause = None if directive.__cause__ is None else _described(directive.__cause__)
    return Decided(type(directive).__name__, str(directive), None if delay is None else delay.total_seconds(), cause)


def _described(error: BaseException) -> Raised:
    text = describe_error(error)
    return Raised(text.type, text.message, text.traceback, [qualified_name(kind) for kind in type(error).__mro__])


def _job(call: Call) -> Job:
    hints = _hints()
    given: dict[str, Any] = {name: msgspec.convert(value, hints[name]) for name, value in call.job.items()}
    return Job(args_json=call.args, **given)


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Job)


def main() -> None:
    """Open file descriptor 0 as the socket, ignore signals meant for the worker, and run."""
    wire = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)  # not SIG_IGN: processes that a task starts would inherit that
        keep_handler(number)
    if sys.platform == "linux":
        # seam: worker's death
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # works also while a task holds the GIL
    logs.configure()
    with suppress(OSError):  # the worker is gone
        Child(wire).run()


def _ignore(_number: int, _frame: object) -> None:
    """Ignore a signal meant for the worker, which ends its processes itself."""


__all__ = ["main"]
