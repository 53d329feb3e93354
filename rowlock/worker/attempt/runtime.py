"""The running attempt behind a handler's `Job`: progress, checkpoints, log lines, and its transaction."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from rowlock import logs, steady
from rowlock.errors import InvalidOption, InvalidResult, OutsideHandler, RowlockError, StaleAttempt
from rowlock.queue.connect.pool import ClientPool
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.finish.transaction import OpenTransaction, begun, record_success
from rowlock.queue.jobs.json_values import plain_json
from rowlock.queue.jobs.pending import Pending
from rowlock.queue.jobs.results import encode_result
from rowlock.worker.attempt.capture import CAPTURE, Capture, install
from rowlock.worker.attempt.progress import Report, Reports

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Iterable
    from uuid import UUID

    from asyncpg import Record

    from rowlock.queue.enqueue.task import Task
    from rowlock.settings import Settings
    from rowlock.worker.attempt.attempt import Attempt

log = logs.get_logger("rowlock.worker")

END_SECONDS: Final = 5.0
"""How long an attempt's outcome waits at most for its last report and its log lines, in seconds."""


class Runtimes:
    """The connections that the handlers of one worker share. The first handler that needs one makes it."""

    def __init__(
        self, settings: Settings, dsn: str, tasks: Iterable[Task[..., Any]], worker: UUID, connects: Counter[str]
    ) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.connection = ControlConnection(settings, dsn, purpose="handlers", connects=connects)
        self.reports = Reports(self.connection, worker)
        self.pool = ClientPool(settings, dsn, purpose="transactions", is_patient=True)
        self._keeps_logs = any(task.log_level is not None for task in tasks)
        if self._keeps_logs:
            install()

    async def open(self) -> None:
        """Connect if a task keeps its log lines: each of its attempts needs the connection. Else connect on demand."""
        if self._keeps_logs:
            await self.connection.open()

    def begin(self, attempt: Attempt, task: Task[..., Any]) -> AttemptRuntime:
        """The runtime of an attempt that begins now. Call this in the context in which its handler will run."""
        return AttemptRuntime(self, attempt, task)

    async def close(self) -> None:
        """Close the connections."""
        async with AsyncExitStack() as parts:  # runs in reverse order, each part also if another one is cancelled
            parts.push_async_callback(self.pool.close)
            parts.push_async_callback(self.connection.close)
            parts.push_async_callback(self.reports.close)


class AttemptRuntime:
    """The running attempt of one job, behind the handler's `Job`.

    `is_recorded`: `job.transaction()` has committed its success, so no other outcome may follow.
    """

    __slots__ = (
        "_attempt",
        "_capture",
        "_checked_returns",
        "_claimed",
        "_doubt",
        "_has_transaction",
        "_keeps_result",
        "_report",
        "_result",
        "_shared",
        "_worker",
        "is_over",
        "is_recorded",
    )

    def __init__(self, shared: Runtimes, attempt: Attempt, task: Task[..., Any]) -> None:
        self._shared = shared
        self._attempt = attempt
        self._claimed = attempt.claimed
        self._worker = attempt.lease.worker
        self._keeps_result = task.keeps_result
        self._checked_returns = task.checked_returns
        self._report: Report | None = None
        self._capture: Capture | None = None
        self._has_transaction = False
        self._result: str | None = None
        self._doubt: BaseException | None = None
        self.is_over = False
        self.is_recorded = False
        if task.log_level is not None:
            self._capture = Capture(task.log_level)
            CAPTURE.set(self._capture)

    def report(self, fraction: float, message: str | None) -> None:
        """Write the progress to the database, soon."""
        if self._report is None:
            self._report = Report(self._claimed["id"], self._claimed["attempt"])
        self._shared.reports.give(self._report, fraction, message)

    def save_checkpoint(self, data: object) -> Pending[None]:
        """Save the data for later attempts. Raises `InvalidResult` at once for data that JSON cannot represent."""
        try:
            text = encode_result(data, limit=self._shared.settings.max_result_bytes)
        except InvalidResult as error:
            raise InvalidResult(f"Checkpoint of job {self._claimed['id']}: {error}") from None
        return Pending(self._save(text), self._shared.loop)

    def load_checkpoint(self) -> Pending[Any]:
        """The checkpoint that was saved last."""
        return Pending(self._load(), self._shared.loop)

    def set_result(self, value: object) -> None:
        """Set the result that the transaction stores."""
        if not self._has_transaction or self.is_recorded:
            raise OutsideHandler(
                "job.set_result() must be called inside the block of job.transaction(). Elsewhere, return the result."
            )
        text = encode_result(value, limit=self._shared.settings.max_result_bytes, type_=self._checked_returns)
        if self._keeps_result:
            self._result = text

    @property
    def has_result(self) -> bool:
        """Whether `set_result` was called."""
        return self._result is not None

    @asynccontextmanager
    async def transaction(self, connection: object) -> AsyncIterator[Any]:
        """A transaction that commits together with the job's success."""
        if self._has_transaction or self.is_recorded or self._doubt is not None:
            raise InvalidOption(
                "job.transaction() must be used at most once in an attempt, because its commit finishes the job. "
                "Put all statements into one block."
            )
        self._has_transaction, self._result = True, None
        try:
            async with begun(connection, self._shared.pool.acquire() if connection is None else None) as transaction:
                yield transaction.given
                await self._commit(transaction)  # seam: commit
        finally:
            self._has_transaction = False

    def check(self) -> None:
        """Raise an error if the outcome of the commit is unknown. It is recorded only if the commit failed."""
        if self._doubt is not None:
            raise RowlockError("PostgreSQL did not answer the commit of job.transaction().") from self._doubt

    async def end(self, *, is_lost: bool = False) -> None:
        """Write the last report, unless the job is lost, and the log lines. Raises nothing."""
        self.is_over = True
        if self._report is None and self._capture is None:
            return
        try:
            async with asyncio.timeout(END_SECONDS):
                if not is_lost:
                    await self._write_report()
                await self._keep_log()
        except (asyncio.CancelledError, *CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
            # Also after another cancel, the attempt ends with the outcome that it has.
            log.warning("end_of_attempt_not_written", error=type(error).__name__)

    async def _commit(self, transaction: OpenTransaction) -> None:
        await self._write_report()
        claimed = self._claimed
        is_its_own = await record_success(
            transaction,
            self._shared.settings.schema,
            worker=self._worker,
            job_id=claimed["id"],
            attempt=claimed["attempt"],
            result=self._result,
            elapsed=steady.seconds() - self._attempt.began,
        )
        if not is_its_own:
            raise _stale(claimed)
        try:
            await transaction.commit()
        except BaseException as error:
            if isinstance(error, asyncpg.PostgresError) and not isinstance(error, CONNECTION_LOST):
                raise  # the server says that it was rolled back
            self._doubt = error
            log.error(  # noqa: TRY400  # the error goes on, and is logged where it ends
                "transaction_outcome_unknown",
                error=type(error).__name__,
                what="PostgreSQL did not answer the commit: if it committed, the job has succeeded, else it is retried",
            )
            raise
        self.is_recorded = True

    async def _write_report(self) -> None:
        if self._report is not None:
            self._report.is_over = self.is_over
            await self._shared.reports.write([self._report])

    async def _keep_log(self) -> None:
        lines = None if self._capture is None else self._capture.close()
        if lines is not None:
            took = steady.seconds() - self._attempt.began
            await self._shared.connection.fetch("keep_log", self._claimed["id"], self._claimed["attempt"], took, lines)

    async def _save(self, text: str | None) -> None:
        claimed = self._claimed
        rows = await self._shared.connection.fetch(
            "save_checkpoint", self._worker, claimed["id"], claimed["attempt"], text
        )
        if not rows[0]["is_saved"]:
            raise _stale(claimed)

    async def _load(self) -> Any:  # noqa: ANN401  # any JSON
        rows = await self._shared.connection.fetch("load_checkpoint", self._claimed["id"])
        text: str | None = rows[0]["checkpoint"] if rows else None
        return None if text is None else plain_json(text)

    @property
    def is_cancelled(self) -> bool:
        """Whether an operator has cancelled this attempt."""
        return self._attempt.stop == "cancel"


def _stale(claimed: Record) -> StaleAttempt:
    return StaleAttempt(
        f"Attempt {claimed['attempt']} of job {claimed['id']} ({claimed['task']}) has lost its job: another worker "
        "rescued the job, or an operator ended it. Nothing was stored."
    )


__all__ = ["AttemptRuntime", "Runtimes"]
