"""Perform an attempt: find the task, convert the arguments, call, encode the result, report the outcome."""

from __future__ import annotations

import asyncio
import inspect
import random
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from rowlock import logs, steady
from rowlock.errors import InvalidResult, ProcessEnded, RemoteError
from rowlock.queue.finish.finishes import Unsuccess
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.lifecycle import (
    CANCELLED,
    INTERRUPTED,
    RELEASED,
    Again,
    AttemptTimeout,
    Cancel,
    Directive,
    Ended,
    Fail,
    State,
    decide,
)
from rowlock.queue.jobs.results import ErrorText, decode_result, describe_error, encode_result
from rowlock.worker.attempt.attempt import Attempt, limited
from rowlock.worker.attempt.failure_handlers import Failures
from rowlock.worker.attempt.gathering import Gathering, gathered
from rowlock.worker.attempt.middleware import call_through
from rowlock.worker.executors.threads import Threads
from rowlock.worker.timeouts import NotInTime, timed_out, within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from asyncpg import Record

    from rowlock.queue.enqueue.task import FailureHandler, Middleware, Task
    from rowlock.queue.finish.finishes import Finishes, Success
    from rowlock.worker.attempt.attempt import Observer
    from rowlock.worker.attempt.runtime import AttemptRuntime, Runtimes
    from rowlock.worker.executors.processes import Processes

log = logs.get_logger("rowlock.worker")


ONCE: Final = "its worker stopped before it was done, and max_crashes=1 allows it to begin only once"


class Performer:
    """Perform attempts and pass their outcomes to the finishes. Each attempt has an outcome, whatever its handler does.

    `perform(attempt, on_end)` runs an attempt to its end. It is one of two methods, chosen once: without middleware, no
    job pays for middleware.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        finishes: Finishes,
        runtimes: Runtimes,
        *,
        threads: int,
        most_of: Callable[[str], int],
        processes: Processes,
        max_result_bytes: int,
        middleware: Sequence[Middleware] = (),
        failure_handlers: Sequence[FailureHandler] = (),
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer
        self._finishes = finishes
        self._runtimes = runtimes
        self._max_result_bytes = max_result_bytes
        self._threads = Threads(threads, name="rowlock-task")
        self._tasks = {name: gathered(task) for name, task in tasks.items()}
        self._gatherings = {
            name: Gathering(task, task.batch, self._threads, most_of)
            for name, task in tasks.items()
            if task.batch is not None
        }
        self._processes = processes
        self._middleware = tuple(middleware)
        self._failure_handlers = failure_handlers
        self._failures = Failures()
        self.grow_threads = self._threads.grow
        self.perform: Callable[[Attempt, Callable[[Attempt], None]], Coroutine[None, None, None]]
        self.perform = self._perform_wrapped if self._middleware else self._perform

    async def _perform(  # noqa: C901, PLR0912  # every job runs it, so it avoids calls
        self, attempt: Attempt, on_end: Callable[[Attempt], None]
    ) -> None:
        """Run the attempt to its end: convert the arguments, call the handler, encode the returned value, report.

        One coroutine without a wrapper, since every job runs it.
        """
        claimed = attempt.claimed
        attempt.began = steady.seconds()
        if attempt.began >= attempt.lease.held_until or attempt.stop is not None:  # seam: lease at start
            self._come_too_late(attempt, on_end)
            return
        logs.JOB.set(claimed)
        job: Job | None = None
        runtime: AttemptRuntime | None = None
        try:
            task = self._tasks[claimed["task"]]
            if task.has_upcasters:
                claimed = attempt.claimed = task.upcasters.bring_row(claimed)
            arguments = task.arguments
            if task.has_runtime:
                runtime = attempt.runtime = self._runtimes.begin(attempt, task)
                if arguments.job_parameter is not None:
                    job = Job.from_row({**claimed, "state": "running"}, runtime)
            limit = claimed["timeout"] or task.timeout  # seam: timeout
            if task.is_async:
                if claimed["times"] is not None:
                    limit = limited(attempt, limit)
                attempt.has_begun = True
                args, kwargs = arguments.bind(claimed["args"], job)
                if limit is None:
                    value = await cast("Awaitable[object]", task.function(*args, **kwargs))
                else:
                    value = await within(limit, cast("Awaitable[object]", task.function(*args, **kwargs)))
            else:
                value = await self._elsewhere(attempt, task, limit, job)
            if value is not None:
                if isinstance(value, Directive):
                    raise value  # noqa: TRY301  # returned or raised, it means the same
                text = encode_result(value, limit=self._max_result_bytes, type_=task.checked_returns)
                if task.keeps_result:
                    attempt.result = text
            if runtime is not None:
                runtime.check()
        except BaseException as error:  # noqa: BLE001  # without an outcome the job would run for ever
            await self._report(attempt, error)
        else:
            if runtime is None:
                self._finishes.succeeded(attempt)
            else:
                await self._succeed(attempt, runtime)
        finally:
            on_end(attempt)

    async def _perform_wrapped(self, attempt: Attempt, on_end: Callable[[Attempt], None]) -> None:
        """Run the attempt to its end, with the application's middleware around the call."""
        claimed = attempt.claimed
        attempt.began = steady.seconds()
        if attempt.began >= attempt.lease.held_until or attempt.stop is not None:
            self._come_too_late(attempt, on_end)
            return
        logs.JOB.set(claimed)
        try:
            task = self._tasks[claimed["task"]]
            if task.has_upcasters:
                claimed = attempt.claimed = task.upcasters.bring_row(claimed)
            runtime = attempt.runtime = self._runtimes.begin(attempt, task)
            job = Job.from_row({**claimed, "state": "running"}, runtime)
            limit = claimed["timeout"] or task.timeout
            value = await call_through(self._middleware, job, lambda: self._call(attempt, task, limit, job))
            if attempt.is_refused:
                raise NotInTime  # noqa: TRY301  # also if middleware has suppressed it
            if isinstance(value, Directive):
                raise value  # noqa: TRY301  # returned or raised, it means the same
            text = encode_result(value, limit=self._max_result_bytes, type_=task.checked_returns)
            if task.keeps_result:
                attempt.result = text
            runtime.check()
        except BaseException as error:  # noqa: BLE001  # without an outcome the job would run for ever
            await self._report(attempt, error)
        else:
            await self._succeed(attempt, runtime)
        finally:
            on_end(attempt)

    def _come_too_late(self, attempt: Attempt, on_end: Callable[[Attempt], None]) -> None:
        """End an attempt that must not begin: it was stopped before its first step, or the process slept past the end
        of the lease, and another worker may have the job by now.
        """
        if attempt.stop == "cancel":
            self.cancelled(attempt)
        else:
            self.release(attempt)
        on_end(attempt)

    async def _succeed(self, attempt: Attempt, runtime: AttemptRuntime) -> None:
        """Write the handler's last report, then report the success, unless `job.transaction()` has recorded it."""
        await runtime.end()
        if runtime.is_recorded:
            if attempt.result not in {None, "null"} and not runtime.has_result:
                log.warning(
                    "result_not_stored",
                    why="job.transaction() committed the success before the handler returned: use job.set_result()",
                )
            self._finishes.was_recorded(attempt)
        else:
            self._finishes.succeeded(attempt)

    async def _call(self, attempt: Attempt, task: Task[..., Any], limit: timedelta | None, job: Job) -> object:
        """Call the handler for middleware. Return its value, decoded by the annotation if a process returned JSON."""
        if not task.is_async:
            value = await self._elsewhere(attempt, task, limit, job)
            return value if attempt.result is None else decode_result(attempt.result, task.returns)
        args, kwargs = task.arguments.bind(attempt.claimed["args"], job)
        limit = attempt.begin(limit)
        call = cast("Awaitable[object]", task.function(*args, **kwargs))
        return await call if limit is None else await within(limit, call)

    async def _elsewhere(
        self, attempt: Attempt, task: Task[..., Any], limit: timedelta | None, job: Job | None
    ) -> object:
        """Call a plain function in a thread and return its value; or in a process, which stores JSON in the attempt; or
        with its batch.

        The call may have to wait: an attempt that has not begun when its job expires or passes its deadline is
        released. A plain wrapper of an `async` function returns a coroutine, which is awaited here.
        The timeout counts from when the call begins. A thread cannot be stopped, so a timed-out attempt goes on until
        its function returns, and only then counts as timed out: releasing the job before would let two attempts run at
        once.
        """
        timer = None if attempt.claimed["times"] is None else _call_when_over(attempt)
        attempt.waits = True
        try:
            if task.executor == "process":
                result = await self._processes.call(task, attempt.claimed, partial(attempt.begin, limit))
                attempt.result = result if task.keeps_result else None
                return None
            args, kwargs = task.arguments.bind(attempt.claimed["args"], job)
            if task.batch is not None:
                return await self._gatherings[task.name].join(attempt, limit, *args, **kwargs)
            future = self._threads.submit(_timed, attempt, limit, task.function, *args, **kwargs)
            attempt.on_cancel = future.cancel  # works while it waits for a thread; later it can read job.is_cancelled
            value, limit, took = await asyncio.wrap_future(future)
        finally:
            attempt.on_cancel = None
            if timer is not None:
                timer.cancel()
        if not inspect.isawaitable(value):
            return value
        if attempt.stop == "cancel":
            cast("asyncio.Task[None]", attempt.running).cancel()  # the cancel came during the plain part
        return await value if limit is None else await within(limit, value, spent=took)

    async def _report(self, attempt: Attempt, error: BaseException) -> None:
        """Report the outcome of an attempt that raised an error, of any class."""
        if self._observer is not None:
            self._observer.failed(attempt, error)
        try:
            await self._settle(attempt, error)
        except BaseException as defect:  # noqa: BLE001  # the error's methods raise, or it is an unknown directive
            log.error("error_not_understood", why=type(defect).__name__)  # noqa: TRY400  # logging it may raise again
            plain = RuntimeError("the handler raised an error that cannot be read: see the worker's log")
            self._finishes.ended(self._unsuccess(attempt, plain))

    async def _settle(self, attempt: Attempt, error: BaseException) -> None:
        """Decide the outcome and report it. Call the failure handlers before, if the job has failed for good."""
        if attempt.runtime is not None:
            await attempt.runtime.end(is_lost=attempt.stop == "lease")
            if attempt.runtime.is_recorded:
                shown = None if self._tasks[attempt.claimed["task"]].is_sensitive else error
                log.warning("handler_failed_after_commit", error=type(error).__name__, exc_info=shown)
                self._finishes.was_recorded(attempt)
                return
        if attempt.stop == "cancel" and not isinstance(error, Cancel | Fail):
            self.cancelled(attempt, error)
            return
        if isinstance(error, NotInTime) or attempt.stop == "wait":
            self.release(attempt)  # a job whose time is over ends later, like every waiting one
            return
        if attempt.stop is not None and not isinstance(error, Directive):
            if attempt.stop == "shutdown" or attempt.lease.is_cut_off or not attempt.has_begun:
                self.interrupt(attempt)  # fenced: refused if the job was rescued from this lease meanwhile
            return
        unsuccess = self._unsuccess(attempt, error)
        task = self._tasks[attempt.claimed["task"]]
        handlers = (*task.failure_handlers, *self._failure_handlers)
        if handlers and isinstance(unsuccess.decision, Ended) and unsuccess.decision.state is State.FAILED:
            try:
                await self._failures.tell(handlers, _failed(unsuccess), error, is_sensitive=task.is_sensitive)
            except asyncio.CancelledError:
                log.warning("failure_handlers_cut_short", why=attempt.stop)
                if attempt.stop == "lease" and not attempt.lease.is_cut_off:
                    return
        self._finishes.ended(unsuccess)

    def cancelled(self, attempt: Attempt, error: BaseException | None = None) -> None:
        """End a job that an operator has cancelled, whatever its handler raised."""
        traceback = ""
        if error is not None and not isinstance(error, asyncio.CancelledError):
            traceback = describe_error(error).traceback
        described = ErrorText(type="Cancelled", message=attempt.reason, traceback=traceback)
        log.info("job_cancelled", job_id=str(attempt.claimed["id"]), task=attempt.claimed["task"])
        self._finishes.ended(Unsuccess(attempt.claimed, CANCELLED, described, attempt.began))

    def release(self, attempt: Attempt, after: float = 0.0) -> None:
        """Release a job that did not begin. It is due again after this many seconds."""
        self._give_back(attempt, replace(RELEASED, delay=timedelta(seconds=after)) if after else RELEASED)

    def interrupt(self, attempt: Attempt) -> None:
        """Release a job whose attempt was stopped. The attempt does not count.

        A job of a task with `max_crashes=1` that has begun must not begin again: it fails.
        """
        if not attempt.has_begun:
            self.release(attempt)
        elif self._tasks[attempt.claimed["task"]].max_crashes != 1:
            if not attempt.is_recorded:
                log.warning("job_given_back", **_named(attempt.claimed), why=attempt.stop)
            self._give_back(attempt, INTERRUPTED)
        elif not attempt.is_recorded:
            self._finishes.ended(self._unsuccess(attempt, Fail(ONCE)))

    def _give_back(self, attempt: Attempt, decision: Again) -> None:
        if not attempt.is_recorded:
            self._finishes.ended(Unsuccess(attempt.claimed, decision, None, attempt.began))

    def unstorable(self, success: Success, error: Exception) -> Unsuccess:
        """The outcome of an attempt whose result the database rejected."""
        return self._unsuccess(success, InvalidResult(f"the result cannot be stored: {type(error).__name__}: {error}"))

    def _unsuccess(self, attempt: Success, error: BaseException) -> Unsuccess:
        claimed = attempt.claimed
        task, errors = self._tasks[claimed["task"]], claimed["errors"]
        decision = decide(
            error,
            errors=errors,
            max_attempts=claimed["max_attempts"],
            delay=lambda: task.backoff.delay(errors + 1, random.random(), error),  # noqa: S311  # jitter
            may_retry=task.rules.allow(error),
        )
        described = describe_error(error)
        if isinstance(error, Directive | InvalidResult | AttemptTimeout | ProcessEnded) and error.__cause__ is None:
            described = replace(described, traceback="")  # its message suffices
        if decision.counts:
            self._log(claimed, decision, described, error, is_sensitive=task.is_sensitive)
        return Unsuccess(claimed, decision, described, attempt.began)

    def _log(
        self, claimed: Record, decision: Again | Ended, text: ErrorText, error: BaseException, *, is_sensitive: bool
    ) -> None:
        """Log a failed attempt: a job's last one as an error, with the traceback if it has one, others as a warning."""
        fields = _named(claimed) | {"error": text.type, "outcome": decision.outcome, "crashes": claimed["crashes"]}
        if not is_sensitive:
            fields["detail"] = text.message
        if not isinstance(decision, Ended):
            log.warning("attempt_failed", **fields, retry_in=round(decision.delay.total_seconds(), 3))
        elif is_sensitive or not text.traceback:
            log.error("job_failed", **fields)
        elif isinstance(error, RemoteError):
            log.error("job_failed", **fields, exc_info=error, stack=text.traceback)
        else:
            log.error("job_failed", **fields, exc_info=error)

    @property
    def has_busy_threads(self) -> bool:
        """Whether a plain function runs in a thread, a failure handler included."""
        return self._threads.are_busy or self._failures.has_busy_threads

    async def close(self) -> None:
        """End the processes and the idle threads. Busy threads cannot be stopped."""
        await self._processes.close()
        self._threads.close()
        self._failures.close()


def _timed(
    attempt: Attempt, limit: timedelta | None, function: Callable[..., object], /, *args: object, **kwargs: object
) -> tuple[object, timedelta | None, float]:
    """Begin the attempt and call a plain function. Raise `AttemptTimeout` afterwards if it took too long.

    Returns its value, its limit, and the seconds it took.
    """
    limit = attempt.begin(limit)
    value = function(*args, **kwargs)
    took = steady.seconds() - attempt.began
    if limit is not None and took > limit.total_seconds():
        raise timed_out(limit)
    return value, limit, took


def _call_when_over(attempt: Attempt) -> asyncio.TimerHandle:
    """Release the attempt if it has not begun when its job expires or passes its deadline."""
    ends_at, _, _, claimed_at = attempt.claimed["times"]
    left = (ends_at - claimed_at).total_seconds() - (steady.seconds() - attempt.asked_at)
    return asyncio.get_running_loop().call_later(left, attempt.stop_waiting)  # seam: expiry timer


def _named(claimed: Record) -> dict[str, Any]:
    """The fields that identify a job and its attempt in the log."""
    return {"job_id": str(claimed["id"]), **{name: claimed[name] for name in ("queue", "task", "attempt")}}


def _failed(unsuccess: Unsuccess) -> Job:
    """The job as it will be once the outcome is recorded."""
    claimed, error = unsuccess.claimed, unsuccess.error
    text = None if error is None else f"{error.type}: {error.message}" if error.message else error.type
    return Job.from_row({**claimed, "state": "failed", "errors": claimed["errors"] + 1, "error": text})


__all__ = ["Performer"]
