"""A frame of `rowlock top`: read its data, and fit it into the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from rich.console import Group
from rich.text import Text

from rowlock import __version__
from rowlock.app import Rowlock
from rowlock.cli.show.tables import (
    NOTHING,
    Column,
    attempt_of,
    brief_time_of,
    duration_of,
    memory_of,
    number,
    sparkline,
    table_of,
    text,
    whole,
)
from rowlock.queue.operate.workers import LiveWorker
from rowlock.queue.read.overview import Overview
from rowlock.queue.read.queues import Queue
from rowlock.queue.read.statistics import Statistics
from rowlock.wire.jobs import JobSummary

LISTED: Final = 50
"""How many longest-running jobs and dead letters are read; the screen shows as many as fit."""
MINUTE: Final = 60.0
_BLANKS: Final = 2
_GAP: Final = 2

_QUEUES: Final = (
    text("QUEUE", 12),
    number("WAITING"),
    number("SCHEDULED", leaves=2),
    number("RUNNING"),
    number("OLDEST"),
    number("WORKERS", leaves=1),
    whole("PAUSED"),
)
_WORKERS: Final = (
    text("WORKER", 16),
    number("PID", leaves=3),
    whole("STATE", leaves=1),
    number("RUNNING"),
    number("LOOP DELAY", leaves=1),
    number("MEMORY", leaves=2),
    number("LEASE", leaves=2),
    text("QUEUES", 10),
)
_LONGEST: Final = (
    text("RUNNING JOB", 16),
    number("SINCE"),
    number("ATTEMPT", leaves=2),
    whole("ID"),
    text("PROGRESS", 8, leaves=1),
)
_DEAD: Final = (text("DEAD LETTER", 16), whole("ENDED", leaves=2), whole("ID"), text("ERROR", 10, leaves=1))


class RunningJob(msgspec.Struct, frozen=True, kw_only=True):
    """A running job, and the progress that its handler reported."""

    id: UUID
    task: str
    queue: str
    attempt: int
    max_attempts: int
    started_at: datetime
    worker: UUID | None
    fraction: float | None
    message: str | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a frame; `statistics` are those of the last hour."""

    overview: Overview
    statistics: Statistics
    workers: list[LiveWorker]
    longest: list[RunningJob]
    dead_letters: list[JobSummary]


async def look(app: Rowlock) -> Seen:
    """Read the data of a frame. The cost of each statement is bounded, whatever the number of jobs."""
    return Seen(
        overview=await app.overview(),
        statistics=await app.statistics("1h"),
        workers=await app.workers.list(),
        longest=[RunningJob(**row) for row in await app.database.run("list_longest", LISTED)],
        dead_letters=[JobSummary.of(job) for job in await app.dead_letters.list(limit=LISTED)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table of a frame."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[object]]


def frame_of(seen: Seen, *, width: int | None, height: int | None, says: Text | None = None) -> Group:
    """Build the frame for a terminal of this size, or (None) with all rows and values whole; `says` follows it."""
    sections = [section for section in _sections(seen) if section.rows]
    head = list(_head(seen, width, says))[:height]
    room = None if height is None else height - len(head)
    shares = _shares([len(section.rows) for section in sections], room)
    parts: list[object] = list(head)
    for section, share in zip(sections, shares, strict=True):
        if share is None:
            continue
        parts.append(Text(""))
        more = len(section.rows) - share
        shown = section.rows if more <= 0 else section.rows[: share - 1]
        parts.append(table_of(section.columns, shown, width=width))
        if more > 0:
            parts.append(Text(f"… {more + 1:,} more", style="dim"))
    return Group(*parts)  # type: ignore[arg-type]  # they can be printed


def _shares(needs: Sequence[int], room: int | None) -> list[int | None]:
    """Divide the room: the rows of each table, besides its head and the blank line above; None if it does not fit."""
    if room is None:
        return list(needs)
    left = room - _BLANKS * len(needs)
    shares = [0] * len(needs)
    while left > 0 and any(share < need for share, need in zip(shares, needs, strict=True)):
        for at, need in enumerate(needs):
            if left > 0 and shares[at] < need:
                shares[at] += 1
                left -= 1
    return [share or None for share in shares]


def _head(seen: Seen, width: int | None, says: Text | None) -> Iterator[Text]:
    now, minute = seen.overview, seen.overview.last_minute
    yield from _lines(width, (f"rowlock {__version__}", "bold"), brief_time_of(now.at), says or Text(""))
    oldest = NOTHING if now.oldest_due_at is None else duration_of(now.at - now.oldest_due_at)
    yield from _lines(
        width,
        f"waiting {now.waiting:,}",
        f"oldest {oldest}",
        f"running {now.running:,}",
        f"scheduled {now.scheduled:,}",
        (f"dead letters {now.dead_letters:,}", "red" if now.dead_letters else ""),
        (f"unclaimed {now.unclaimed:,}", "yellow" if now.unclaimed else ""),
        (f"workers {now.workers:,}", "" if now.workers else "red"),
    )
    ended = minute.succeeded + minute.failed + minute.cancelled + minute.expired
    yield from _lines(
        width,
        f"last minute: {ended / MINUTE:,.1f} jobs/s",
        (f"failed {minute.failed:,}", "red" if minute.failed else ""),
        (f"errors {minute.errors:,}", "yellow" if minute.errors else ""),
        f"took {_seconds(minute.duration_p50)}, p95 {_seconds(minute.duration_p95)}",
        f"waited p95 {_seconds(minute.wait_p95)}",
    )
    points = seen.statistics.points
    bars = 30 if width is None else max((width - 32) // 2, 10)
    yield from _lines(
        width,
        f"last hour: done {sparkline([float(point.succeeded) for point in points], bars)}",
        (f"errors {sparkline([float(point.errors) for point in points], bars)}", "yellow"),
    )


def _lines(width: int | None, *parts: str | tuple[str, str] | Text) -> Iterator[Text]:
    """Place the parts side by side, or below each other if the terminal is too narrow: no figure is cut."""
    line = Text()
    for part in map(Text.assemble, parts):
        if line and width is not None and line.cell_len + _GAP + part.cell_len > width:
            yield line
            line = Text()
        line = Text("  ").join([line, part]) if line else part
    if width is not None:
        line.truncate(width, overflow="ellipsis")
    yield line


def _seconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration_of(seconds)


def _sections(seen: Seen) -> Iterator[Section]:
    at = seen.overview.at
    busy = sorted(seen.overview.queues, key=lambda queue: (-(queue.waiting + queue.running), queue.name))
    yield Section(columns=_QUEUES, rows=[_queue(queue, at) for queue in busy])
    yield Section(columns=_WORKERS, rows=[_worker(worker, at) for worker in seen.workers])
    yield Section(columns=_LONGEST, rows=[_running(job, at) for job in seen.longest])
    yield Section(
        columns=_DEAD,
        rows=[(job.task, _ago(job.finished_at, at), job.id, job.error or "") for job in seen.dead_letters],
    )


def _queue(queue: Queue, at: datetime) -> Sequence[object]:
    oldest = NOTHING if queue.oldest_due_at is None else at - queue.oldest_due_at
    paused = Text(NOTHING) if queue.paused_at is None else Text(duration_of(at - queue.paused_at), "yellow")
    return queue.name, queue.waiting, queue.scheduled, queue.running, oldest, queue.workers, paused


def _worker(worker: LiveWorker, at: datetime) -> Sequence[object]:
    running = f"{worker.running}/{worker.concurrency}"
    state = Text(worker.state, "" if worker.state == "running" else "yellow")
    delay, lease = f"{worker.loop_delay_ms} ms", worker.expires_at - at
    return worker.hostname, str(worker.pid), state, running, delay, memory_of(worker.memory_bytes), lease, worker.queues


def _running(job: RunningJob, at: datetime) -> Sequence[object]:
    progress = NOTHING if job.fraction is None else f"{job.fraction:.0%} {job.message or ''}".rstrip()
    return job.task, at - job.started_at, attempt_of(job.attempt, job.max_attempts), job.id, progress


def _ago(moment: datetime | None, at: datetime) -> str:
    return NOTHING if moment is None else f"{duration_of(max(at - moment, timedelta(0)))} ago"


__all__ = ["Seen", "frame_of", "look"]
