"""Statistics over a window of time: ended jobs, durations, queue lengths, from the aggregated tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.fields import Moment
from rowlock.queue.read.histograms import percentile
from rowlock.words import quoted

if TYPE_CHECKING:
    from asyncpg import Record

    from rowlock.queue.connect.database import Database

Window: TypeAlias = Literal["1h", "6h", "24h", "7d", "30d"]

SHORTEST_STEP: Final = 10
STEPS: Final[Mapping[int, timedelta]] = {
    SHORTEST_STEP: timedelta(minutes=15),
    60: timedelta(minutes=70),
    300: timedelta(hours=7),
    900: timedelta(hours=26),
    7200: timedelta(days=8),
    21600: timedelta(days=90),
}
"""The lengths of the slots, in seconds, and how long those are kept. Each divides the next one."""

MOST_NAMED: Final = 200
"""How many pairs of a queue and a task a slot distinguishes."""
MOST_SAMPLED: Final = 1000
"""How many queues a sample of the backlog distinguishes."""
MOST_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class _Span:
    length: timedelta
    step: int


_WINDOWS: Final[Mapping[Window, _Span]] = {
    "1h": _Span(timedelta(hours=1), 60),
    "6h": _Span(timedelta(hours=6), 300),
    "24h": _Span(timedelta(days=1), 900),
    "7d": _Span(timedelta(days=7), 7200),
    "30d": _Span(timedelta(days=30), 21600),
}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by outcome, and attempts that ended in an error; the durations of the last attempts, and their waits since
    their jobs were due, in seconds. None where no attempt ended a job.
    """

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    errors: int = 0
    duration_p50: float | None = None
    duration_p95: float | None = None
    duration_p99: float | None = None
    wait_p50: float | None = None
    wait_p95: float | None = None
    wait_p99: float | None = None


class Point(Figures, frozen=True, kw_only=True):
    """One slot, which begins `at`: the jobs that ended, and those that waited and ran at its end (None: no sample).

    `oldest_due`: for how many seconds the longest due job had been due.
    """

    at: Moment
    waiting: int | None = None
    running: int | None = None
    oldest_due: float | None = None


class QueueFigures(Figures, frozen=True, kw_only=True):
    """The ended jobs of one queue; '*' stands for the queues that were not distinguished."""

    queue: str


class TaskFigures(Figures, frozen=True, kw_only=True):
    """The ended jobs of one task; '*' stands for the tasks that were not distinguished."""

    task: str


class Statistics(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from"}):
    """Jobs that ended between two times: in all, in slots of `step` seconds, and of the 50 busiest queues and tasks."""

    since: Moment
    until: Moment
    step: int
    total: Figures
    points: list[Point]
    queues: list[QueueFigures]
    tasks: list[TaskFigures]


async def read_statistics(
    database: Database,
    window: str = "1h",
    *,
    queue: str | None = None,
    task: str | None = None,
    within: frozenset[str] | None = None,
) -> Statistics:
    """Read the statistics of a window that ends now; `within`: of these queues alone. Raises `InvalidOption`."""
    span = _span(window)
    queues = _queues(queue, within)
    if task is not None:
        checks.task_name(task)
    now: datetime = (await database.run("counted_until"))[0]["now"]
    until = slot_of(now, span.step) + timedelta(seconds=span.step)
    since = until - span.length
    rows = await database.run("read_statistics", span.step, since, until, queues, task, MOST_SHOWN)
    samples = await database.run("read_backlog", span.step, since, until, queues)
    found: dict[str, list[Record]] = {"total": [], "slot": [], "queue": [], "task": []}
    for row in rows:
        found[row["what"]].append(row)
    return Statistics(
        since=since,
        until=min(now, until),
        step=span.step,
        total=Figures(**figures(found["total"][0])),
        points=_points(since, until, span.step, found["slot"], samples),
        queues=[QueueFigures(queue=row["name"], **figures(row)) for row in found["queue"]],
        tasks=[TaskFigures(task=row["name"], **figures(row)) for row in found["task"]],
    )


def figures(row: Record) -> dict[str, Any]:
    """The members of a `Figures`, from a row with its numbers and histograms."""
    numbers: dict[str, Any] = {name: row[name] for name in ("succeeded", "failed", "cancelled", "expired", "errors")}
    for what in ("duration", "wait"):
        buckets, counts = row[f"{what}_buckets"], row[f"{what}_counts"]
        for percent in (50, 95, 99):
            numbers[f"{what}_p{percent}"] = percentile(percent / 100, buckets, counts)
    return numbers


def slot_of(at: datetime, step: int) -> datetime:
    """The beginning of the slot of that length that contains this time."""
    return datetime.fromtimestamp(at.timestamp() // step * step, UTC)


def _points(since: datetime, until: datetime, step: int, slots: list[Record], samples: list[Record]) -> list[Point]:
    counted = {row["at"]: figures(row) for row in slots}
    looked = {row["at"]: row for row in samples}
    points = []
    at = since
    while at < until:
        told = counted.get(at, {})
        if sample := looked.get(at):
            oldest = sample["oldest_due"]
            told |= {
                "waiting": sample["waiting"],
                "running": sample["running"],
                "oldest_due": 0.0 if oldest is None else max(oldest.total_seconds(), 0.0),
            }
        points.append(Point(at=at, **told))
        at += timedelta(seconds=step)
    return points


def _span(window: object) -> _Span:
    if not isinstance(window, str) or window not in _WINDOWS:
        raise InvalidOption(f"window must be one of {', '.join(get_args(Window))}; got {quoted(window)}.")
    return _WINDOWS[window]  # type: ignore[index]  # it is one of them


def _queues(queue: str | None, within: frozenset[str] | None) -> list[str] | None:
    """The selected queues; None for all of them."""
    if queue is None:
        return None if within is None else sorted(within)
    wanted = checks.queue_name(queue)
    return [wanted] if within is None or wanted in within else []


__all__ = ["Figures", "Point", "QueueFigures", "Statistics", "TaskFigures", "Window", "read_statistics"]
