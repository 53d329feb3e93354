"""Read a queue: its settings by operators, and its live jobs."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from rowlock.queue.jobs.fields import Concurrency, Count, Moment, QueueName, said

MANY: Final = 100_000
"""Above this many live jobs, read-only views use the workers' last sample."""


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """One queue: its settings by operators, and its live jobs.

    `paused_at`: since when it is paused, or None. `concurrency`: how many of its jobs each worker runs at once at most;
    None: each worker's own limit. `waiting` jobs are due, the first since `oldest_due_at`; `scheduled` ones fall due
    later. `workers`: how many live workers claim its jobs: those that are neither quiet nor stopping.
    """

    name: QueueName
    paused_at: Annotated[Moment, said("the time when it was paused")] | None
    concurrency: Concurrency | None
    waiting: Annotated[int, said("jobs that are due", minimum=0)]
    scheduled: Annotated[int, said("jobs that fall due later", minimum=0)]
    running: Count
    blocked: Count
    oldest_due_at: Annotated[Moment, said("the time when the first waiting job became due")] | None
    workers: Annotated[
        int, said("the number of live workers that claim its jobs: neither quiet nor stopping", minimum=0)
    ]
