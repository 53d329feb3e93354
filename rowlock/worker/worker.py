"""The worker: claims what is due, performs it in its slots, records the outcomes, and stops without losing anything."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Self

import asyncpg
import structlog

from rowlock import logs
from rowlock.errors import InvalidOption, RowlockError
from rowlock.queue import options
from rowlock.queue.claims import Claims
from rowlock.queue.connections import CONNECTION_LOST, ControlConnection, unavailable
from rowlock.queue.finishes import Finishes
from rowlock.queue.served import parse_served
from rowlock.worker.alone import Alone
from rowlock.worker.attempts import Performer
from rowlock.worker.counts import Counts
from rowlock.worker.doze import Doze
from rowlock.worker.figures import Figures
from rowlock.worker.lease import Lease
from rowlock.worker.memory import resident_bytes
from rowlock.worker.orders import Orders
from rowlock.worker.processes import Processes, cpus
from rowlock.worker.runtime import Runtimes
from rowlock.worker.slots import STALE_SECONDS, Slots
from rowlock.worker.ticker import Ticker
from rowlock.worker.upkeep import Upkeep
from rowlock.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from uuid import UUID

    from rowlock.queue.client import Client
    from rowlock.queue.finishes import Success, Unsuccess
    from rowlock.queue.schedule import Declared
    from rowlock.queue.task import FailureHandler, Middleware, Task
    from rowlock.worker.attempts import Attempt

log = structlog.get_logger("rowlock.worker")

TRANSIENT: Final = (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError)
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
PAUSE_FIRST: Final = 0.1
PAUSE_MOST: Final = 5.0
MOST_PENDING: Final = 5000
"""No more is claimed while so many outcomes wait to be recorded: the database is slow, or away."""
ADOPT_SECONDS: Final = 60.0
ADOPT_EVERY: Final = 5.0
"""After a claim failed, it may still be under way in the server: for so long, and so often, its jobs are looked for."""
LAST_SECONDS: Final = 3.0
"""How long cancelled handlers may take to end, once the grace period is over."""


class Worker:
    """One worker. `app.worker(...)` makes it.

    `await worker.run()` works until SIGTERM, SIGINT or `stop()`. `async with app.worker(...):` works for as long as
    the block lasts, beside a web application for instance. `await worker.drain()` does what is due now, and returns.

    Each attempt's outcome is accepted once. A worker that dies loses nothing: its jobs are rescued when its lease
    runs out.
    """

    def __init__(
        self,
        client: Client,
        tasks: Mapping[str, Task[..., Any]],
        *,
        schedules: Sequence[Declared] = (),
        queues: Sequence[str] | Mapping[str, int | None] | None = None,
        concurrency: int = 50,
        threads: int | None = None,
        task_processes: int | None = None,
        middleware: Sequence[Middleware] = (),
        failure_handlers: Sequence[FailureHandler] = (),
    ) -> None:
        options.concurrency(concurrency)
        if threads is not None and threads < 1:
            raise InvalidOption(f"threads {threads!r} makes no sense: use at least 1.")
        if task_processes is not None and task_processes < 1:
            raise InvalidOption(f"task_processes {task_processes!r} makes no sense: use at least 1.")
        self._client = client
        self._tasks = tasks
        self._schedules = schedules
        self._given = queues
        self._served = parse_served(queues, self._usual_queues())
        self._concurrency = concurrency
        self._most_threads = threads
        self._most_processes = min(concurrency, task_processes or cpus())
        self._middleware = middleware
        self._failure_handlers = failure_handlers
        self._stopping = asyncio.Event()
        self._grace = client.settings.grace_period.total_seconds()
        self._running: asyncio.Task[None] | None = None
        self._counts = Counts(has_kinds=False)
        self._is_open = self._is_leased = False
        self._has_leftover_threads = False

    @property
    def id(self) -> UUID:
        """The id of this worker's row, while it runs; a new one each time its lease was lost."""
        return self._lease.worker

    @property
    def has_leftover_threads(self) -> bool:
        """Whether a plain function still runs in a thread after the stop: the process cannot end by itself then."""
        return self._has_leftover_threads

    @property
    def loop_delay(self) -> float:
        """How long the event loop took to answer last, in seconds; while it is blocked, for how long it has been."""
        return self._watchdog.delay

    @property
    def loop_delay_max(self) -> float:
        """The longest delay of the event loop since the worker was opened, in seconds."""
        return self._watchdog.delay_max

    @property
    def is_leased(self) -> bool:
        """Whether it has a lease now that has not run out: it may begin jobs."""
        return self._is_leased and time.monotonic() < self._lease.held_until

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping.is_set()

    def count_kinds(self) -> None:
        """Count jobs by queue and task from now on, for `figures`: that costs a microsecond or two for each."""
        self._counts.has_kinds = True

    @property
    def figures(self) -> Figures | None:
        """What it has done since it was opened, and how it stands; None before that. May be read in any thread."""
        if not self._is_open:
            return None
        return Figures(
            worker=self._lease.worker,
            version=version("rowlock"),
            counts=self._counts,
            slots=self._slots.concurrency,
            slots_used=self._slots.in_use,
            jobs_ahead=self._slots.ahead,
            outcomes_pending=self._finishes.pending,
            rescued=self._upkeep.rescued,
            quarantined=self._upkeep.quarantined,
            ended_overdue=self._upkeep.ended_overdue,
            left_behind=self._upkeep.left_behind,
            lease_seconds=max(self._lease.held_until - time.monotonic(), 0.0),
            lease_renewals=self._lease.renewals,
            lease_renewals_late=self._lease.late,
            lease_renewals_failed=self._lease.failed,
            leases_lost=self._lease.lost,
            loop_delays=self._watchdog.delays,
            memory_bytes=resident_bytes(),
            reconnects={purpose: max(connects - 1, 0) for purpose, connects in self._connects().items()},
            pools={"client": self._client.pool_use(self._loop), "transactions": self._runtimes.pool.use},
        )

    async def run(self, *, handle_signals: bool = True, on_started: Callable[[], None] | None = None) -> None:
        """Work until stopped. SIGTERM or SIGINT stop it as `stop()` does; a second one gives running jobs back at once.

        `on_started` is called once it works, before its first claim.

        Raises `DatabaseUnavailable`, `SchemaNotMigrated` or `SchemaTooNew` if it cannot begin. Once it runs, it
        survives the loss of the database, and goes on when it is back.
        """
        await self._open()
        if handle_signals:
            self._handle_signals()
        try:
            if on_started is not None:
                on_started()
            await self._work()
        finally:
            await self._close()
            if handle_signals:
                for number in STOP_SIGNALS:
                    self._loop.remove_signal_handler(number)

    async def drain(self) -> int:
        """Do all that is due now, or falls due meanwhile; return how many attempts ended. For tests and scripts.

        Schedules do not fire.
        """
        await self._open()
        self._ticking.cancel()
        try:
            await self._until_dry()
        finally:
            self._stopping.set()
            await self._close()
        return self._slots.done

    def stop(self, grace: timedelta | None = None) -> None:
        """Ask the worker to stop: it claims no more, and gives back what is not done after the grace period."""
        if grace is not None:
            self._grace = grace.total_seconds()
        self._stopping.set()
        if hasattr(self, "_doze"):
            self._doze.wake()

    async def __aenter__(self) -> Self:
        await self._open()
        self._running = asyncio.create_task(self._work())
        self._running.add_done_callback(_report_defect)  # the block may last for weeks, and would not notice
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        try:
            if self._running is not None:
                await self._running
        finally:
            await self._close()

    # What follows is in the order in which it happens.

    async def _open(self) -> None:
        settings, dsn = self._client.settings, await self._client.dsn()
        processes = Processes(
            self._most_processes,
            max_jobs=settings.process_max_jobs,
            memory_limit=settings.process_memory_limit,
            max_result_bytes=settings.max_result_bytes,
        )
        processes.expect(self._tasks.values())
        await self._client.check_schema()
        self._stopping.clear()
        self._loop = asyncio.get_running_loop()
        self._claiming = ControlConnection(settings, dsn, purpose="claim")
        self._finishing = ControlConnection(settings, dsn, purpose="finish")
        self._upkeeping = ControlConnection(settings, dsn, purpose="upkeep")
        self._watchdog = Watchdog(settings.blocked_loop_after.total_seconds(), lambda: self._slots.running)
        self._lease = Lease(settings, dsn, on_lost=self._lose_lease_soon, loop_delay=self._watchdog.take_longest)
        if self._given is None:
            self._served = parse_served(None, self._usual_queues())  # tasks may have come since
        known = [name for task in self._tasks.values() for name in task.claimed_as]
        self._counts = Counts(has_kinds=self._counts.has_kinds)
        self._claims = Claims(self._claiming, self._served.names, known, max_crashes=settings.max_crashes)
        self._doze = Doze(settings, self._claiming, self._claims, lambda: self._lease.worker)
        self._finishes = Finishes(
            self._finishing,
            lambda: self._lease.worker,
            self._unstorable,
            self._counts.note_outcomes,
        )
        self._runtimes = Runtimes(settings, dsn, self._tasks.values(), lambda: self._lease.worker)
        self._performer = Performer(
            self._tasks,
            self._finishes,
            self._runtimes,
            self._lease,
            threads=min(self._concurrency, self._most_threads or self._concurrency),
            most_of=lambda queue: self._slots.most_of(queue),  # noqa: PLW0108  # which are made of the performer
            processes=processes,
            max_result_bytes=settings.max_result_bytes,
            middleware=self._middleware,
            failure_handlers=self._failure_handlers,
        )
        logs.WORKER.set(lambda: self._lease.worker)  # for the slots, whose attempts run in copies of this context
        limits = {queue: limit for queue in self._served.names if (limit := self._served.limit(queue)) is not None}
        self._slots = Slots(self._concurrency, limits, self._performer.perform, self._doze.wake)
        self._orders = Orders(
            self._served, self._claims, self._slots, worker=lambda: self._lease.worker, give_back=self._give_back
        )
        self._alone = Alone(
            self._claims,
            self._slots,
            self._finishes,
            stopping=self._stopping,
            worker=lambda: self._lease.worker if self._is_leased else None,
            release=self._performer.release,
            wake=self._doze.wake,
        )
        self._upkeep = Upkeep(
            settings,
            self._upkeeping,
            self._claims,
            self._client,
            worker=lambda: self._lease.worker,
            on_cancel=self._cancel,
            alone=self._alone,
            orders=self._orders,
        )
        self._ticker = Ticker(self._upkeeping, self._tasks)
        try:
            await self._ticker.declare(self._schedules)  # once: an older version's lost lease brings nothing old back
            await self._claiming.listen(self._hear)
            await self._register()  # the last: from here on there is a lease
        except BaseException as error:
            await self._disconnect()
            if isinstance(error, CONNECTION_LOST):
                raise unavailable(settings, error) from error
            raise
        self._claiming.on_connect(self._reconnected)
        self._is_open = True
        self._finisher = asyncio.create_task(self._finishes.run())
        self._upkeeper = asyncio.create_task(self._upkeep.run())
        self._ticking = asyncio.create_task(self._ticker.run())
        self._watchdog.start()
        log.info("worker_started", worker=str(self.id), queues=self._claims.queues, concurrency=self._concurrency)
        for task in self._tasks.values():
            if gaps := task.upcasters.gaps:
                log.warning("upcasters_missing", task=task.name, version=task.version, from_versions=gaps)

    async def _register(self) -> None:
        tasks = list(self._tasks.values())
        await self._claiming.fetch(
            "register_tasks",
            [task.name for task in tasks],
            [task.queue for task in tasks],
            [task.priority for task in tasks],
            [task.max_attempts for task in tasks],
            [task.result_ttl for task in tasks],
            [task.version for task in tasks],
            [task.is_sensitive for task in tasks],
        )
        await self._orders.discover(self._claiming)
        await self._lease.begin(
            self._claiming, queues=self._claims.queues, tasks=self._claims.tasks, concurrency=self._slots.concurrency
        )
        await self._orders.read(self._claiming)
        self._is_leased = True
        self._adopt_until = self._adopt_at = 0.0

    async def _work(self) -> None:
        """The main loop: claim while there is room, wait while there is none, doze while there is no work."""
        pause = PAUSE_FIRST
        while not self._stopping.is_set():
            for task in (self._finisher, self._upkeeper, self._ticking):
                if task.done():
                    task.result()  # neither ends by itself: what it raised is a defect, and must not go unseen
            try:
                await self._work_once()
                pause = PAUSE_FIRST
            except TRANSIENT as error:
                log.warning("claim_failed", error=type(error).__name__, detail=str(error), retry_in=round(pause, 1))
                self._claims.cursors.reset()
                self._adopt_until = self._loop.time() + ADOPT_SECONDS
                await self._stops_within(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
                pause = min(pause * 2, PAUSE_MOST)

    async def _work_once(self) -> None:
        if not self._is_leased:
            await self._register()
        if self._loop.time() < self._adopt_until:
            await self._adopt()
        for attempt in self._slots.take_ready(older_than=STALE_SECONDS):
            self._performer.release(attempt)
        if self._alone.is_wanted:
            await self._doze.busy()
            await self._alone.step()
            return
        room = self._slots.room() if self._finishes.pending < MOST_PENDING else 0
        if room <= 0:
            if not await self._slots.changed(timeout=1.0):
                await self._doze.busy()  # full for so long: a notification would be of no use
            return
        self._doze.before_claim()
        found = await self._claim(room)
        await self._doze.found(found)
        if found < room and not self._stopping.is_set():
            if found == 0 and await self._alone.begin_if_idle():
                return
            await self._doze.wait()

    async def _claim(self, room: int) -> int:
        worker = self._lease.worker
        rows = await self._claims.claim(worker, room, self._slots.limits())
        self._counts.note_claim(rows, self._claims.looked_until, self._claims.took)
        if self._is_leased and worker == self._lease.worker:
            self._slots.add(rows)  # else the lease was lost meanwhile, and others rescue them
        return len(rows)

    async def _adopt(self) -> None:
        """Take on what a claim whose answer was lost has claimed for this worker."""
        if self._loop.time() < self._adopt_at:
            return
        rows = await self._claims.adopt(self._lease.worker, self._slots.known() | self._finishes.known())
        self._adopt_at = self._loop.time() + ADOPT_EVERY
        if rows:
            self._counts.adopted += len(rows)
            log.info("jobs_adopted", count=len(rows))
            self._slots.add(self._alone.adopt(rows))

    async def _until_dry(self) -> None:
        while True:
            if not self._is_leased:
                await self._register()
            if self._alone.is_wanted:
                await self._alone.step()
                continue
            room = self._slots.room()
            found = await self._claim(room) if room > 0 else 0
            if found == 0 and room > 0 and self._slots.is_empty:
                await self._finishes.flush()
                # What the last ones enqueued, or put back at once; then those that run alone.
                if await self._claim(self._slots.concurrency) == 0 and not await self._alone.begin():
                    return
            elif found == 0:
                await self._slots.changed(timeout=0.05)

    async def _close(self) -> None:
        """Give back what did not start, let the rest finish within the grace period, record it all, and let go."""
        given_back = self._slots.take_ready()
        for attempt in given_back:
            self._performer.release(attempt)
        await self._wait_for_handlers(lambda: self._grace)  # a second signal makes it zero
        given_back += self._slots.running
        self._slots.stop("shutdown")
        await self._wait_for_handlers(lambda: LAST_SECONDS)
        for attempt in self._slots.running:
            # It ignores being cancelled, or is a plain function: its job goes to another worker, and the fence keeps
            # this attempt's outcome out.
            log.warning("handler_left_behind", job_id=str(attempt.claimed["id"]), task=attempt.claimed["task"])
            self._performer.release(attempt)
        self._has_leftover_threads = await self._performer.close()
        try:
            async with asyncio.timeout(self._client.settings.lease.total_seconds()):
                await self._finishes.flush()
                if given_back:
                    await self._claiming.fetch("wake", list({attempt.claimed["queue"] for attempt in given_back}))
                await self._lease.end(self._claiming)
        except TRANSIENT as error:
            log.warning("stopped_without_database", error=type(error).__name__)
        for task in (self._finisher, self._upkeeper, self._ticking):
            task.cancel()
        await asyncio.gather(self._finisher, self._upkeeper, self._ticking, return_exceptions=True)
        self._is_leased = False
        await self._disconnect()
        self._watchdog.stop()
        log.info("worker_stopped", worker=str(self.id), attempts=self._slots.done)

    def _connects(self) -> dict[str, int]:
        """How often each connection was made, by what it is for."""
        return {
            "claim": self._claiming.connects,
            "finish": self._finishing.connects,
            "handlers": self._runtimes.connection.connects,
            "lease": self._lease.connects,
            "upkeep": self._upkeeping.connects,
        }

    async def _disconnect(self) -> None:
        connections = (self._claiming, self._finishing, self._upkeeping, self._runtimes)
        await asyncio.gather(*(connection.close() for connection in connections))

    async def _wait_for_handlers(self, seconds: Callable[[], float]) -> None:
        began = self._loop.time()
        while self._slots.running and (left := began + seconds() - self._loop.time()) > 0:
            handlers = [attempt.running for attempt in self._slots.running if attempt.running is not None]
            await asyncio.wait(handlers, timeout=min(left, 0.1))

    async def _stops_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _unstorable(self, success: Success, error: Exception) -> Unsuccess:
        return self._performer.unstorable(success, error)

    def _hear(self, told: str) -> None:
        """Take in a notification: a queue; or, with a colon that no queue has, a test, or word of an operator's act."""
        self._doze.heard()
        verb, colon, worker = told.partition(":")
        if not colon:
            self._doze.wake(told)
        elif (verb, worker) == ("cancel", str(self.id)):
            self._upkeep.look()
        elif verb == "operate":
            self._upkeep.look()
            self._doze.wake()

    def _cancel(self, wanted: Mapping[tuple[UUID, int], str]) -> None:
        """Stop the attempts that an operator has cancelled; those that did not begin end here."""
        for attempt in self._slots.cancel(wanted):
            self._performer.cancelled(attempt)

    def _give_back(self, attempts: Sequence[Attempt]) -> None:
        """Give back what was claimed and did not start; and let as many plain functions run as there are slots."""
        for attempt in attempts:
            self._performer.release(attempt)
        if self._most_threads is None:
            self._performer.grow_threads(self._slots.concurrency)

    def _usual_queues(self) -> list[str]:
        return sorted({task.queue for task in self._tasks.values()} | {"default"})

    def _reconnected(self) -> None:
        """The claims have a new connection: what they knew of the server may be old."""
        self._claims.cursors.reset()
        self._doze.lost_mark()

    def _lose_lease_soon(self) -> None:
        """Called by the lease's thread."""
        with suppress(RuntimeError):  # the loop is closed: nothing runs any more
            self._loop.call_soon_threadsafe(self._lost_lease)

    def _lost_lease(self) -> None:
        """Others may have this worker's jobs by now: stop them all, and begin again as a new worker."""
        self._slots.take_ready()
        self._slots.stop("lease")
        self._finishes.forget()
        self._is_leased = False
        self._alone.end()
        self._doze.lost_mark()

    def _handle_signals(self) -> None:
        def stop() -> None:
            if self._stopping.is_set():
                self._grace = 0.0
            self.stop()

        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, stop)


def _report_defect(working: asyncio.Task[None]) -> None:
    """Say at once that the worker of an `async with` block has ended by an error, which the end of the block raises."""
    if not working.cancelled() and (error := working.exception()) is not None:
        log.critical("worker_failed", exc_info=error)
