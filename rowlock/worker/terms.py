"""Terms: a worker's options and parts that all its shifts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from rowlock.queue.claim.served import Served
    from rowlock.queue.connect.database import Database
    from rowlock.queue.enqueue.task import FailureHandler, Middleware, Task
    from rowlock.worker.attempt.attempt import Observer
    from rowlock.worker.executors.processes import Processes
    from rowlock.worker.loop.slots import Slots
    from rowlock.worker.vitals.counts import Counts
    from rowlock.worker.vitals.lease import Renewals
    from rowlock.worker.vitals.watchdog import Watchdog


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The values and objects that outlive a shift.

    `stop` asks the worker to stop and sets `stopping`; `grace` returns the seconds that its handlers have then.
    `processes` makes a shift's pool of processes. `earlier` lists the slots of shifts whose lease was lost, until their
    last attempt has ended.
    """

    database: Database
    dsn: str
    tasks: Mapping[str, Task[..., Any]]
    served: Served
    most_threads: int | None
    processes: Callable[[], Processes]
    middleware: Sequence[Middleware]
    failure_handlers: Sequence[FailureHandler]
    stopping: asyncio.Event
    grace: Callable[[], float]
    stop: Callable[[], None]
    counts: Counts
    renewals: Renewals
    watchdog: Watchdog
    earlier: list[Slots]
    observer: Observer | None


__all__ = ["Terms"]
