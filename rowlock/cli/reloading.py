"""`--reload`: a command that is started anew whenever a Python file below the current folder changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rowlock.cli.output import note
from rowlock.cli.program import Program
from rowlock.cli.running import StopSignals
from rowlock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence


async def run_and_reload(command: Sequence[str], signals: StopSignals | None = None) -> int:
    """Run the command until a signal; start it anew after each change, also after it has ended by itself.

    Running jobs have a few seconds to finish, and are given back then. Raises `ConfigurationError` without watchfiles.
    """
    try:
        from watchfiles import PythonFilter, awatch  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError('--reload needs watchfiles. Install it: pip install "rowlock[reload]"') from error
    folder = Path.cwd()
    signals = StopSignals() if signals is None else signals
    program = await Program.start(command)
    try:
        async for changes in awatch(folder, watch_filter=PythonFilter(), stop_event=signals.asked):
            names = sorted({str(Path(path).relative_to(folder)) for _, path in changes})
            note(f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''} changed: starting anew.")
            await program.stop()
            program = await Program.start(command)
    finally:
        await program.stop()
    return 0


__all__ = ["run_and_reload"]
