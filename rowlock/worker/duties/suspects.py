"""The duty `suspects`: one worker runs the jobs that are on their last chance, each alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.loop.suspects import Alone

HOLD: Final = timedelta(seconds=3)
"""How long the duty `suspects` stays reserved for the worker that has it. Once that worker is done, the duty rests for
the same time, so that other jobs have a turn."""


async def hold_suspects(connection: ControlConnection) -> None:
    """Reserve the duty for this worker for a while."""
    await connection.fetch("hold_duty", "suspects", HOLD)


async def look_for_suspects(connection: ControlConnection, claims: Claims, alone: Alone) -> None:
    """Let this worker run such jobs, if one is due, and no other worker meanwhile."""
    if await claims.is_suspect_due():
        alone.want()
        await hold_suspects(connection)


__all__ = ["hold_suspects", "look_for_suspects"]
