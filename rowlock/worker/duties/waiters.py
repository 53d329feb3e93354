"""The duty `waiters`: remove the records of clients that waited for a result and are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rowlock.queue.connect.sessions import ControlConnection


async def forget_waiters(connection: ControlConnection) -> None:
    """Remove them."""
    await connection.fetch("forget_waiters")


__all__ = ["forget_waiters"]
