"""Write progress reports to the database: for each job at most once a second, and only the latest report."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock import logs
from rowlock.errors import RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from rowlock.queue.connect.sessions import ControlConnection

log = logs.get_logger("rowlock.worker")

EVERY_SECONDS: Final = 1.0
LARGEST_BATCH: Final = 500


class Report:
    """The progress reports of one attempt. `latest` is the report that is not written yet, if any. Thread-safe."""

    __slots__ = ("attempt", "due_at", "is_over", "is_queued", "job_id", "latest")

    def __init__(self, job_id: UUID, attempt: int) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.latest: deque[tuple[float, str | None]] = deque(maxlen=1)
        self.due_at = 0.0
        self.is_queued = False
        self.is_over = False


class Reports:
    """The reports of one worker's attempts. All methods but `give` run on the worker's event loop."""

    def __init__(self, connection: ControlConnection, worker: UUID) -> None:
        self._connection = connection
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._one_at_a_time = asyncio.Lock()
        self._queued: set[Report] = set()
        self._arrived = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def give(self, report: Report, fraction: float, message: str | None) -> None:
        """Queue a report. May be called in any thread."""
        report.latest.append((fraction, message))
        if not report.is_queued:
            report.is_queued = True
            self._loop.call_soon_threadsafe(self._queue, report)

    async def write(self, reports: Sequence[Report]) -> None:
        """Write the pending ones of these reports now, after a write under way. The fence rejects late reports."""
        async with self._one_at_a_time:
            pending = [(report, report.latest.pop()) for report in reports if report.latest]
            if pending:
                await self._write(pending)

    async def _write(self, pending: Sequence[tuple[Report, tuple[float, str | None]]]) -> None:
        now = self._loop.time()
        for report, _ in pending:
            report.due_at = now + EVERY_SECONDS
        try:
            await self._connection.fetch(
                "report_progress",
                self._worker,
                [report.job_id for report, _ in pending],
                [report.attempt for report, _ in pending],
                [fraction for _, (fraction, _) in pending],
                [message for _, (_, message) in pending],
            )
        except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
            log.warning("progress_not_written", jobs=len(pending), error=type(error).__name__)
            for report, value in pending:
                if not report.is_over and not report.latest:
                    self.give(report, *value)

    async def close(self) -> None:
        """Stop writing."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    def _queue(self, report: Report) -> None:
        self._queued.add(report)
        self._arrived.set()
        if self._writing is None:
            # Not in the context of the handler that happened to be the first.
            self._writing = self._loop.create_task(self._write_when_due(), context=self._context)

    async def _write_when_due(self) -> None:
        while True:
            now = self._loop.time()
            due = [report for report in self._queued if report.due_at <= now][:LARGEST_BATCH]
            for report in due:
                self._queued.discard(report)
                report.is_queued = False
            await self.write([report for report in due if not report.is_over])
            wait = min((report.due_at for report in self._queued), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(wait):
                    await self._arrived.wait()
            self._arrived.clear()
