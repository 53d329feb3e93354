"""The gathering of a batch task: attempts that come to run wait for each other, and are handled in one call.

Each job stays an attempt of its own, in a slot of its own. Where another task's attempt calls its function, that of a
batch task joins the gathering, which calls the function once for all and gives each its own outcome. The attempts
begin with that call: those that must not any more are left out of it.
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
    """The task as the worker performs it: itself, or one that is not called on its own."""
    if task.batch is None:
        return task
    performed = copy.copy(task)
    performed.is_async = False  # it is called elsewhere, with the others
    return performed


class Gathering:
    """Gathers the attempts of one task, and calls its function for each batch of them.

    `most` says how many attempts of a queue can run at once: no batch can have more.
    """

    def __init__(self, task: Task[..., Any], batch: Batch, threads: Threads, most: Callable[[str], int]) -> None:
        self._task = task
        self._batch = batch
        self._threads = threads
        self._most = most
        self._waiting: list[_Member] = []
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()  # nothing else keeps a call whose members all had to go
        self._context = contextvars.copy_context()

    async def join(self, attempt: Attempt, limit: timedelta | None, item: object, job: Job | None = None) -> object:
        """Wait for the call, and return this job's value, or raise its error.

        The attempt begins with the call; its limit counts from there. Cancelled before the call, it leaves at once.
        During the call it goes when the call is over: its job could run again by then, and must not run twice at a
        time. The call is cancelled once all want to go.
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
            raise outcome.with_traceback(traceback)  # anew: the same error may be that of other jobs
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
        # In no job's context: what one of them has set is not the others'.
        call.running = asyncio.get_running_loop().create_task(call.run(), context=self._context.copy())
        self._calls.add(call.running)
        call.running.add_done_callback(self._calls.discard)


class _Member:
    """One attempt in the gathering: what its job was enqueued with, and what becomes of it."""

    __slots__ = ("attempt", "begun", "call", "item", "job", "limit", "outcome")

    def __init__(self, attempt: Attempt, limit: timedelta | None, item: object, job: Job | None) -> None:
        self.attempt = attempt
        self.limit = limit
        self.item = item
        self.job = job
        self.call: _Call | None = None
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[timedelta | None] | None = None
        """Its limit, once it has begun; None if it has no limit."""
        if limit is not None or attempt.claimed["times"] is not None:
            self.begun = loop.create_future()
        self.outcome: asyncio.Future[tuple[object, TracebackType | None]] = loop.create_future()

    def begin(self) -> bool:
        """Begin, if the attempt still may. May be called in a thread."""
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
        """Call the handler, and give each member its outcome."""
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
        """Wait until the call is over, or until cancelled once more; the last one who has to go ends it, if it can.

        One that has not begun leaves at once. A thread cannot be stopped: what runs in one is over when it returns.
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
        self._end_if_deserted()  # it could not be ended in the plain part
        return await returned

    def _handle_in_thread(self) -> object:
        arguments = self._begin()
        self._loop.call_soon_threadsafe(self._tell)
        if not self._members:
            return None
        return self._task.function(**arguments)

    def _begin(self) -> dict[str, list[Any]]:
        """Begin with those whose attempts still may. Returns the arguments of the call."""
        began = [member for member in self._members if member.begin()]
        if len(began) < len(self._members):
            self._refused = [member for member in self._members if not member.attempt.has_begun]
        self._members = began
        return self._batch.lists([member.item for member in began], [it.job for it in began])

    def _tell(self) -> None:
        """Tell the attempts that they have begun, or that they must not."""
        for member in self._refused:
            if not member.outcome.done():
                member.outcome.set_result((NotInTime(), None))
        self._staying.difference_update(self._refused)
        for member in (*self._members, *self._refused):
            if member.begun is not None and not member.begun.done():
                member.begun.set_result(member.limit)

    def _outcomes(self, returned: object) -> Sequence[object]:
        """An outcome for each job, in their order. Raises `InvalidResult` for what says nothing of some."""
        count = len(self._members)
        if returned is None:
            return [None] * count
        if not isinstance(returned, list):
            raise InvalidResult(
                f"a batch handler returns a list with an outcome for each job, or None if all have succeeded: this "
                f"one returned `{type(returned).__name__}`"
            )
        if len(returned) != count:
            raise InvalidResult(
                f"a batch handler returns an outcome for each job: this one returned {len(returned)} for {count} jobs"
            )
        return returned


__all__ = ["Gathering", "gathered"]
