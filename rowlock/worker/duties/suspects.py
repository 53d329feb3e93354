"""The duty `suspects`: one worker runs the jobs that are on their last chance, each alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.loop.suspects import Alone

HOLD: Final = timedelta(seconds=3)
"""How long the duty `suspects` is kept from the other workers at a time; and from all of them once the one that has it
is done, so that there is time for other jobs."""


async def hold_suspects(connection: ControlConnection) -> None:
    """Keep the duty from the other workers for a while."""
    await connection.fetch("hold_duty", "suspects", HOLD)


async def look_for_suspects(connection: ControlConnection, claims: Claims, alone: Alone) -> None:
    """Have this worker run such jobs, if one is due. Meanwhile no other worker does."""
    if await claims.is_suspect_due():
        alone.want()
        await hold_suspects(connection)


__all__ = ["hold_suspects", "look_for_suspects"]
