"""The job that RQ runs: it imports it by its path."""

from __future__ import annotations

from benchmarks.rivals.drivers.slots import count


def handle(number: int, body: str) -> None:  # noqa: ARG001  # the arguments are there to be carried
    """Count the job: a worker is one process, with the first slot of its file."""
    count(0)
