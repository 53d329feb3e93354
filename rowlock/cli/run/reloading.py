"""`--reload`: restart a command whenever a Python file below the current folder changes."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rowlock.cli.run.program import Program
from rowlock.cli.run.running import StopSignals
from rowlock.cli.show.output import note
from rowlock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_reload() -> None:
    """Raise `ConfigurationError` without watchfiles."""
    if find_spec("watchfiles") is None:
        raise ConfigurationError('--reload needs watchfiles. Install it: pip install "rowlock[reload]"')


async def run_and_reload(
    command: Sequence[str], signals: StopSignals | None = None, *, again: Sequence[str] | None = None
) -> int:
    """Run the command until a signal; restart it after each change, with the command `again` if that is given.

    A command that has ended by itself restarts as at first. Running jobs have a few seconds to finish, and are then
    released. Raises `ConfigurationError` without watchfiles.
    """
    check_reload()
    from watchfiles import PythonFilter, awatch  # noqa: PLC0415  # an extra

    folder = Path.cwd()
    signals = StopSignals() if signals is None else signals
    program = await Program.start(command)
    telling = asyncio.create_task(_tell_of_end(program))
    try:
        async for changes in awatch(folder, watch_filter=PythonFilter(), stop_event=signals.asked):
            names = sorted({str(Path(path).relative_to(folder)) for _, path in changes})
            note(f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''} changed: restarting.")
            telling.cancel()
            words = command if again is None or program.has_ended else again
            await program.stop()
            program = await Program.start(words)
            telling = asyncio.create_task(_tell_of_end(program))
    finally:
        telling.cancel()
        await program.stop()
    return 0


async def _tell_of_end(program: Program) -> None:
    await program.wait()
    note("The command ended. Waiting for a change.")


__all__ = ["check_reload", "run_and_reload"]
