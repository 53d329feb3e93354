"""A reschedule of a waiting job: its due time, its priority, its queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self

import msgspec

from rowlock.errors import InvalidOption, WrongState
from rowlock.queue.jobs import checks

if TYPE_CHECKING:
    from uuid import UUID

    from asyncpg import Record


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The new values, checked; None: unchanged."""

    delay: timedelta | None = None
    run_at: datetime | None = None
    priority: int | None = None
    queue: str | None = None

    @classmethod
    def of(cls, *, delay: object, run_at: object, priority: object, queue: object) -> Self:
        """Check the values that a caller gave. Raises `InvalidOption`."""
        if delay is not None and run_at is not None:
            raise InvalidOption("delay and run_at must not both be given. Use one of them.", option="run_at")
        change = cls(
            delay=checks.delay(delay),
            run_at=checks.run_at(run_at),
            priority=None if priority is None else checks.priority(priority),
            queue=None if queue is None else checks.queue_name(queue),
        )
        if change == cls():
            raise InvalidOption("A reschedule must change something. Give delay, run_at, priority or queue.")
        return change

    @property
    def parameters(self) -> tuple[object, ...]:
        """`$2` to `$5` of reschedule.sql."""
        return self.run_at, self.delay, self.priority, self.queue

    def described(self) -> dict[str, object]:
        """The new values for the audit, as they were given; a delay in seconds."""
        given = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return given if self.delay is None else given | {"delay": self.delay.total_seconds()}

    def details(self, row: Record) -> dict[str, object]:
        """The changed values for the audit, as they are and as they were, from a row of reschedule.sql."""
        is_named = {
            "run_at": self.delay is not None or self.run_at is not None,
            "priority": self.priority is not None,
            "queue": self.queue is not None,
        }
        names = [name for name, is_given in is_named.items() if is_given]
        return {name: row[name] for name in names} | {"before": {name: row[f"{name}_before"] for name in names}}

    def refusal(self, job_id: UUID, row: Record) -> WrongState | InvalidOption:
        """The error for a waiting job that could not start any more, from a row of reschedule.sql."""
        if row["is_over"]:
            why = "its cancel was requested" if row["is_requested"] else f"its time was over at {row['ends_at']}"
            return WrongState(
                f"Job {job_id} cannot be rescheduled: {why}, so it does not start any more.", state="queued"
            )
        limit = row["ends_at"]
        rule = f"run_at must be before {limit}" if self.delay is None else f"delay must end before {limit}"
        return InvalidOption(
            f"{rule}, when job {job_id} expires or has its deadline; got {self.run_at or self.delay}. "
            "Use an earlier time, or cancel the job and enqueue a new one.",
            option="run_at" if self.delay is None else "delay",
        )


__all__ = ["Change"]
