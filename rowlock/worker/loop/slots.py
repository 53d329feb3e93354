"""The slots of one worker: which attempts run, which are claimed and wait for a slot, and how many more to claim."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from rowlock import steady
from rowlock.worker.attempt.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
    from uuid import UUID

    from asyncpg import Record

    from rowlock.worker.attempt.attempt import Observer
    from rowlock.worker.vitals.lease import Lease

PREFETCH_SECONDS: Final = 0.05
PREFETCH_MOST: Final = 2000
"""How many jobs are claimed ahead of the slots: as many as end in this time, by the recent pace. Long jobs are not
claimed ahead, so that another worker can claim them; short ones are, so that neither Python nor the database waits."""

STALE_SECONDS: Final = 2.0
"""A job that waited this long for a slot is released: the pace has changed, and another worker may be free."""


class Pace:
    """How many jobs to claim ahead, by how many ended lately."""

    def __init__(self) -> None:
        self._at, self._done, self._per_second = steady.seconds(), 0, 0.0
        self.ahead = 0

    def measure(self, done: int) -> None:
        """Update the pace by the number of attempts that have ended so far."""
        now = steady.seconds()
        if (elapsed := now - self._at) < PREFETCH_SECONDS / 5:
            return
        self._per_second = 0.5 * self._per_second + 0.5 * (done - self._done) / elapsed
        self._at, self._done = now, done
        self.ahead = min(int(self._per_second * PREFETCH_SECONDS), PREFETCH_MOST)


class Executor:
    """A worker's threads or processes, which run the attempts of some tasks, at most `most` at once."""

    def __init__(self, tasks: Iterable[str], most: int) -> None:
        self.tasks: Final = frozenset(tasks)
        self.most: Final = most
        self.in_use = 0
        self.waiting = 0
        """How many claimed jobs wait for it."""
        self.done = 0
        self.pace = Pace()

    def room(self) -> int:
        """How many more jobs of its tasks to claim now."""
        self.pace.measure(self.done)
        if self.waiting > self.pace.ahead // 2:
            return 0
        return self.most + self.pace.ahead - self.in_use - self.waiting


class Slots:
    """Run at most `concurrency` attempts at once, of a queue in `limits` at most its limit, of an executor at most its.

    An attempt whose executor is busy waits outside the slots, not in one. `earlier` are the slots of earlier shifts of
    the worker: their attempts were stopped, and some may not have ended yet.
    """

    def __init__(
        self,
        concurrency: int,
        limits: Mapping[str, int],
        perform: Callable[[Attempt, Callable[[Attempt], None]], Coroutine[None, None, None]],
        on_limit_freed: Callable[[], None],
        executors: Sequence[Executor] = (),
        *,
        earlier: Sequence[Slots] = (),
        observer: Observer | None = None,
    ) -> None:
        self._concurrency = concurrency
        self._limits = limits
        self._perform = perform
        self._on_limit_freed = on_limit_freed
        self._earlier = earlier
        self._observer = observer
        self._on_end = self._ended if observer is None else self._ended_observed
        self._held: dict[bytes, Attempt] = {}  # all attempts that run or wait for a slot, by the id of the job
        self._ready: deque[Attempt] = deque()
        self._in_use = 0
        self.doubled: set[UUID] = set()
        """Jobs that were claimed again while they ran or waited here; the second claims did not start."""
        self._of_limited: Counter[str] = Counter()
        self._executors = executors
        self._executor_of: dict[str, Executor] = {}  # the binding executors, by task
        self._pace = Pace()
        self._done = 0
        self._changed = asyncio.Event()
        self._context = contextvars.copy_context()
        self._create_task = asyncio.get_running_loop().create_task  # asyncio.create_task looks up the loop each time
        self._bind()

    @property
    def concurrency(self) -> int:
        """How many attempts may run at once."""
        return self._concurrency

    def resize(self, concurrency: int, limits: Mapping[str, int], paused: Collection[str]) -> list[Attempt]:
        """Change the concurrency and the limits. Raising them starts attempts at once; lowering them stops none.

        Returns claimed attempts that did not start and must not start now, to be released.
        """
        self._concurrency, self._limits = concurrency, limits
        held = Counter(attempt.claimed["queue"] for attempt in self._held.values())
        self._of_limited = Counter({queue: count for queue, count in held.items() if queue in limits})
        self._bind()
        surplus = self.take_surplus(paused)
        self._fill()
        self._changed.set()
        self._on_limit_freed()
        return surplus

    @property
    def running(self) -> frozenset[Attempt]:
        """The attempts that run now."""
        return frozenset(attempt for attempt in self._held.values() if attempt.running is not None)

    def holds(self, job: UUID) -> bool:
        """Whether an attempt of this job runs here, or waits for its slot."""
        return job.bytes in self._held

    def known(self) -> set[UUID]:
        """The jobs that run here, or wait for a slot."""
        return {attempt.claimed["id"] for attempt in self._held.values()}

    @property
    def done(self) -> int:
        """How many attempts have ended so far."""
        return self._done

    @property
    def is_empty(self) -> bool:
        """Whether no attempt runs or waits."""
        return not self._held

    @property
    def in_use(self) -> int:
        """How many attempts run now."""
        return self._in_use

    @property
    def ahead(self) -> int:
        """How many claimed jobs wait for a slot."""
        return len(self._ready)

    @property
    def binding(self) -> tuple[Executor, ...]:
        """The executors that run fewer attempts than there are slots: their tasks are claimed apart from the others."""
        return tuple(executor for executor in self._executors if executor.most < self._concurrency)

    def room(self, executor: Executor | None = None) -> int:
        """How many more jobs to claim now, of this executor's tasks, or of the tasks without a binding executor.

        Zero while enough jobs are claimed ahead.
        """
        self._pace.measure(self._done)
        ready, ahead = len(self._ready), self._pace.ahead
        if executor is not None:
            return max(min(executor.room(), self._concurrency + ahead - self._in_use - ready), 0)
        if self._executor_of:
            ready -= sum(binding.waiting for binding in self.binding)
        if ready > ahead // 2:
            return 0
        return self._concurrency + ahead - self._in_use - ready

    def limits(self) -> dict[str, int]:
        """How many more jobs each limited queue may have here."""
        return {queue: limit - self._of_limited[queue] for queue, limit in self._limits.items()}  # seam: free slots

    def most_of(self, queue: str) -> int:
        """How many attempts of this queue can run at once."""
        return min(self._concurrency, self._limits.get(queue, self._concurrency))

    def add(self, rows: Sequence[Record], lease: Lease, asked_at: float | None = None) -> list[Attempt]:
        """Add jobs claimed under this lease. Each starts at once if a slot is free, or as soon as one is.

        `asked_at` is when the claim was sent, by the clock of leases; the default is now.

        A job that runs or waits here already is left out, and noted in `doubled`: the database has gone back to a time
        before its earlier claim (a failover to a standby that was behind, a restored backup). Returns the attempts that
        must not start here, to be released: an attempt of the same job under an earlier lease was stopped and has not
        ended.
        """
        now, blocked = steady.seconds(), []
        for row in rows:
            attempt = Attempt(row, now, lease, asked_at)
            held = self._held.setdefault(row["id"].bytes, attempt)  # seam: hold
            if held is not attempt:
                self.doubled.add(row["id"])
                continue
            if self._earlier and any(slots.holds(row["id"]) for slots in self._earlier):
                del self._held[row["id"].bytes]
                blocked.append(attempt)  # seam: blocked
                continue
            self._ready.append(attempt)
            if self._executor_of and (executor := self._executor_of.get(row["task"])) is not None:
                executor.waiting += 1
            if self._limits and row["queue"] in self._limits:
                self._of_limited[row["queue"]] += 1
        self._fill()
        return blocked

    async def changed(self, timeout: float) -> bool:
        """Wait until there may be room again, at most `timeout` seconds; False if there is none by then."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                return await self._changed.wait()
        except TimeoutError:
            return False

    def take_ready(self, *, older_than: float = 0.0) -> list[Attempt]:
        """Remove claimed jobs that did not start and have waited longer than `older_than` seconds, to release them."""
        limit = steady.seconds() - older_than
        taken: list[Attempt] = []
        while self._ready and self._ready[0].claimed_at <= limit:
            attempt = self._ready.popleft()
            self._drop(attempt)
            taken.append(attempt)
        return taken

    def take_surplus(self, paused: Collection[str]) -> list[Attempt]:
        """Remove claimed jobs that did not start and are of paused queues or beyond a limit, to release them.

        Attempts of paused queues that wait inside their slots release themselves.
        """
        taken = []
        if paused:
            self.stop_waiting(paused)
        for attempt in reversed(list(self._ready)):
            queue = attempt.claimed["queue"]
            if queue in paused or (queue in self._limits and self._of_limited[queue] > self._limits[queue]):
                self._ready.remove(attempt)
                self._drop(attempt)
                taken.append(attempt)
        return taken

    def stop_waiting(self, queues: Collection[str] | None = None) -> None:
        """Stop attempts that wait inside their slots and did not begin: all, or of these queues. They are released."""
        for attempt in self.running:
            if queues is None or attempt.claimed["queue"] in queues:
                attempt.stop_waiting()

    def stop(self, why: str) -> None:
        """Cancel all running attempts."""
        for attempt in self.running:
            if attempt.stop is None or why == "lease":  # an operator's cancel overrides a shutdown
                attempt.stop = why
            self._interrupt(attempt)

    def cancel(self, wanted: Mapping[tuple[UUID, int], str]) -> list[Attempt]:
        """Cancel attempts for an operator, by job and number, with a reason. Each is cancelled once.

        Returns the attempts that waited for a slot: they are removed, and never start.
        """
        for attempt in self.running:
            reason = wanted.get((attempt.claimed["id"], attempt.claimed["attempt"]))
            if reason is not None and attempt.stop is None:
                attempt.stop, attempt.reason = "cancel", reason
                if attempt.on_cancel is None:
                    self._interrupt(attempt)
                else:
                    attempt.on_cancel()
        waiting = [attempt for attempt in self._ready if (attempt.claimed["id"], attempt.claimed["attempt"]) in wanted]
        for attempt in waiting:
            attempt.stop, attempt.reason = "cancel", wanted[attempt.claimed["id"], attempt.claimed["attempt"]]
            self._ready.remove(attempt)
            self._drop(attempt)
        return waiting

    def _interrupt(self, attempt: Attempt) -> None:
        if attempt.running is not None:
            # Not at once: a task that is cancelled before its first step would never leave its slot.
            asyncio.get_running_loop().call_soon(attempt.running.cancel)

    def _bind(self) -> None:
        """Find the binding executors, and count their attempts."""
        self._executor_of = {task: executor for executor in self.binding for task in executor.tasks}
        for executor in self.binding:
            of_it = [attempt for attempt in self._held.values() if attempt.claimed["task"] in executor.tasks]
            executor.in_use = sum(attempt.running is not None for attempt in of_it)
            executor.waiting = len(of_it) - executor.in_use

    def _fill(self) -> None:
        if self._executor_of:
            self._fill_with_what_can_run()
            return
        while self._ready and self._in_use < self._concurrency:
            attempt = self._ready.popleft()
            self._in_use += 1
            # Not in the context of the job that has just ended: its variables must not reach this one.
            attempt.running = self._create_task(self._perform(attempt, self._on_end), context=self._context.copy())

    def _fill_with_what_can_run(self) -> None:
        """Start waiting attempts in their order, except those whose executor is busy."""
        place = 0
        while place < len(self._ready) and self._in_use < self._concurrency:
            attempt = self._ready[place]
            executor = self._executor_of.get(attempt.claimed["task"])
            if executor is not None:
                if executor.in_use >= executor.most:
                    place += 1
                    continue
                executor.waiting -= 1
                executor.in_use += 1
            del self._ready[place]
            self._in_use += 1
            attempt.running = self._create_task(self._perform(attempt, self._on_end), context=self._context.copy())

    def _ended_observed(self, attempt: Attempt) -> None:
        if self._observer is not None:
            self._observer.ended(attempt)
        self._ended(attempt)

    def _ended(self, attempt: Attempt) -> None:
        self._in_use -= 1
        self._done += 1
        if self._executor_of:
            if (executor := self._executor_of.get(attempt.claimed["task"])) is not None:
                executor.in_use -= 1
                executor.done += 1
            self._on_limit_freed()
        if self._limits:
            self._leave(attempt)
        else:
            del self._held[attempt.claimed["id"].bytes]  # seam: end of an attempt
        if self._ready:
            self._fill()
        if self._executor_of or len(self._ready) <= self._pace.ahead // 2:
            self._changed.set()

    def _drop(self, attempt: Attempt) -> None:
        """Remove a waiting attempt."""
        if self._executor_of and (executor := self._executor_of.get(attempt.claimed["task"])) is not None:
            executor.waiting -= 1
        self._leave(attempt)

    def _leave(self, attempt: Attempt) -> None:
        del self._held[attempt.claimed["id"].bytes]  # seam: leave
        queue = attempt.claimed["queue"]
        if queue in self._limits:
            self._of_limited[queue] -= 1
            self._changed.set()
            self._on_limit_freed()
