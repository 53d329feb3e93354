"""The job that chancy runs: it imports it by its path."""

from __future__ import annotations

from benchmarks.rivals.drivers.protocol import Tally

tally = Tally("noop")


async def handle(number: int, body: str) -> None:  # noqa: ARG001  # the arguments are there to be carried
    """Do the job, and count it."""
    await tally.handle(number)
