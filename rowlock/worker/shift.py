"""One run of a worker, from its start to its stop: makes what works in it, and stops without losing anything."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from rowlock import logs, steady
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.server_errors import CONNECTION_LOST, not_allowed, unavailable
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.finish.finishes import Finishes
from rowlock.worker.attempt.attempt import Attempt
from rowlock.worker.attempt.performer import Performer
from rowlock.worker.attempt.runtime import Runtimes
from rowlock.worker.duties.runner import LOCK_WAIT, Upkeep
from rowlock.worker.loop.doze import Doze
from rowlock.worker.loop.main_loop import TRANSIENT, MainLoop
from rowlock.worker.loop.orders import Orders
from rowlock.worker.loop.slots import Executor, Slots
from rowlock.worker.loop.suspects import Alone
from rowlock.worker.ticker import Ticker
from rowlock.worker.timeouts import to_the_end
from rowlock.worker.vitals.figures import WorkerFigures
from rowlock.worker.vitals.lease import Lease, Renewals
from rowlock.worker.vitals.memory import resident_bytes
from rowlock.worker.vitals.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from rowlock.queue.claim.served import Served
    from rowlock.queue.connect.database import Database
    from rowlock.queue.enqueue.task import FailureHandler, Middleware, Task
    from rowlock.queue.finish.finishes import Success, Unsuccess
    from rowlock.queue.schedules.schedule import Declared
    from rowlock.worker.executors.processes import Processes
    from rowlock.worker.vitals.counts import Counts

log = logs.get_logger("rowlock.worker")

LAST_SECONDS: Final = 3.0
"""How long cancelled handlers may take to end, once the grace period is over."""


class Shift:
    """All that exists of a worker only while it works: its connections, its lease, its slots, and what fills them.

    A lost lease does not end it: the worker then goes on under another lease, which is another id. It ends when
    `stopping` is set; `grace` gives the seconds that its handlers have then.
    """

    def __init__(
        self,
        database: Database,
        dsn: str,
        tasks: Mapping[str, Task[..., Any]],
        served: Served,
        *,
        concurrency: int,
        most_threads: int | None,
        processes: Processes,
        middleware: Sequence[Middleware],
        failure_handlers: Sequence[FailureHandler],
        stopping: asyncio.Event,
        grace: Callable[[], float],
        stop: Callable[[], None],
        counts: Counts,
    ) -> None:
        settings = database.settings
        self._database = database
        self._tasks = tasks
        self._counts = counts
        self._concurrency = concurrency
        self._most_threads = most_threads
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._is_closing = self._is_closed = False
        self._given_back: list[Attempt] = []
        self.background: list[asyncio.Task[None]] = []
        """What goes on beside the claims; it ends when it is cancelled."""
        self.claiming = ControlConnection(settings, dsn, purpose="claim")
        self.finishing = ControlConnection(settings, dsn, purpose="finish")
        self.upkeeping = ControlConnection(settings, dsn, purpose="upkeep", lock_wait=LOCK_WAIT)
        self.watchdog = Watchdog(settings.blocked_loop_after.total_seconds(), lambda: self.slots.running)
        self._dsn = dsn
        self.renewals = Renewals()
        self.lease = self._new_lease()
        """The last lease. `open` begins the first one."""
        self._let_go_of: Lease | None = None
        known = [name for task in tasks.values() for name in task.claimed_as]
        self.claims = Claims(self.claiming, served.names, known, max_crashes=settings.max_crashes)
        self.doze = Doze(settings, self.claiming, self.claims, lambda: self.lease.worker)
        self.finishes = Finishes(self.finishing, self._unstorable, self._counts.note_outcomes)
        self.runtimes = Runtimes(settings, dsn, tasks.values(), lambda: self.lease.worker)
        self.performer = Performer(
            tasks,
            self.finishes,
            self.runtimes,
            threads=min(concurrency, most_threads or concurrency),
            most_of=lambda queue: self.slots.most_of(queue),  # noqa: PLW0108  # which are made of the performer
            processes=processes,
            max_result_bytes=settings.max_result_bytes,
            middleware=middleware,
            failure_handlers=failure_handlers,
        )
        logs.WORKER.set(lambda: self.lease.worker)  # for the slots, whose attempts run in copies of this context
        limits = {queue: limit for queue in served.names if (limit := served.limit(queue)) is not None}
        self.slots = Slots(
            concurrency, limits, self.performer.perform, self.doze.wake, _executors(tasks, processes, most_threads)
        )
        self._shares: Sequence[tuple[Claims, Executor | None]] = [(self.claims, None)]
        self._divide_claims()
        self.orders = Orders(
            served,
            self.claims,
            self.slots,
            worker=lambda: self.lease.worker,
            give_back=self._give_back,
            stop=stop,
        )
        self.alone = Alone(
            self.claims,
            self.slots,
            self.finishes,
            stopping=stopping,
            is_quiet=lambda: self.orders.is_quiet,
            lease=lambda: self.lease,
            release=self.performer.release,
            wake=self.doze.wake,
        )
        self.upkeep = Upkeep(
            settings,
            self.upkeeping,
            self.claims,
            database,
            worker=lambda: self.lease.worker,
            on_cancel=self._cancel,
            alone=self.alone,
            orders=self.orders,
        )
        self.ticker = Ticker(self.upkeeping, tasks)
        self.main_loop = MainLoop(
            self.claims,
            self.slots,
            self.finishes,
            shares=lambda: self._shares,
            doze=self.doze,
            alone=self.alone,
            orders=self.orders,
            counts=self._counts,
            lease=lambda: self.lease,
            stopping=stopping,
            register=self._register,
            release=self.performer.release,
        )

    @property
    def is_leased(self) -> bool:
        """Whether there is a lease now that has not run out."""
        return not self._is_closed and self.lease.is_held

    @property
    def has_leftover_threads(self) -> bool:
        """Whether a plain function still runs in a thread although it is over."""
        return self._is_closed and self.performer.has_busy_threads

    @property
    def figures(self) -> WorkerFigures:
        """What the worker has done in it, and how it stands. May be read in any thread."""
        return WorkerFigures(
            worker=self.lease.worker,
            version=version("rowlock"),
            counts=self._counts,
            slots=self.slots.concurrency,
            slots_used=self.slots.in_use,
            jobs_ahead=self.slots.ahead,
            outcomes_pending=self.finishes.pending,
            rescued=self.upkeep.rescued,
            quarantined=self.upkeep.quarantined,
            ended_overdue=self.upkeep.ended_overdue,
            left_behind=self.upkeep.left_behind,
            lease_seconds=max(self.lease.held_until - steady.seconds(), 0.0),
            lease_renewals=self.renewals.made,
            lease_renewals_late=self.renewals.late,
            lease_renewals_failed=self.renewals.failed,
            leases_lost=self.renewals.lost,
            loop_delays=self.watchdog.delays,
            memory_bytes=resident_bytes(),
            reconnects={purpose: max(connects - 1, 0) for purpose, connects in self._connects().items()},
            pools={"client": self._database.pool_use(self._loop), "transactions": self.runtimes.pool.use},
        )

    def _connects(self) -> dict[str, int]:
        """How often each connection was made, by what it is for."""
        return {
            "claim": self.claiming.connects,
            "finish": self.finishing.connects,
            "handlers": self.runtimes.connection.connects,
            "lease": self.renewals.connects,
            "upkeep": self.upkeeping.connects,
        }

    # What follows is in the order in which it happens.

    async def open(self, schedules: Sequence[Declared], *, has_upkeep: bool = True, has_ticks: bool = True) -> None:
        """Connect, register, and begin with what goes on beside the claims. Raises `DatabaseUnavailable`."""
        try:
            await self.finishing.open()  # nothing is claimed that could not be finished
            # Once: an older version's lost lease brings nothing old back. And where a lock is waited for.
            await self.ticker.declare(schedules, self.finishing)
            await self.upkeeping.open()
            await self.runtimes.open()
            await self.claiming.listen(self._hear)
            await self._register()  # the last: from here on there is a lease
        except BaseException as error:
            self.lease.stop()
            await to_the_end(self._disconnect())
            if isinstance(error, CONNECTION_LOST):
                raise unavailable(self._database.settings, error) from error
            if isinstance(error, asyncpg.InsufficientPrivilegeError):
                raise not_allowed(self._database.settings, error) from error
            raise
        self.claiming.on_connect(self._reconnected)
        self.background.append(asyncio.create_task(self.finishes.run()))
        if has_upkeep:
            self.background.append(asyncio.create_task(self.upkeep.run()))
        if has_ticks:
            self.background.append(asyncio.create_task(self.ticker.run()))
        self.watchdog.start()
        log.info(
            "worker_started",
            worker=str(self.lease.worker),
            database=replace(self._database.settings, database_url=self._dsn).masked_database_url(),
            queues=self.claims.queues,
            concurrency=self._concurrency,
        )
        for task in self._tasks.values():
            if gaps := task.upcasters.gaps:
                log.warning("upcasters_missing", task=task.name, version=task.version, from_versions=gaps)

    def _new_lease(self) -> Lease:
        return Lease(
            self._database.settings,
            self._dsn,
            renewals=self.renewals,
            on_lost=self._lose_lease_soon,
            loop_delay=self.watchdog.take_longest,
        )

    async def _register(self) -> None:
        """Register the worker, under a lease of its own. Whatever the last one held is let go first."""
        self._let_go(self.lease)
        tasks = list(self._tasks.values())
        await self.claiming.fetch(
            "register_tasks",
            [task.name for task in tasks],
            [task.queue for task in tasks],
            [task.priority for task in tasks],
            [task.max_attempts for task in tasks],
            [task.result_ttl for task in tasks],
            [task.version for task in tasks],
            [task.is_sensitive for task in tasks],
            [task.max_crashes for task in tasks],
        )
        await self.orders.discover(self.claiming)
        lease = self._new_lease()
        await lease.begin(
            queues=self.claims.queues,
            tasks=self.claims.tasks,
            concurrency=self.slots.concurrency,
            state=self.orders.state,
        )
        self.lease = lease
        await self.orders.read(self.claiming)

    async def work(self) -> None:
        """Work until the worker is to stop."""
        await self.main_loop.until_stopped(self.background)

    async def drain(self) -> None:
        """Do all that is due now, or falls due meanwhile; and end what is overdue, which no claim finds."""
        await self.main_loop.until_dry()
        await self.upkeep.end_overdue()

    def _hear(self, told: str) -> None:
        """Take in a notification: a queue; or, with a colon that no queue has, a test, or word of an operator's act."""
        self.doze.heard()
        verb, colon, worker = told.partition(":")
        if not colon:
            self.doze.wake(told)
        elif (verb, worker) == ("cancel", str(self.lease.worker)):
            self.upkeep.look()
        elif verb == "operate":
            self.upkeep.look()
            self.doze.wake()

    def _cancel(self, wanted: Mapping[tuple[UUID, int], str]) -> None:
        """Stop the attempts that an operator has cancelled; those that did not begin end here."""
        for attempt in self.slots.cancel(wanted):
            self.performer.cancelled(attempt)

    def _give_back(self, attempts: Sequence[Attempt]) -> None:
        """Give back what was claimed and did not start; and let as many plain functions run as there are slots."""
        for attempt in attempts:
            self.performer.release(attempt)
        if self._most_threads is None:
            self.performer.grow_threads(self.slots.concurrency)
        self._divide_claims()

    def _divide_claims(self) -> None:
        """Claim the tasks of each executor that binds apart from the others."""
        binding = self.slots.binding
        bound = {task: executor for executor in binding for task in executor.tasks}
        parts: dict[Executor | None, list[str]] = {}
        for name, task in self._tasks.items():
            parts.setdefault(bound.get(name), []).extend(task.claimed_as)
        executors = list(parts) or [None]
        if executors != [executor for _, executor in self._shares]:
            self.claims.divide(list(parts.values()) or [()])
            self._shares = list(zip((self.claims, *self.claims.apart), executors, strict=True))

    def _unstorable(self, success: Success, error: Exception) -> Unsuccess:
        return self.performer.unstorable(success, error)

    def _reconnected(self) -> None:
        """The claims have a new connection: what they knew of the server may be old, and others may be lost, too."""
        self.lease.check()
        self.claims.reset()
        self.doze.lost_mark()
        self.main_loop.look_for_unknown()

    def _lose_lease_soon(self, lease: Lease) -> None:
        """Called by the lease's thread."""
        with suppress(RuntimeError):  # the loop is closed: nothing runs any more
            self._loop.call_soon_threadsafe(self._let_go, lease)

    def _let_go(self, lease: Lease) -> None:
        """Stop all that runs under a lost lease: others may have its jobs by now. Give back what did not begin."""
        if lease is not self.lease or not lease.is_lost or lease is self._let_go_of:
            return
        self._let_go_of = lease
        for attempt in self.slots.take_ready():
            self.performer.release(attempt)
        self.slots.stop("lease")
        self.performer.leave_threads()
        self.slots.doubled.clear()
        self.alone.end()
        self.doze.lost_mark()

    async def close(self) -> None:
        """Give back what did not start, let the rest finish within the grace period, record it all, and let go.

        A cancel ends the grace period, and nothing else: it is raised when all is done. Closing it again does nothing.
        """
        if self._is_closing:
            return
        self._is_closing = True
        self._return_unstarted()
        if running := self.slots.running:
            log.info(
                "worker_stopping",
                waits_for=dict(Counter(attempt.claimed["task"] for attempt in running)),
                seconds=self._grace(),
                what="a second signal gives these jobs back at once",
            )
        try:
            await self._wait_for_handlers(self._grace)  # a second signal makes it zero
        finally:
            await to_the_end(self._end())

    async def _end(self) -> None:
        """Stop what still runs, and let go. Each part is done, whatever fails or cancels the parts before it."""
        async with AsyncExitStack() as parts:  # the last one first
            parts.callback(self.watchdog.stop)
            parts.push_async_callback(self._disconnect)
            parts.push_async_callback(self._end_background)
            parts.callback(self.lease.stop)
            parts.push_async_callback(self._record_the_rest)
            parts.push_async_callback(self.performer.close)
            parts.push_async_callback(self._stop_handlers)
        log.info("worker_stopped", worker=str(self.lease.worker), attempts=self.slots.done)

    def _return_unstarted(self) -> None:
        unstarted = self.slots.take_ready()
        for attempt in unstarted:
            self.performer.release(attempt)
        self.slots.stop_waiting()
        self._given_back += [*unstarted, *(attempt for attempt in self.slots.running if attempt.is_refused)]

    async def _stop_handlers(self) -> None:
        self._given_back += self.slots.running
        self.slots.stop("shutdown")
        try:
            await self._wait_for_handlers(lambda: LAST_SECONDS)
        finally:
            for attempt in self.slots.running:
                # It ignores being cancelled, or is a plain function: its job goes to another worker, and the fence
                # keeps this attempt's outcome out.
                log.warning("handler_left_behind", job_id=str(attempt.claimed["id"]), task=attempt.claimed["task"])
                self.performer.interrupt(attempt)

    async def _record_the_rest(self) -> None:
        self._is_closed = True
        try:
            async with asyncio.timeout(self._database.settings.lease.total_seconds()):
                await self.finishes.flush()
                self._given_back += await self._give_back_the_unknown()
                if self._given_back:
                    await self.claiming.fetch("wake", list({attempt.claimed["queue"] for attempt in self._given_back}))
                await self.lease.end(self.claiming)
        except TRANSIENT as error:
            log.warning("stopped_without_database", error=type(error).__name__)

    async def _end_background(self) -> None:
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)

    async def _give_back_the_unknown(self) -> list[Attempt]:
        """Give back what the database has as this worker's, and the worker never began: a claim without an answer."""
        if self.lease.is_lost:
            return []
        rows = await self.claims.adopt(self.lease.worker, ())
        unknown = [Attempt(row, steady.seconds(), self.lease) for row in rows]
        for attempt in unknown:
            self.performer.release(attempt)
        await self.finishes.flush()
        return unknown

    async def _wait_for_handlers(self, seconds: Callable[[], float]) -> None:
        began = self._loop.time()
        while self.slots.running and (left := began + seconds() - self._loop.time()) > 0:
            handlers = [attempt.running for attempt in self.slots.running if attempt.running is not None]
            await asyncio.wait(handlers, timeout=min(left, 0.1))

    async def _disconnect(self) -> None:
        connections = (self.claiming, self.finishing, self.upkeeping, self.runtimes)
        await asyncio.gather(*(connection.close() for connection in connections))


def _executors(
    tasks: Mapping[str, Task[..., Any]], processes: Processes, most_threads: int | None
) -> tuple[Executor, ...]:
    """The worker's processes and, if it has fewer than slots, its threads. Batches wait by themselves."""
    executors = [Executor((name for name, task in tasks.items() if task.executor == "process"), processes.most)]
    if most_threads is not None:
        plain = (name for name, task in tasks.items() if task.executor == "thread" and task.batch is None)
        executors.append(Executor(plain, most_threads))
    return tuple(executor for executor in executors if executor.tasks)
