"""A safety net of each worker: look behind the cursors of its claims for jobs that they passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rowlock import logs

if TYPE_CHECKING:
    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.vitals.counts import Counts

log = logs.get_logger("rowlock.worker")


async def look_behind(connection: ControlConnection, claims: Claims, counts: Counts) -> None:
    """Look behind the settled cursors. If a job is there, reset the claims to the beginning."""
    for each in (claims, *claims.apart):
        settled = each.settled
        rows = await connection.fetch(
            "late",
            [lane.queue for lane in settled],
            [lane.priority for lane in settled],
            [position.run_at for position in settled.values()],
            [position.id for position in settled.values()],
            each.claimed,
            each.last_chance,
        )
        if rows[0]["is_left_behind"]:
            counts.left_behind += 1
            log.warning("job_left_behind")
            each.reset()


__all__ = ["look_behind"]
