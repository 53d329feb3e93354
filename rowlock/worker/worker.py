"""The public `Worker`: options, start, stop, status."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Self

import asyncpg

from rowlock import logs
from rowlock.errors import DatabaseUnavailable, InvalidOption, RowlockError
from rowlock.queue.claim.served import parse_served
from rowlock.queue.connect.server_errors import CONNECTION_LOST, is_crowded, too_few_connections
from rowlock.queue.jobs import checks
from rowlock.worker.executors.forks import keep_handler
from rowlock.worker.executors.processes import Processes, cpus
from rowlock.worker.shift import LAST_SECONDS
from rowlock.worker.shifts import Shifts, report_defect
from rowlock.worker.terms import Terms
from rowlock.worker.timeouts import Patience
from rowlock.worker.vitals.counts import Counts
from rowlock.worker.vitals.lease import Renewals
from rowlock.worker.vitals.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from uuid import UUID

    from asyncpg import Record

    from rowlock.queue.connect.database import Database
    from rowlock.queue.enqueue.task import FailureHandler, Middleware, Task
    from rowlock.queue.schedules.schedule import Declared
    from rowlock.queue.tasks.lifespan import Lifespan
    from rowlock.worker.attempt.attempt import Observer
    from rowlock.worker.shift import Shift
    from rowlock.worker.vitals.figures import WorkerFigures

log = logs.get_logger("rowlock.worker")

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
CONNECTIONS: Final = 6
"""The fewest connections that a worker needs: claim, finish, attention, upkeep, lease, and one of the application's
pool for its duties."""
NOT_OPENED: Final = (
    "The worker has not started, so it has no id and no delays yet. Call run() or drain(), or enter "
    "`async with worker:`, first."
)


class Worker:
    """One worker. `app.worker(...)` makes it.

    `await worker.run()` works until SIGTERM, SIGINT, `stop()` or an operator's `app.workers.stop`. `async with
    app.worker(...):` works for as long as the block lasts, for example beside a web application; if an operator stops
    the worker, the block goes on without it. `await worker.drain()` runs the jobs that are due now, and returns.

    Each attempt's outcome is accepted once. A worker that dies loses nothing: other workers rescue its jobs when its
    lease runs out.
    """

    def __init__(
        self,
        database: Database,
        tasks: Mapping[str, Task[..., Any]],
        *,
        schedules: Sequence[Declared] = (),
        queues: Sequence[str] | Mapping[str, int | None] | None = None,
        concurrency: int = 50,
        threads: int | None = None,
        task_processes: int | None = None,
        lifespans: Sequence[Lifespan[Any]] = (),
        middleware: Sequence[Middleware] = (),
        failure_handlers: Sequence[FailureHandler] = (),
        observer: Observer | None = None,
    ) -> None:
        checks.concurrency(concurrency)
        for option, most in {"threads": threads, "task_processes": task_processes}.items():
            if most is not None:
                checks.concurrency(most, option)
        self._database = database
        self._tasks = tasks
        self._schedules = schedules
        self._given = queues
        self._served = parse_served(queues, self._usual_queues())
        self._concurrency = concurrency
        self._most_threads = threads
        self._most_processes = min(concurrency, task_processes or cpus())
        self._lifespans = lifespans
        self._opened_lifespans = AsyncExitStack()
        self._middleware = middleware
        self._failure_handlers = failure_handlers
        self._observer = observer
        self._stopping = asyncio.Event()
        self._grace = database.settings.grace_period.total_seconds()
        self._closes_from: float | None = None
        self._is_open = False
        self._is_told_to_stop = False
        self._running: asyncio.Task[None] | None = None
        self._counts = Counts(has_kinds=False)
        self._shifts: Shifts | None = None
        self._earlier: list[Shifts] = []  # of earlier runs, which left a thread running

    @property
    def id(self) -> UUID:
        """The id of this worker's row while it runs. A lost lease ends a shift, and the next shift has a new id.

        Raises `RowlockError` before the worker was opened for the first time.
        """
        return self._shift.id

    @property
    def has_leftover_threads(self) -> bool:
        """Whether a plain function still runs in a thread after the stop: the process cannot end by itself then.

        Stays true until the function returns, also while the worker runs again.
        """
        runs = self._earlier if self._shifts is None else [*self._earlier, self._shifts]
        return any(shifts.has_leftover_threads for shifts in runs)

    @property
    def loop_delay(self) -> float:
        """The event loop's last delay in seconds; while the loop is blocked, the time since it blocked.

        Raises `RowlockError` before the worker was opened for the first time.
        """
        return self._worked.watchdog.delay

    @property
    def loop_delay_max(self) -> float:
        """The longest delay of the event loop since the worker was opened, in seconds.

        Raises `RowlockError` before the worker was opened for the first time.
        """
        return self._worked.watchdog.delay_max

    @property
    def is_leased(self) -> bool:
        """Whether the worker has a lease that has not run out: it may begin jobs."""
        return self._shifts is not None and self._shifts.current.is_leased

    @property
    def is_open(self) -> bool:
        """Whether the worker and the application's lifespans are open: from its start until its last job has ended."""
        return self._is_open

    @property
    def is_stopping(self) -> bool:
        """Whether the worker was asked to stop."""
        return self._stopping.is_set()

    @property
    def is_quiet(self) -> bool:
        """Whether an operator has quieted the worker: it claims no new jobs until it is resumed."""
        return self._shifts is not None and self._shifts.current.orders.is_quiet

    @property
    def is_told_to_stop(self) -> bool:
        """Whether an operator has stopped the worker: a supervisor should not restart it."""
        return self._is_told_to_stop

    def count_kinds(self) -> None:
        """Count jobs by queue and task from now on, for `figures`. This costs a microsecond or two a job."""
        self._counts.has_kinds = True

    @property
    def figures(self) -> WorkerFigures | None:
        """The worker's counts since it was opened, and its state; None before that. May be read in any thread."""
        return None if self._shifts is None else self._shifts.current.figures

    async def run(self, *, handle_signals: bool = True, on_started: Callable[[], None] | None = None) -> None:
        """Work until stopped. SIGTERM or SIGINT stop the worker as `stop()` does.

        A second signal releases running jobs at once. `on_started` is called once the worker works, before its first
        claim.

        Raises `DatabaseUnavailable`, `SchemaNotMigrated` or `SchemaTooNew` if the worker cannot begin, the error of a
        lifespan of the application, and `InvalidOption` in another thread than the main one, where Python cannot
        handle signals. A running worker survives the loss of the database, and goes on when the database is back. A
        cancel stops the worker as `stop()` does; a second cancel releases running jobs at once.
        """
        if handle_signals and threading.current_thread() is not threading.main_thread():
            raise InvalidOption(
                "run() must be called in the main thread to handle signals; got "
                f"{threading.current_thread().name!r}. Use run(handle_signals=False), and stop() to end it."
            )
        await self._open()
        try:
            if handle_signals:
                self._handle_signals()
            if on_started is not None and self._shift.is_open:
                on_started()
            await self._worked.work()
        finally:
            try:
                await self._close()
            finally:
                if handle_signals:
                    for number in STOP_SIGNALS:
                        asyncio.get_running_loop().remove_signal_handler(number)

    async def drain(self) -> int:
        """Run all jobs that are due now or fall due meanwhile; return how many attempts ended. For tests and scripts.

        End the jobs that have expired, or whose deadline has passed, as well. Schedules do not fire.
        """
        await self._open(has_ticks=False)
        try:
            await self._worked.drain()
        finally:
            self._stopping.set()
            await self._close()
        return self._worked.attempts

    def stop(self, grace: timedelta | float | None = None) -> None:
        """Ask the worker to stop: it claims no more, and releases jobs that still run after the grace period.

        `grace`: in seconds or as a `timedelta`; 0 releases them at once. None leaves it as it is: the settings'
        `grace_period`, unless an earlier call has changed it since the worker was opened. Another call may change it
        while jobs still run. Raises `InvalidOption`.

        >>> worker.stop(grace=5)
        """
        if (given := checks.grace(grace)) is not None:
            self._grace = given.total_seconds()
        self._stopping.set()
        if self._shifts is not None:
            self._shifts.current.doze.wake()

    def _stop_for_operator(self) -> None:
        self._is_told_to_stop = True
        self.stop()

    async def __aenter__(self) -> Self:
        await self._open()
        self._running = asyncio.create_task(self._work_to_the_end())
        self._running.add_done_callback(report_defect)  # the block may last for weeks, and raises only at its end
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._closes_from = asyncio.get_running_loop().time()
        try:
            if self._running is not None:
                await self._running
        finally:
            await self._close()  # a no-op, unless the task was cancelled before it began

    async def _work_to_the_end(self) -> None:
        """Work until the block ends, or until an operator stops the worker before."""
        try:
            await self._worked.work()
        finally:
            await self._worked.close()

    async def _close(self) -> None:
        """Close the shifts, then the lifespans that their handlers use."""
        if self._closes_from is None:
            self._closes_from = asyncio.get_running_loop().time()
        try:
            await self._worked.close()
        finally:
            await self._opened_lifespans.aclose()

    async def _open(self, *, has_duties: bool = True, has_ticks: bool = True) -> None:
        try:
            await self._open_shift(has_duties=has_duties, has_ticks=has_ticks)
        except DatabaseUnavailable as error:
            if not is_crowded(error):
                raise
            needed = CONNECTIONS + any(task.log_level is not None for task in self._tasks.values())
            raise too_few_connections(self._database.settings, error, needed, await self._limits()) from error

    async def _limits(self) -> Record | None:
        """The connection limits of the role and the database; None if no connection is left to read them."""
        try:
            return (await self._database.run("connection_limits"))[0]
        except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError):
            return None

    async def _open_shift(self, *, has_duties: bool, has_ticks: bool) -> None:
        """Open the first shift, with the application's lifespans around it."""
        self._stopping.clear()  # first: a stop from now on holds
        self._is_told_to_stop = False
        self._closes_from = None
        self._grace = self._database.settings.grace_period.total_seconds()
        self._processes()  # raises for a task that processes cannot run
        dsn = await self._database.dsn()
        await self._database.check_schema()
        if self._given is None:
            self._served = parse_served(None, self._usual_queues())  # tasks may have been added since
        self._counts = Counts(has_kinds=self._counts.has_kinds)
        shifts = Shifts(self._new_terms(dsn), concurrency=self._concurrency, has_duties=has_duties, has_ticks=has_ticks)
        async with AsyncExitStack() as unless_opened:
            for lifespan in self._lifespans:
                await unless_opened.enter_async_context(self._opened_for_handlers(lifespan))
            self._is_open = True
            unless_opened.callback(self._note_close)
            await shifts.open(self._schedules)
            self._opened_lifespans = unless_opened.pop_all()
        if self._shifts is not None:
            self._earlier = [each for each in (*self._earlier, self._shifts) if each.has_leftover_threads]
        self._shifts = shifts
        if self._shift.is_open:
            self._log_start(dsn)

    def _new_terms(self, dsn: str) -> Terms:
        """The terms of all shifts from now until the stop."""
        blocked_after = self._database.settings.blocked_loop_after.total_seconds()
        return Terms(
            database=self._database,
            dsn=dsn,
            tasks=self._tasks,
            served=self._served,
            most_threads=self._most_threads,
            processes=self._processes,
            middleware=self._middleware,
            failure_handlers=self._failure_handlers,
            stopping=self._stopping,
            grace=lambda: self._grace,
            stop=self._stop_for_operator,
            counts=self._counts,
            renewals=Renewals(),
            watchdog=Watchdog(blocked_after, lambda: self._shift.slots.running),
            earlier=[],
            observer=self._observer,
        )

    def _processes(self) -> Processes:
        """The processes for the tasks of one shift. Each starts when a job needs it."""
        settings = self._database.settings
        processes = Processes(
            self._most_processes,
            max_jobs=settings.process_max_jobs,
            memory_limit=settings.process_memory_limit,
            max_result_bytes=settings.max_result_bytes,
        )
        processes.expect(self._tasks.values(), self._lifespans)
        return processes

    def _log_start(self, dsn: str) -> None:
        """Log the start, and warn about suspicious tasks and queues."""
        log.info(
            "worker_started",
            worker=str(self.id),
            database=replace(self._database.settings, database_url=dsn).masked_database_url(),
            queues=self._shift.claims.queues,
            concurrency=self._concurrency,
        )
        for task in self._tasks.values():
            if gaps := task.upcasters.gaps:
                log.warning("upcasters_missing", task=task.name, version=task.version, from_versions=gaps)
        self._warn_of_foreign_queues()

    def _note_close(self) -> None:
        self._is_open = False

    @asynccontextmanager
    async def _opened_for_handlers(self, lifespan: Lifespan[Any]) -> AsyncIterator[None]:
        """Keep the lifespan open in the block. Its close has the rest of the grace period, at least `LAST_SECONDS`."""
        opened = lifespan.opened()
        await opened.__aenter__()
        try:
            yield
        finally:
            began = asyncio.get_running_loop().time()
            spent = 0.0 if self._closes_from is None else began - self._closes_from
            patience = Patience(lambda: max(self._grace - spent, LAST_SECONDS))
            try:
                async with patience:
                    await opened.__aexit__(None, None, None)
            finally:
                if patience.is_over:
                    log.warning(
                        "lifespan_cancelled",
                        lifespan=f"{lifespan.__module__}.{lifespan.__name__}",
                        seconds=round(asyncio.get_running_loop().time() - began, 1),
                        hint="the code after its yield took too long",
                    )

    @property
    def _worked(self) -> Shifts:
        """The shifts since the worker was opened."""
        if self._shifts is None:
            raise RowlockError(NOT_OPENED)
        return self._shifts

    @property
    def _shift(self) -> Shift:
        """The shift that it works in now, or has worked in last."""
        return self._worked.current

    def _warn_of_foreign_queues(self) -> None:
        """Warn of a served queue that no task names: jobs can name it, or it is misspelled and stays empty."""
        usual = self._usual_queues()
        for queue in self._served.names:
            if queue not in usual:
                meant = get_close_matches(queue, usual, 1)
                log.warning(
                    "queue_is_of_no_task", queue=queue, meant=meant[0] if meant else None, queues_of_tasks=usual
                )

    def _usual_queues(self) -> list[str]:
        return sorted({task.queue for task in self._tasks.values()} | {"default"})

    def _handle_signals(self) -> None:
        def stop() -> None:
            if self._stopping.is_set():
                self._grace = 0.0
            self.stop()

        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stop)
            keep_handler(number)
