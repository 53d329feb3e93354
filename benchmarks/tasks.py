"""The tasks that the benchmarks run."""

from __future__ import annotations

from rowlock import Rowlock

app = Rowlock()


@app.task
async def noop(recipient: str, subject: str, body: str) -> None:
    """Do nothing, with arguments of about a hundred bytes."""


ARGUMENTS = ("ada@example.com", "Your order", "It has left our warehouse and will arrive on Friday.")
