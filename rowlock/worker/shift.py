"""One shift of a worker: its work under one lease and one id, until the worker stops or the lease is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from rowlock import logs, steady
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.server_errors import CONNECTION_LOST, not_allowed, unavailable
from rowlock.queue.finish.finishes import Finishes
from rowlock.worker.attempt.attempt import Attempt
from rowlock.worker.attempt.performer import Performer
from rowlock.worker.attempt.runtime import Runtimes
from rowlock.worker.attention import Attention
from rowlock.worker.duties.runner import Duties
from rowlock.worker.links import PURPOSES, Links
from rowlock.worker.loop.doze import Doze
from rowlock.worker.loop.main_loop import TRANSIENT, MainLoop
from rowlock.worker.loop.orders import Orders
from rowlock.worker.loop.shares import Shares
from rowlock.worker.loop.slots import Executor, Slots
from rowlock.worker.loop.suspects import Alone
from rowlock.worker.ticker import Ticker
from rowlock.worker.timeouts import to_the_end
from rowlock.worker.vitals.figures import WorkerFigures
from rowlock.worker.vitals.lease import Lease
from rowlock.worker.vitals.memory import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from uuid import UUID

    from rowlock.queue.enqueue.task import Task
    from rowlock.queue.finish.finishes import Success, Unsuccess
    from rowlock.queue.schedules.schedule import Declared
    from rowlock.worker.executors.processes import Processes
    from rowlock.worker.terms import Terms

log = logs.get_logger("rowlock.worker")

OUTAGE_SHARE: Final = 1 / 3
"""If the database was away for this share of a lease, leases may be lost without a crash: rescues are paused."""
LAST_SECONDS: Final = 3.0
"""How long cancelled handlers may take to end, once the grace period is over."""


class Shift:
    """The parts of a worker that belong to one lease: its connections, its slots, and the loop that fills them.

    A lost lease ends the shift, and the worker opens the next one. `concurrency` and `state` are the orders that the
    worker read last: they hold if the row of the lost lease, which has the newest ones, is gone.
    """

    def __init__(self, terms: Terms, *, concurrency: int, state: str) -> None:
        self._terms = terms
        self._loop = asyncio.get_running_loop()
        self._is_closing = self._has_let_go = False
        self.is_open = False
        """Whether it was opened, so that it has to be closed."""
        self.is_over = False
        """Whether its handlers have ended, or were left behind."""
        self.is_retired = False
        """Whether the shift ends, or has ended, because its lease was lost."""
        self.links = Links(terms.database.settings, terms.dsn, terms.counts.connects)
        self.lease = Lease(
            terms.database.settings,
            terms.dsn,
            renewals=terms.renewals,
            on_lost=self._let_go_soon,
            loop_delay=terms.watchdog.take_longest,
        )
        self.id: Final = self.lease.worker
        self._make_loop(concurrency, state)
        self.duties = Duties(self.links.upkeep, terms.database, self.claims, alone=self.alone, counts=terms.counts)
        self.ticker = Ticker(self.links.attention, terms.tasks)
        away = OUTAGE_SHARE * terms.database.settings.lease.total_seconds()
        self.links.upkeep.on_return("hold_rescues", away)
        self.links.attention.on_return("hold_rescues", away)
        self.attention = Attention(
            self.links.attention,
            self.id,
            orders=self.orders,
            claims=self.claims,
            slots=self.slots,
            alone=self.alone,
            duties=self.duties,
            ticker=self.ticker,
            on_cancel=self._cancel,
        )
        self.background: list[asyncio.Task[None]] = []
        """The tasks beside the claims: attention, duties, ticker. They end when they are cancelled."""

    def _make_loop(self, concurrency: int, state: str) -> None:
        """Make the parts that bring jobs from the queues to their handlers, and their outcomes back."""
        terms, settings, processes = self._terms, self._terms.database.settings, self._terms.processes()
        known = [name for task in terms.tasks.values() for name in task.claimed_as]
        self.claims = Claims(self.links.claim, terms.served.names, known, max_crashes=settings.max_crashes)
        self.doze = Doze(settings, self.links.claim, self.claims, self.id)
        self.finishes = Finishes(self.links.finish, self.id, self._unstorable, self._note)
        self.runtimes = Runtimes(settings, terms.dsn, terms.tasks.values(), self.id, terms.counts.connects)
        self.performer = Performer(
            terms.tasks,
            self.finishes,
            self.runtimes,
            threads=min(concurrency, terms.most_threads or concurrency),
            most_of=lambda queue: self.slots.most_of(queue),  # noqa: PLW0108  # the slots are made below
            processes=processes,
            max_result_bytes=settings.max_result_bytes,
            middleware=terms.middleware,
            failure_handlers=terms.failure_handlers,
            observer=terms.observer,
        )
        logs.WORKER.set(self.id)  # for the slots, whose attempts run in copies of this context
        self.slots = Slots(
            concurrency,
            terms.served.limits_of(terms.served.names),
            self.performer.perform,
            self.doze.wake,
            _executors(terms.tasks, processes, terms.most_threads),
            earlier=terms.earlier,
            observer=terms.observer,
        )
        self.shares = Shares(self.claims, self.slots, terms.tasks)
        self.orders = Orders(
            terms.served,
            self.claims,
            self.slots,
            worker=self.id,
            state=state,
            give_back=self._give_back,
            stop=terms.stop,
            wake=self.doze.wake,
        )
        self.alone = Alone(
            self.claims,
            self.slots,
            self.finishes,
            stopping=terms.stopping,
            orders=self.orders,
            lease=self.lease,
            release=self.performer.release,
            wake=self.doze.wake,
        )
        self.main_loop = MainLoop(
            self.claims,
            self.slots,
            self.finishes,
            shares=self.shares,
            doze=self.doze,
            alone=self.alone,
            orders=self.orders,
            counts=terms.counts,
            lease=self.lease,
            stopping=terms.stopping,
            release=self.performer.release,
        )

    @property
    def has_seen_outage(self) -> bool:
        """Whether the database is away, or was when the lease was lost."""
        return self.lease.is_cut_off or self.links.upkeep.is_away or self.links.attention.is_away

    @property
    def is_leased(self) -> bool:
        """Whether the lease is held now."""
        return not self.is_over and self.lease.is_held

    @property
    def has_leftover_threads(self) -> bool:
        """Whether a plain function still runs in a thread although the shift is over."""
        return self.is_over and self.performer.has_busy_threads

    @property
    def figures(self) -> WorkerFigures:
        """The worker's counts and state. May be read in any thread."""
        counts, renewals, delays = self._terms.counts, self._terms.renewals, self._terms.watchdog.delays
        connects = counts.connects + Counter(lease=renewals.connects)
        return WorkerFigures(
            worker=self.id,
            version=version("rowlock"),
            counts=counts,
            slots=self.slots.concurrency,
            slots_used=self.slots.in_use,
            jobs_ahead=self.slots.ahead,
            outcomes_pending=self.finishes.pending,
            rescued=counts.rescued,
            quarantined=counts.quarantined,
            ended_overdue=counts.ended_overdue,
            left_behind=counts.left_behind,
            lease_seconds=max(self.lease.held_until - steady.seconds(), 0.0),
            lease_renewals=renewals.made,
            lease_renewals_late=renewals.late,
            lease_renewals_failed=renewals.failed,
            leases_lost=renewals.lost,
            loop_delays=delays,
            memory_bytes=resident_bytes(),
            reconnects={purpose: max(connects[purpose] - 1, 0) for purpose in PURPOSES},
            pools={"client": self._terms.database.pool_use(self._loop), "transactions": self.runtimes.pool.use},
        )

    # The methods below stand in the order in which they are called.

    async def open(
        self,
        schedules: Sequence[Declared] | None = None,
        *,
        has_duties: bool = True,
        has_ticks: bool = True,
        follows: Sequence[UUID] = (),
        is_after_outage: bool = False,
    ) -> None:
        """Connect, register, and start the tasks beside the claims.

        Declare the `schedules`, unless they are None: only the first shift does. Take over operators' orders from the
        shifts that it `follows`, by their ids. After an outage of the database, rescues are held first. Raises
        `DatabaseUnavailable`.
        """
        try:
            await self.links.finish.open()  # first: a worker that cannot record outcomes must not claim
            if schedules is not None:
                # Once a worker: a lost lease must not make an older version restore its old declarations.
                # On this connection, because it waits for locks.
                await self.ticker.declare(schedules, self.links.finish)
            await self.links.attention.open()
            await self.links.upkeep.open()
            if is_after_outage:
                await self.links.upkeep.fetch("hold_rescues")
            await self.runtimes.open()
            await self.links.claim.listen(self._hear)
            await self._register(follows)  # last: it begins the lease
        except BaseException as error:
            self.lease.give_up()
            await to_the_end(self._disconnect())
            if isinstance(error, CONNECTION_LOST):
                raise unavailable(self._terms.database.settings, error) from error
            if isinstance(error, asyncpg.InsufficientPrivilegeError):
                raise not_allowed(self._terms.database.settings, error) from error
            raise
        self.links.claim.on_connect(self._reconnected)
        self.links.claim.on_loss(self.doze.wake)
        self._recording = asyncio.create_task(self.finishes.run())
        beside = [self.attention.run(), self.duties.run()] if has_duties else []
        beside += [self.ticker.run()] if has_ticks else []
        self.background += [asyncio.create_task(part) for part in beside]
        self.is_open = True

    async def _register(self, follows: Sequence[UUID]) -> None:
        """Register the worker's tasks and queues, and begin the lease."""
        tasks = list(self._terms.tasks.values())
        await self.links.claim.fetch(
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
        await self.orders.discover(self.links.claim)
        await self.lease.begin(
            queues=self.claims.queues,
            tasks=self.claims.tasks,
            concurrency=self.slots.concurrency,
            state=self.orders.state,
            follows=follows,
        )
        await self.orders.read(self.links.claim)  # seam: registered

    async def work(self) -> None:
        """Work until the worker is asked to stop, or the lease is lost."""
        await self.main_loop.until_over([self._recording, *self.background])

    async def drain(self) -> None:
        """Run all jobs that are due now or fall due meanwhile. End the overdue ones, which claims do not find."""
        await self.main_loop.until_dry()
        await self.duties.end_overdue()

    def _hear(self, payload: str) -> None:
        """Handle a notification: a queue, or, with a colon that no queue's name has, a test or an operator's act."""
        self.doze.heard()
        verb, colon, worker = payload.partition(":")
        if not colon:
            if self.claims.serves(payload):
                self.doze.wake(payload)
        elif (verb, worker) == ("cancel", str(self.id)):
            self.attention.notify()
        elif verb == "operate":
            self.attention.notify()
            self.doze.wake()

    def _cancel(self, wanted: Mapping[tuple[UUID, int], str]) -> None:
        """Stop the attempts that an operator has cancelled. End here those that did not begin."""
        for attempt in self.slots.cancel(wanted):
            self.performer.cancelled(attempt)

    def _give_back(self, attempts: Sequence[Attempt]) -> None:
        """Release claimed jobs that did not start. Grow the threads to the slots, unless an option limits them."""
        for attempt in attempts:
            self.performer.release(attempt)
        if self._terms.most_threads is None:
            self.performer.grow_threads(self.slots.concurrency)
        self.shares.divide()

    def _note(self, outcomes: Sequence[Success | Unsuccess], refused: Collection[UUID], sent_at: float) -> None:
        """Note recorded and refused outcomes: their jobs are not held here any more."""
        self._terms.counts.note_outcomes(outcomes, refused, sent_at)
        self.claims.holdings.ended(outcome.claimed for outcome in outcomes)

    def _unstorable(self, success: Success, error: Exception) -> Unsuccess:
        return self.performer.unstorable(success, error)

    def _reconnected(self) -> None:
        """Reset what was known of the server: the claims have a new connection, and the other ones may be lost, too."""
        self.lease.check()
        self.claims.reset()
        self.claims.holdings.keep_all()  # seam: keep what is held
        self.doze.lost_mark()
        self.main_loop.look_for_unknown()  # seam: look at another server

    # The end of a shift: its lease was lost, or the worker stops.

    def _let_go_soon(self, _lease: Lease) -> None:
        """Called by the lease's thread."""
        with suppress(RuntimeError):  # the loop is closed: no handler runs any more
            self._loop.call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        """Stop all handlers: other workers may have the jobs of a lost lease by now. Release what did not begin."""
        if self._has_let_go or not self.lease.is_lost:
            return
        self._has_let_go = True
        for attempt in self.slots.take_ready():
            self.performer.release(attempt)
        self.slots.stop("lease")  # seam: handlers of a lost lease
        self.alone.end()
        self.doze.wake()

    async def retire(self) -> None:
        """End after the lease was lost: wait for the last handler, record the outcomes that may count, and disconnect.

        A handler that does not end keeps no connection open. A cancel of this coroutine gives it a few more seconds.
        """
        self._is_closing = self.is_retired = True
        self._let_go()
        try:
            await self._end_background()
            # Only the connection that records outcomes may still be needed.
            await asyncio.gather(*(link.close() for link in self.links.all_but_finish))
            while handlers := [attempt.running for attempt in self.slots.running if attempt.running is not None]:
                _, left = await asyncio.wait(handlers, timeout=LAST_SECONDS)
                if left and not self.finishes.known():
                    await self.links.finish.close()  # an attempt that ends later connects again
                    await asyncio.wait(handlers)
            await self._record_all()
        finally:
            await to_the_end(self._end())

    async def _record_all(self) -> None:
        """Record all outcomes, however long the database is away. Raise the defect of the task that records them."""
        recorded = asyncio.create_task(self.finishes.flush())
        try:
            await asyncio.wait({recorded, self._recording}, return_when=asyncio.FIRST_COMPLETED)
            if not recorded.done():
                self._recording.result()
        finally:
            recorded.cancel()

    async def close(self) -> None:
        """End at a stop: release what did not start, let the rest finish within the grace period, record all outcomes.

        A cancel only ends the grace period; it is raised at the end. A second close does nothing, and neither does that
        of a shift that did not open.
        """
        if self._is_closing or not self.is_open:
            return
        self._is_closing = True
        for attempt in self.slots.take_ready():
            self.performer.release(attempt)
        self.slots.stop_waiting()
        try:
            await self._wait_for_handlers(self._terms.grace)  # a second signal makes it zero
        finally:  # seam: close
            await to_the_end(self._end())  # seam: end of a close

    async def _end(self) -> None:
        """Stop the handlers, record outcomes, end the lease, disconnect: each part runs, also if another one fails."""
        async with AsyncExitStack() as parts:  # runs in reverse order
            parts.push_async_callback(self._disconnect)
            parts.push_async_callback(self._end_recording)
            parts.push_async_callback(self._end_background)
            parts.callback(self.lease.stop)
            parts.push_async_callback(self._record_the_rest)
            parts.push_async_callback(self.performer.close)
            parts.push_async_callback(self._stop_handlers)

    async def _stop_handlers(self) -> None:
        self.slots.stop("shutdown")
        try:
            await self._wait_for_handlers(lambda: LAST_SECONDS)
        finally:
            for attempt in self.slots.running:
                # The handler ignores its cancel, or is a plain function. Its job goes to another worker, and the fence
                # rejects this attempt's outcome.
                log.warning("handler_left_behind", job_id=str(attempt.claimed["id"]), task=attempt.claimed["task"])
                self.performer.interrupt(attempt)

    async def _record_the_rest(self) -> None:
        self.is_over = True
        try:
            async with asyncio.timeout(self._terms.database.settings.lease.total_seconds()):
                await self.finishes.flush()
                if self.lease.is_lost:
                    return  # other workers rescue the jobs that are left
                await self._give_back_the_unknown()
                await self.lease.end(self.links.claim)
        except TRANSIENT as error:
            log.warning("stopped_without_database", error=type(error).__name__)

    async def _end_background(self) -> None:
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)

    async def _end_recording(self) -> None:
        self._recording.cancel()
        await asyncio.gather(self._recording, return_exceptions=True)

    async def _give_back_the_unknown(self) -> None:
        """Release jobs that the worker never began, but that are claimed for it: a claim's answer was lost."""
        for row in await self.claims.adopt(self.id, ()):
            self.performer.release(Attempt(row, steady.seconds(), self.lease))
        await self.finishes.flush()

    async def _wait_for_handlers(self, seconds: Callable[[], float]) -> None:
        began = self._loop.time()
        while self.slots.running and (left := began + seconds() - self._loop.time()) > 0:
            handlers = [attempt.running for attempt in self.slots.running if attempt.running is not None]
            await asyncio.wait(handlers, timeout=min(left, 0.1))

    async def _disconnect(self) -> None:
        await asyncio.gather(*(each.close() for each in (*self.links.every, self.runtimes)))


def _executors(
    tasks: Mapping[str, Task[..., Any]], processes: Processes, most_threads: int | None
) -> tuple[Executor, ...]:
    """The worker's processes and, if an option limits them, its threads. Batch tasks wait in their own way."""
    executors = [Executor((name for name, task in tasks.items() if task.executor == "process"), processes.most)]
    if most_threads is not None:
        plain = (name for name, task in tasks.items() if task.executor == "thread" and task.batch is None)
        executors.append(Executor(plain, most_threads))
    return tuple(executor for executor in executors if executor.tasks)
