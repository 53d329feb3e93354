"""Run a command's coroutine as the main program, and a worker until a signal stops it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rowlock.errors import DatabaseUnavailable
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.worker.executors.forks import keep_handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from rowlock.app import Rowlock
    from rowlock.worker.worker import Worker

R = TypeVar("R")

AWAY: Final = (DatabaseUnavailable, *CONNECTION_LOST)
"""Errors that mean that the database is away: long-running commands retry."""


def run(main: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine as the process's main program: on uvloop, if it is installed."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  # an extra
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


@asynccontextmanager
async def changing(app: Rowlock) -> AsyncIterator[Rowlock]:
    """Open the application for a command that changes data.

    Raises `SchemaTooNew`, `SchemaTooOld` and `SchemaNotMigrated`: on another schema, a change could have side effects.
    """
    async with app:
        await app.database.check_schema()
        yield app


class StopSignals:
    """SIGTERM and SIGINT, from the moment this is made: `asked` after the first one, `is_urgent` after the second.

    `is_supervised`: SIGTERM is never urgent, even if repeated, and SIGINT always is. The supervisor relies on this,
    because a service manager may send SIGTERM to every process of the group and to the supervisor.
    """

    def __init__(self, *, is_supervised: bool = False) -> None:
        self.asked = asyncio.Event()
        self.is_urgent = False
        self._is_supervised = is_supervised
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._receive, number)
            keep_handler(number)

    def _receive(self, number: signal.Signals) -> None:
        again = number == signal.SIGINT if self._is_supervised else self.asked.is_set()
        self.is_urgent = self.is_urgent or again
        self.asked.set()


async def work(worker: Worker, signals: StopSignals, on_started: Callable[[], None] | None = None) -> None:
    """Run the worker until a signal, then stop it: running jobs have the grace period, or after two signals none.

    A worker that is still starting is cancelled. Raises the error that keeps the worker from starting.
    """
    has_started = False

    def started() -> None:
        nonlocal has_started
        has_started = True
        if on_started is not None:
            on_started()

    running = asyncio.create_task(worker.run(handle_signals=False, on_started=started))
    asked = asyncio.create_task(signals.asked.wait())
    await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
    while not running.done():
        if has_started:
            worker.stop(0 if signals.is_urgent else None)  # repeated: a second signal may arrive
        elif signals.is_urgent or not running.cancelling():
            running.cancel()
        await asyncio.wait({running}, timeout=0.1)
    asked.cancel()
    if not (running.cancelled() and signals.asked.is_set()):
        await running


def leave(worker: Worker) -> None:
    """Exit at once if a plain function still runs in a thread: Python would wait for it forever."""
    if worker.has_leftover_threads:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
