"""A run from start to report: start the programs, inject the faults, heal everything, wait, and check."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from rowlock.migrations import upgrade
from rowlock.queue.connect import database
from rowlock.queue.enqueue.store import Store
from rowlock.settings import Settings
from rowlock.torture import operated, testimony, witness, workload
from rowlock.torture.audit import install, write_audit
from rowlock.torture.checker import Report, Violation, check
from rowlock.torture.closing import plant, settle, write_closing
from rowlock.torture.database import Database, faketime
from rowlock.torture.disk import Disk
from rowlock.torture.faults import Faults
from rowlock.torture.faults_of_servers import step_to
from rowlock.torture.history import Enqueue, History, Wanted
from rowlock.torture.nemesis import DEFAULT, plan
from rowlock.torture.pooler import Pooler, find_pgbouncer
from rowlock.torture.proxy import Link
from rowlock.torture.remains import STALE_WORKERS, look, write_remains
from rowlock.torture.rewinds import read_windows
from rowlock.torture.scene import Scene
from rowlock.torture.server import faketime_files, sweep_dead_faketime
from rowlock.torture.stage import (
    SUPERVISED,
    Program,
    Programs,
    numbered,
    program_environment,
    python,
    temporary_files,
    url_through,
)
from rowlock.torture.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path


DRAIN_SECONDS: Final = 900.0
"""After many kills there are many jobs on their last chance, which run one by one."""
STUCK_SECONDS: Final = 60.0
"""After so long without progress the jobs that are left will not finish."""
STOP_SECONDS: Final = 40.0
UPKEEP_SECONDS: Final = 30.0
STEPPING: Final = frozenset({"clock", "failover", "rewind"})
"""Faults after which the database's times and the server's clock may disagree for a while."""
NAMELESS: Final = (workload.over_http.name, operated.again.name, operated.now.name)
"""Tasks whose jobs get their ids from the server."""
DEADLY: Final = (workload.POISON_QUEUE, operated.compute.queue)
"""Queues with jobs that take their worker down: a worker that must live for the whole run does not serve them."""
_WORKER: Final = python(
    *("-m", "rowlock", "worker", "rowlock.torture.application:app"),
    *("--concurrency", "30", "--threads", "5", "--task-processes", "1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a run. `rate`: the jobs a second that the enqueuers aim at, together;
    `times`: the factor on the usual frequency of faults.
    """

    seed: int
    minutes: float
    folder: Path
    workers: int = 4
    rate: float = 1000.0
    kinds: Collection[str] = DEFAULT
    times: float = 1.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The outcome of a run: how often each fault was injected, what ended by itself, and the checker's report."""

    report: Report
    faults: Counter[str]
    unexpected: list[str]
    unavailable: list[str]
    seconds: float
    left: int
    repeated: int
    left_behind: int

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """How often each promise was broken: by the checker's rules, and by the run's own checks."""
        return {
            **self.report.counts,
            "jobs left unfinished": self.left,
            "HTTP requests that made two jobs": self.repeated,
            "jobs that the claims' cursors left behind": self.left_behind,
            "processes that ended by themselves": len(self.unexpected),
        }

    def lines(self) -> Iterator[str]:
        """The outcome as lines of text."""
        yield f"ran for {self.seconds:.0f} s"
        yield "faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        if self.unavailable:
            yield f"not done here: {'; '.join(self.unavailable)}"
        yield from self.report.lines()
        yield from (f"{name} {count:,}" for name, count in self.counts.items() if name not in self.report.counts)
        yield from self.unexpected[:20]


class Torture:
    """One run; it calls `say` with its progress."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.options = options
        self.say = say
        self.faults: Counter[str] = Counter()

    async def run(self) -> Outcome:
        """Run from start to end. Whatever happens, no process and no server is left behind."""
        options = self.options
        self._rng = random.Random(options.seed)  # noqa: S311  # the same sequence for the same seed
        async with AsyncExitStack() as stack:
            self._history = stack.enter_context(History(options.folder, "runner"))
            testimony.open_file(options.folder, "runner")
            stack.callback(sweep_dead_faketime, faketime_files())
            self._disk = Disk()
            stack.callback(self._disk.remove)
            kinds, unavailable = self._available()
            await self._make_database(stack, kinds)
            self._programs = Programs(options.folder, self._history, random.Random(options.seed))  # noqa: S311
            stack.push_async_callback(self._programs.kill_all)
            await stack.enter_async_context(Watch(self._history, lambda: self._database.server.url))
            await self._open_links(stack, has_pooler="pgbouncer" in kinds)
            self._start_programs()
            began = time.monotonic()
            watch = witness.Watch(self._queue, excused=witness.BY_THE_CLOCK if STEPPING & kinds else ())
            watching = asyncio.create_task(watch.run())
            stack.callback(watching.cancel)
            await self._torment(began, kinds)
            watching.cancel()
            self.say("healing, and waiting for the rest")
            left = await self._settle()
            seconds = time.monotonic() - began
            repeated, verdicts = await self._write_down()
        self.say("checking")
        report = await asyncio.to_thread(check, options.folder, periods={"torture.tick": float(workload.TICK_SECONDS)})
        return Outcome(
            report=_joined(report, witness.together(watch.verdicts, verdicts)),
            faults=self.faults,
            unexpected=self._programs.unexpected,
            unavailable=unavailable,
            seconds=seconds,
            left=left,
            repeated=repeated,
            left_behind=_count(options.folder, '"job_left_behind"'),
        )

    async def _make_database(self, stack: AsyncExitStack, kinds: Collection[str]) -> None:
        """Create the server and the schema, with everything that watches the tables."""
        has_two = not {"failover", "rewind"}.isdisjoint(kinds)
        self._database = Database(self._disk, has_clock="clock" in kinds, has_two=has_two)
        stack.push_async_callback(self._database.stop)
        await self._database.create()
        settings = Settings(database_url=self._database.url)
        await asyncio.to_thread(upgrade, settings)
        connection = await self._database.connect()
        await plant(connection)
        await install(connection)
        await witness.install(connection)
        await connection.close()
        self._queue = database.Database(settings)
        stack.push_async_callback(self._queue.close)

    async def _write_down(self) -> tuple[int, list[witness.Verdict]]:
        """Save the database's final state. Returns how many requests were repeated, and the verdicts."""
        folder = self.options.folder
        connection = await self._database.connect()
        repeated = await self._log_http(connection)
        await write_closing(connection, folder, self._settled)
        await self._look_for_remains(connection)
        await write_audit(connection, folder)
        verdicts = [
            *await witness.judge(connection, folder, await asyncio.to_thread(read_windows, folder)),
            *witness.without(await witness.audited(self._queue), self._excused_in_the_end()),
        ]
        await connection.close()
        return repeated, verdicts

    def _excused_in_the_end(self) -> Collection[str]:
        """Return the invariants that the last audit excuses: those of the clock, if it was stepped."""
        return witness.BY_THE_CLOCK if self.faults["clock"] else ()

    def _available(self) -> tuple[set[str], list[str]]:
        """Return the requested faults that are possible here, and those that are not, with the reasons."""
        program = find_pgbouncer()
        needs = (
            ({"full", "full_wal"}, self._disk.can_be_filled, "only root can mount a small disk"),
            ({"clock", "skew"}, faketime() is not None, "libfaketime is not installed"),
            ({"pgbouncer"}, program is not None, "no pgbouncer of 1.21 or newer is in PATH"),
        )
        wanted = {*self.options.kinds, "skew"}
        missing = [(sorted(names & wanted), reason) for names, is_there, reason in needs if not is_there]
        kinds = set(self.options.kinds).difference(*(names for names, _ in missing))
        return kinds, [f"{', '.join(names)} ({reason})" for names, reason in missing if names]

    async def _open_links(self, stack: AsyncExitStack, *, has_pooler: bool) -> None:
        """Open two links; the first leads through a PgBouncer, if there is to be one."""
        self._pooler = None
        sockets = [self._database.socket, self._database.socket]
        if has_pooler and (program := find_pgbouncer()):
            self._pooler = Pooler(program, self._disk.folder / "pooler", self._database.socket.parent)
            stack.callback(self._pooler.kill)
            await asyncio.to_thread(self._pooler.start)
            sockets[0] = self._pooler.socket
        self._links = [Link(socket, self._rng) for socket in sockets]
        for link in self._links:
            await link.open()
            stack.push_async_callback(link.close)

    def _start_programs(self) -> None:
        """Half of the processes reach the server directly, the others through a link each.

        No fault hits only the first worker, the first enqueuer or the first API.
        """
        options = self.options
        enqueuers, apis = list(numbered("enqueuer", 2)), list(numbered("api", 2))
        ports = [_free_port() for _ in apis]
        addresses = [f"http://127.0.0.1:{port}" for port in ports]
        for number, name in enumerate(numbered("worker", options.workers)):
            link = self._links[number % 4 - 2] if number % 4 >= 2 else None
            is_spared = number == 0 and options.workers > 1
            queues = workload.queues(but=DEADLY if is_spared else ())
            self._add(name, [*_WORKER, "--queues", queues], link, is_spared=is_spared)
        self._add(f"{SUPERVISED}-1", [*_WORKER, "--queues", workload.queues(), "--processes", "2"], self._links[1])
        for number, (name, link) in enumerate(zip(enqueuers, (None, self._links[0]), strict=True)):
            seed, rate = f"{options.seed}-{name}-{{start}}", str(options.rate / len(enqueuers))
            command = python("-m", "rowlock.torture.enqueuer", name, seed, rate, addresses[number])
            self._add(name, command, link, is_spared=number == 0)
        for number, name in enumerate(apis):
            command = python("-m", "rowlock", "api", "rowlock.torture.application:app", "--port", str(ports[number]))
            self._add(name, command, self._links[1], is_spared=number == 0)
        seed = f"{options.seed}-operator-{{start}}"
        self._add("operator", python("-m", "rowlock.torture.operator", "operator", seed, *addresses), self._links[0])
        self._programs.watch()

    def _add(self, name: str, command: list[str], link: Link | None, *, is_spared: bool = False) -> None:
        url = self._database.url if link is None else url_through(link)
        environment = program_environment(self.options.folder, name, url)
        if self._pooler is not None and link is self._links[0]:
            environment["ROWLOCK_LISTEN"] = "false"
        self._programs.add(Program(name, command, environment, link, is_spared=is_spared))

    async def _torment(self, began: float, kinds: Collection[str]) -> None:
        end = began + self.options.minutes * 60
        self._scene = Scene(
            database=self._database,
            disk=self._disk,
            links=self._links,
            programs=self._programs,
            store=Store(self._queue),
            history=self._history,
            pooler=self._pooler,
        )
        faults = Faults(self._scene, self.say)
        self.faults = faults.done
        running: set[asyncio.Task[None]] = set()
        try:
            for fault in plan(self.options.seed, self.options.minutes, kinds, times=self.options.times):
                await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
                task = asyncio.create_task(faults.do(fault))
                running.add(task)
                task.add_done_callback(running.discard)
                for done in [task for task in running if task.done()]:
                    done.result()
            await asyncio.sleep(max(0.0, end - time.monotonic()))
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    # The end.

    async def _settle(self) -> int:
        """Heal everything, enqueue no more, and wait until all jobs are done. Returns how many are not."""
        for link in self._links:
            link.heal()
        if self._database.clock is not None:  # jobs due by a clock that was ahead must not wait for it
            await step_to(self._scene, self._database.clock.highest)
        await self._programs.end(self._programs.of("enqueuer", "operator"), within=STOP_SECONDS)
        connection = await self._database.connect()
        await connection.execute("UPDATE rowlock.schedule SET is_paused = true")
        await connection.execute("UPDATE rowlock.queue SET paused_at = NULL, concurrency = NULL")
        began = changed = time.monotonic()
        left, last = 1, None
        while left and time.monotonic() < min(began + DRAIN_SECONDS, changed + STUCK_SECONDS):
            await asyncio.sleep(0.5)
            (seen,) = await connection.fetch("SELECT count(*) AS jobs, sum(attempt) AS attempts FROM rowlock.job")
            if seen != last:
                last, changed = seen, time.monotonic()
                left = seen["jobs"]
        self._settled = await settle(connection)
        await self._wait_for_upkeep(connection)
        await connection.close()
        await self._programs.end(self._programs.of("worker", SUPERVISED, "api"), within=STOP_SECONDS)
        return left

    async def _wait_for_upkeep(self, connection: asyncpg.Connection[Any]) -> None:
        """Wait until the workers have removed killed workers: the last worker to stop does not clean up any more."""
        deadline = time.monotonic() + UPKEEP_SECONDS
        while time.monotonic() < deadline:
            if not await connection.fetchval(STALE_WORKERS):
                return
            await asyncio.sleep(0.5)

    async def _look_for_remains(self, connection: asyncpg.Connection[Any]) -> None:
        """Search for leftovers of the programs. The runner's own sessions, and the pooler's, end before."""
        await self._queue.close()
        if self._pooler is not None:
            self._pooler.kill()
        kin, place = self._programs.kin, temporary_files(self.options.folder)
        outside = {
            "process": lambda: [f"{pid} of {name}" for pid, name in kin.all().items()],
            "temporary file": lambda: [str(file.relative_to(place)) for file in place.rglob("*")],
        }
        write_remains(self.options.folder, await look(connection, outside, kin.vitals))

    async def _log_http(self, connection: asyncpg.Connection[Any]) -> int:
        """Log which jobs came from which request, for the checker: a client that posts a job does not choose its id.

        Returns how many requests made more than one job.
        """
        rows = await connection.fetch(
            "SELECT id, task, args ->> 'op' AS op FROM rowlock.jobs WHERE task = ANY($1::text[])", list(NAMELESS)
        )
        for row in rows:
            wanted = [Wanted(id=row["id"], task=row["task"])]
            self._history.write(Enqueue(op=f"{row['id']}-request", how="http", jobs=wanted))
        ops = [row["op"] for row in rows if row["task"] == workload.over_http.name]
        repeated = len(ops) - len(set(ops))
        rows = await connection.fetch(
            "SELECT array_agg(id) AS ids, args ->> 'op' AS op, min((args ->> 'of')::integer) AS wanted "
            "FROM rowlock.jobs WHERE task = $1 GROUP BY 2",
            workload.many_over_http.name,
        )
        for row in rows:
            wanted = [Wanted(id=job, task=workload.many_over_http.name) for job in row["ids"]]
            self._history.write(Enqueue(op=f"{row['op']}-request", how="http", jobs=wanted, of=row["wanted"]))
            repeated += len(row["ids"]) > row["wanted"]
        return repeated


def _joined(report: Report, verdicts: list[witness.Verdict]) -> Report:
    """The checker's report with the witness's verdicts as further rules."""
    sentences = [(one.rule, sentence) for one in verdicts for sentence in one.sentences]
    return replace(
        report,
        counts={**report.counts, **{one.rule: one.count for one in verdicts}},
        violations=(*report.violations, *(Violation(rule=rule, subject="", evidence=what) for rule, what in sentences)),
        looked={**report.looked, **{one.rule: one.looked_at for one in verdicts}},
    )


def _count(folder: Path, event: str) -> int:
    """Count how often the workers have logged an event."""
    return sum(file.read_text(errors="replace").count(event) for file in folder.glob("*.log"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
