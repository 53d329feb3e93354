"""One attempt, from the claimed row to its outcome: find the task, convert the arguments, call, encode, report."""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import structlog

from rowlock import logs
from rowlock.errors import InvalidResult
from rowlock.queue.finishes import Unsuccess
from rowlock.queue.job import Job
from rowlock.queue.lifecycle import CANCELLED, RELEASED, AttemptTimeout, Cancel, Directive, Ended, Fail, decide
from rowlock.queue.results import ErrorText, describe_error, encode_result
from rowlock.worker.runtime import AttemptRuntime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from asyncpg import Record

    from rowlock.queue.finishes import Finishes, Success
    from rowlock.queue.task import Task

log = structlog.get_logger("rowlock.worker")


class Attempt:
    """One run of one job in this worker. `stop` says why the worker cancelled it, if it did: `shutdown` or `lease`;
    or `cancel`, because an operator wants it, for this `reason`.

    Its `result`, once it succeeded, is JSON text. `began` is monotonic time. `on_cancel` is what an operator's cancel
    calls where cancelling the coroutine that waits would not stop what it waits for: a thread, a process.
    """

    __slots__ = ("began", "claimed", "claimed_at", "on_cancel", "reason", "result", "running", "stop")

    def __init__(self, claimed: Record, claimed_at: float) -> None:
        self.claimed = claimed
        self.claimed_at = self.began = claimed_at
        self.result: str | None = None
        self.running: asyncio.Task[None] | None = None
        self.stop: str | None = None
        self.reason = ""
        self.on_cancel: Callable[[], object] | None = None


class NotInTime(Exception):
    """No attempt of the job may start any more: it has expired, or its deadline has passed."""


class Performer:
    """Performs attempts and gives their outcomes to the finishes: there always is one, whatever a handler does."""

    def __init__(
        self, tasks: Mapping[str, Task[..., Any]], finishes: Finishes, *, threads: int, max_result_bytes: int
    ) -> None:
        self._tasks = tasks
        self._finishes = finishes
        self._max_result_bytes = max_result_bytes
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="rowlock-task")
        self._in_threads: set[Future[object]] = set()

    async def perform(self, attempt: Attempt, on_end: Callable[[Attempt], None]) -> None:
        """Run the attempt to its end: convert the arguments, call the handler, encode what it returned, report.

        One coroutine without a wrapper, since every job goes through it.
        """
        claimed = attempt.claimed
        attempt.began = time.monotonic()
        logs.JOB.set(claimed)
        job: Job | None = None
        runtime: AttemptRuntime | None = None
        try:
            task = self._tasks[claimed["task"]]
            arguments = task.arguments
            if arguments.job_parameter is not None:
                runtime = AttemptRuntime(attempt)
                job = Job.from_row({**claimed, "state": "running"}, runtime)
            args, kwargs = arguments.bind(claimed["args"], job)
            limit = claimed["timeout"] or task.timeout
            if claimed["times"] is not None:
                limit = _limited(attempt, limit)
            if not task.is_async:
                value = await self._in_thread(attempt, limit, task.function, args, kwargs)
            elif limit is None:
                value = await cast("Awaitable[object]", task.function(*args, **kwargs))
            else:
                value = await _within(limit, cast("Awaitable[object]", task.function(*args, **kwargs)))
            if value is not None:
                if isinstance(value, Directive):
                    raise value  # noqa: TRY301  # returned or raised, it means the same
                attempt.result = encode_result(value, limit=self._max_result_bytes)
        except BaseException as error:  # noqa: BLE001  # without an outcome the job would run for ever
            self._report(attempt, error)
        else:
            self._finishes.succeeded(attempt)
        finally:
            if runtime is not None:
                runtime.is_over = True
            on_end(attempt)

    async def _in_thread(
        self,
        attempt: Attempt,
        limit: timedelta | None,
        function: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> object:
        """Call a plain function in a thread. Its timeout counts from when the thread begins.

        A thread cannot be stopped. So the attempt goes on until the function returns, and counts as timed out then: to
        give the job to somebody else meanwhile would let two attempts run at once.
        """
        context = contextvars.copy_context()
        future = self._threads.submit(context.run, _call_plainly, limit, function, *args, **kwargs)
        self._in_threads.add(future)
        future.add_done_callback(self._in_threads.discard)
        attempt.on_cancel = future.cancel  # while it waits for a thread; one that runs can ask job.is_cancelled
        return await asyncio.wrap_future(future)

    def _report(self, attempt: Attempt, error: BaseException) -> None:
        """Give the outcome of an attempt that did not simply succeed."""
        if attempt.stop == "cancel":
            self.cancelled(attempt, error)
            return
        if isinstance(error, asyncio.CancelledError) and attempt.stop is not None:
            if attempt.stop == "shutdown":
                self.release(attempt)
            return
        if isinstance(error, NotInTime):
            self.release(attempt)  # it is ended like every waiting job whose time is over
            return
        self._finishes.ended(self._unsuccess(attempt, error))

    def cancelled(self, attempt: Attempt, error: BaseException | None = None) -> None:
        """End a job that an operator has cancelled: whatever its handler raised; unless it said itself how it ends."""
        if isinstance(error, Cancel | Fail):
            self._finishes.ended(self._unsuccess(attempt, error))
            return
        traceback = ""
        if error is not None and not isinstance(error, asyncio.CancelledError):
            traceback = describe_error(error).traceback
        described = ErrorText(type="Cancelled", message=attempt.reason, traceback=traceback)
        log.info("job_cancelled", job_id=str(attempt.claimed["id"]), task=attempt.claimed["task"])
        self._finishes.ended(Unsuccess(attempt.claimed, CANCELLED, described, attempt.began))

    def release(self, attempt: Attempt) -> None:
        """Give the job back: another worker may have it at once, and this attempt does not count."""
        self._finishes.ended(Unsuccess(attempt.claimed, RELEASED, None, attempt.began))

    def unstorable(self, success: Success, error: Exception) -> Unsuccess:
        """The outcome of an attempt whose result the database itself did not take."""
        return self._unsuccess(success, InvalidResult(f"the result cannot be stored: {type(error).__name__}: {error}"))

    def _unsuccess(self, attempt: Success, error: BaseException) -> Unsuccess:
        claimed = attempt.claimed
        task, errors = self._tasks[claimed["task"]], claimed["errors"]
        decision = decide(
            error,
            errors=errors,
            max_attempts=claimed["max_attempts"],
            delay=task.backoff.delay(errors + 1, random.random()),  # noqa: S311  # jitter
        )
        described = describe_error(error)
        if isinstance(error, Directive | InvalidResult | AttemptTimeout):
            described = replace(described, traceback="")  # its text says it all
        if decision.counts:
            event = "job_failed" if isinstance(decision, Ended) else "attempt_failed"
            log.warning(event, error=described.type, outcome=decision.outcome, crashes=claimed["crashes"])
        return Unsuccess(claimed, decision, described, attempt.began)

    def close(self) -> bool:
        """Let the threads go. Returns whether one still runs: a plain function cannot be stopped from outside."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        return bool(self._in_threads)


def _call_plainly(
    limit: timedelta | None, function: Callable[..., object], /, *args: object, **kwargs: object
) -> object:
    """Call a plain function. A future cannot hold a StopIteration: whoever waits for it would never be told."""
    began = time.monotonic()
    try:
        value = function(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError("the task raised StopIteration") from error
    if limit is not None and time.monotonic() - began > limit.total_seconds():
        raise _timed_out(limit)
    return value


def _limited(attempt: Attempt, limit: timedelta | None) -> timedelta | None:
    """The attempt's limit, or what is left until the job's deadline if that is less.

    Raises `NotInTime` if no attempt may start any more: the job has waited here too long.
    """
    ends_at, _, deadline, claimed_at = attempt.claimed["times"]
    waited = timedelta(seconds=attempt.began - attempt.claimed_at)
    if ends_at <= claimed_at + waited:
        raise NotInTime
    if deadline is None:
        return limit
    left: timedelta = deadline - claimed_at - waited
    return left if limit is None else min(limit, left)


def _timed_out(limit: timedelta) -> AttemptTimeout:
    return AttemptTimeout(f"the attempt took longer than its timeout of {limit.total_seconds():g} s")


async def _within(limit: timedelta, call: Awaitable[object]) -> object:
    deadline = asyncio.timeout(limit.total_seconds())
    try:
        async with deadline:
            return await call
    except TimeoutError as error:
        if not deadline.expired():
            raise  # the handler's own
        raise _timed_out(limit) from error


__all__ = ["Attempt", "Performer"]
