"""`rowlock top`: show the state of the queue, refreshed until the user quits."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
from rich.live import Live
from rich.text import Text

from rowlock.app import Rowlock
from rowlock.cli.commands.values import NumberRange
from rowlock.cli.run import running
from rowlock.cli.run.running import AWAY
from rowlock.cli.show.frame import Seen, frame_of, look
from rowlock.cli.show.output import print_json, with_json
from rowlock.cli.show.tables import console, duration_of, on_terminal, print_plain

SHARE: Final = 10
"""The least pause after a reading, as a multiple of its duration, so that it never burdens the database."""
PATIENCE: Final = 2.0
"""Seconds without an answer after which the screen reports it."""


@click.command("top", short_help="Watch the queue live.")
@click.option(
    "--every",
    type=NumberRange(0.2, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between readings.",
)
@click.option("--once", is_flag=True, help="Print one frame, and exit.")
@with_json
def command(every: float, once: bool, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Watch the queue: its figures, queues, workers, the longest-running jobs, and the last dead letters.

    q or Ctrl-C quits; space refreshes at once. If the database goes away, the screen reports it until it is back. In a
    pipe it prints one frame.
    """
    if as_json or once or not on_terminal() or console().is_dumb_terminal:
        seen = running.run(_look_once())
        if as_json:
            print_json(seen)
        elif on_terminal():
            out = console()
            out.print(frame_of(seen, width=out.width, height=None))
        else:
            print_plain(frame_of(seen, width=None, height=None))
    else:
        running.run(_watch(every))


async def _look_once() -> Seen:
    async with Rowlock() as app:
        return await look(app)


async def _watch(every: float) -> None:
    signals, wanted = running.StopSignals(), asyncio.Event()
    async with Rowlock() as app:
        first = asyncio.create_task(look(app))
        await _ended(first, signals.asked, None)
        if not first.done():
            await _stopped(first)
            return
        seen = first.result()
        with (
            _keys(signals.asked, wanted),
            Live(console=console(), screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        ):
            await _Screen(app, live, seen).show(every, signals.asked, wanted)


class _Screen:
    """Show frames while reading the next one: the keys work while the database does not answer."""

    def __init__(self, app: Rowlock, live: Live, seen: Seen) -> None:
        self._app = app
        self._live = live
        self._seen = seen
        self._clock = asyncio.get_running_loop().time
        self._seen_at = self._clock()
        self._is_away = False
        self._took = 0.0

    async def show(self, every: float, asked: asyncio.Event, wanted: asyncio.Event) -> None:
        """Show frames until `asked` is set; refresh at once when `wanted` is set."""
        reading: asyncio.Task[Seen] | None = None
        began = self._clock()
        self._draw()
        try:
            while not asked.is_set():
                if reading is None:
                    await _either(asked, wanted, max(every, SHARE * self._took))
                    wanted.clear()
                    began, reading = self._clock(), asyncio.create_task(look(self._app))
                await _ended(reading, asked, PATIENCE)
                if reading.done():
                    self._take(reading)
                    reading, self._took = None, min(self._clock() - began, PATIENCE)
                else:
                    self._is_away = True
                self._draw()
        finally:
            if reading is not None:
                await _stopped(reading)

    def _take(self, reading: asyncio.Task[Seen]) -> None:
        try:
            self._seen = reading.result()
        except AWAY:
            self._is_away = True
        else:
            self._is_away, self._seen_at = False, self._clock()

    def _draw(self) -> None:
        size, age = self._live.console.size, duration_of(self._clock() - self._seen_at)
        away = Text(f"The database is away; seen {age} ago", "red")
        says = away if self._is_away else Text("q quits", "dim")
        self._live.update(frame_of(self._seen, width=size.width, height=size.height, says=says), refresh=True)


async def _either(asked: asyncio.Event, wanted: asyncio.Event, seconds: float) -> None:
    waits = {asyncio.create_task(asked.wait()), asyncio.create_task(wanted.wait())}
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _ended(reading: asyncio.Task[Seen], asked: asyncio.Event, seconds: float | None) -> None:
    stop = asyncio.create_task(asked.wait())
    await asyncio.wait({reading, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()


async def _stopped(reading: asyncio.Task[Seen]) -> None:
    reading.cancel()
    await asyncio.wait({reading})


@contextmanager
def _keys(asked: asyncio.Event, wanted: asyncio.Event) -> Iterator[None]:
    """Read keys if there is a keyboard, and restore its mode. Ctrl-Z is disabled: it would leave the screen behind."""
    if not sys.stdin.isatty():
        yield
        return
    keyboard, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(keyboard)

    def read() -> None:
        try:
            pressed = os.read(keyboard, 64)
        except OSError:  # the terminal is gone
            pressed = b""
        if not pressed or pressed.lower().startswith(b"q"):
            asked.set()
        elif pressed.startswith(b" "):
            wanted.set()

    try:
        tty.setcbreak(keyboard)
        quiet = termios.tcgetattr(keyboard)
        quiet[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(keyboard, termios.TCSANOW, quiet)
        loop.add_reader(keyboard, read)
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
