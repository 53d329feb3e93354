"""The gathering of a batch task: its attempts wait for each other, and one call handles them all.

Each job stays an attempt of its own, in a slot of its own. Where an attempt of another task calls its function, an
attempt of a batch task joins the gathering. The gathering calls the function once for all, and returns each attempt
its own outcome. The attempts begin with that call, which leaves out those that must not begin any more.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import structlog

from rowlock.errors import InvalidResult
from rowlock.queue.jobs.lifecycle import AttemptTimeout
from rowlock.worker.timeouts import NotInTime, within

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from datetime import timedelta
    from types import TracebackType

    from rowlock.queue.enqueue.task import Task
    from rowlock.queue.jobs.job import Job
    from rowlock.queue.tasks.batch import Batch
    from rowlock.worker.attempt.attempt import Attempt
    from rowlock.worker.executors.threads import Threads


def gathered(task: Task[..., Any]) -> Task[..., Any]:
    """The task as the worker performs it: a batch task as one that is called elsewhere, any other task unchanged."""
    if task.batch is None:
        return task
    performed = copy.copy(task)
    performed.is_async = False  # the gathering calls it, for several jobs at once
    return performed


class Gathering:
    """Gather the attempts of one task, and call its function for each batch of them.

    `most` returns how many attempts of a queue can run at once: no batch can be larger.
    """

    def __init__(self, task: Task[..., Any], batch: Batch, threads: Threads, most: Callable[[str], int]) -> None:
        self._task = task
        self._batch = batch
        self._threads = threads
        self._most = most
        self._waiting: list[_Member] = []
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()  # the only references to calls whose members have all left
        self._context = contextvars.copy_context()

    async def join(self, attempt: Attempt, limit: timedelta | None, item: object, job: Job | None = None) -> object:
        """Wait for the call, and return this job's value, or raise its error.

        The attempt begins with the call; its limit counts from there. A cancel before the call makes it leave at once.
        A cancel during the call makes it leave at the end of the call: its job must not run again elsewhere meanwhile.
        The call is cancelled once all attempts are to leave.
        """
        member = _Member(attempt, limit, item, job)
        self._waiting.append(member)
        self._begin_or_wait()
        try:
            limit = None if member.begun is None else await member.begun
            outcome, traceback = await (member.outcome if limit is None else within(limit, member.outcome))
        except (asyncio.CancelledError, AttemptTimeout):
            if member.call is None:
                self._leave(member)
            else:
                await member.call.wait_to_leave(member)
            raise
        if isinstance(outcome, BaseException):
            raise outcome.with_traceback(traceback)  # the original traceback: other jobs may raise the same error
        return outcome

    def _begin_or_wait(self) -> None:
        if len(self._waiting) >= min(self._batch.size, self._most(self._task.queue)):
            self._begin()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batch.wait.total_seconds(), self._begin)

    def _leave(self, member: _Member) -> None:
        self._waiting.remove(member)
        if not self._waiting:
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._stop_timer()
        members, self._waiting = self._waiting, []
        call = _Call(self._task, self._batch, members, self._threads)
        # In no job's context: a variable that one job has set must not reach the others.
        call.running = asyncio.get_running_loop().create_task(call.run(), context=self._context.copy())
        self._calls.add(call.running)
        call.running.add_done_callback(self._calls.discard)


class _Member:
    """One attempt in the gathering: its job's arguments, and futures for its begin and its outcome."""

    __slots__ = ("attempt", "begun", "call", "item", "job", "limit", "outcome")

    def __init__(self, attempt: Attempt, limit: timedelta | None, item: object, job: Job | None) -> None:
        self.attempt = attempt
        self.limit = limit
        self.item = item
        self.job = job
        self.call: _Call | None = None
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[timedelta | None] | None = None
        """Resolves to the attempt's limit when it begins; None if the attempt cannot have a limit."""
        if limit is not None or attempt.claimed["times"] is not None:
            self.begun = loop.create_future()
        self.outcome: asyncio.Future[tuple[object, TracebackType | None]] = loop.create_future()

    def begin(self) -> bool:
        """Begin the attempt. Return whether it still may begin. May be called in a thread."""
        try:
            self.limit = self.attempt.begin(self.limit)
        except NotInTime:
            return False
        return True


class _Call:
    """One call of a batch handler."""

    def __init__(self, task: Task[..., Any], batch: Batch, members: Sequence[_Member], threads: Threads) -> None:
        self._task = task
        self._batch = batch
        self._members = members
        self._refused: Sequence[_Member] = ()
        self._threads = threads
        self._staying = set(members)
        self._in_thread: Future[object] | None = None
        self._loop = asyncio.get_running_loop()
        self.running: asyncio.Task[None] | None = None
        for member in members:
            member.call = self

    async def run(self) -> None:
        """Call the handler, and set the outcome of each member."""
        structlog.contextvars.bind_contextvars(task=self._task.name, jobs=len(self._members))
        outcomes: Sequence[object]
        traceback: TracebackType | None = None
        try:
            outcomes = self._outcomes(await self._handle())
        except BaseException as error:  # noqa: BLE001  # without an outcome the jobs would run for ever
            outcomes, traceback = [error] * len(self._members), error.__traceback__
        for member, outcome in zip(self._members, outcomes, strict=True):
            if not member.outcome.done():
                member.outcome.set_result((outcome, traceback))

    async def wait_to_leave(self, member: _Member) -> None:
        """Wait until the call ends, or until cancelled once more. The last member to leave cancels the call.

        A member that has not begun leaves at once. A thread cannot be stopped: a call in one ends when it returns.
        """
        self._staying.discard(member)
        if self.running is None or self.running.done():
            return
        self._end_if_deserted()
        if member.attempt.has_begun:
            await asyncio.wait([self.running])

    def _end_if_deserted(self) -> None:
        if self._staying or self.running is None:
            return
        if self._in_thread is None:
            self.running.cancel()
        else:
            self._in_thread.cancel()  # while it waits for a thread

    async def _handle(self) -> object:
        if self._task.is_async:
            arguments = self._begin()
            self._tell()
            if not self._members:
                return None
            return await cast("Awaitable[object]", self._task.function(**arguments))
        self._in_thread = self._threads.submit(self._handle_in_thread)
        returned = await asyncio.wrap_future(self._in_thread)
        self._in_thread = None
        if not inspect.isawaitable(returned):
            return returned
        self._end_if_deserted()  # the plain part could not be cancelled
        return await returned

    def _handle_in_thread(self) -> object:
        arguments = self._begin()
        self._loop.call_soon_threadsafe(self._tell)
        if not self._members:
            return None
        return self._task.function(**arguments)

    def _begin(self) -> dict[str, list[Any]]:
        """Begin the attempts that still may begin. Return the arguments of the call for them."""
        began = [member for member in self._members if member.begin()]
        if len(began) < len(self._members):
            self._refused = [member for member in self._members if not member.attempt.has_begun]
        self._members = began
        return self._batch.lists([member.item for member in began], [it.job for it in began])

    def _tell(self) -> None:
        """Notify the attempts that they have begun, or must not begin."""
        for member in self._refused:
            if not member.outcome.done():
                member.outcome.set_result((NotInTime(), None))
        self._staying.difference_update(self._refused)
        for member in (*self._members, *self._refused):
            if member.begun is not None and not member.begun.done():
                member.begun.set_result(member.limit)

    def _outcomes(self, returned: object) -> Sequence[object]:
        """An outcome for each job, in the order of the jobs. Raises `InvalidResult` unless each job has one."""
        count = len(self._members)
        if returned is None:
            return [None] * count
        if not isinstance(returned, list):
            raise InvalidResult(
                f"a batch handler must return a list with an outcome for each job, or None if all have succeeded; got "
                f"`{type(returned).__name__}`"
            )
        if len(returned) != count:
            raise InvalidResult(
                f"a batch handler must return an outcome for each job; got {len(returned)} outcomes for {count} jobs"
            )
        return returned


__all__ = ["Gathering", "gathered"]
