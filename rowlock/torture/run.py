"""A run from its start to its report: sets the stage, lets the faults loose, heals everything, waits, and checks."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from rowlock.migrations import upgrade
from rowlock.queue.client import Client
from rowlock.settings import Settings
from rowlock.torture import workload
from rowlock.torture.audit import install, write_audit
from rowlock.torture.checker import Report, check
from rowlock.torture.faults import Faults
from rowlock.torture.history import Enqueue, History, Wanted
from rowlock.torture.nemesis import RATES, plan
from rowlock.torture.proxy import Link
from rowlock.torture.stage import (
    Database,
    Disk,
    Program,
    Programs,
    numbered,
    program_environment,
    python,
    url_through,
)
from rowlock.torture.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path


DRAIN_SECONDS: Final = 900.0
"""After many kills there are many jobs on their last chance, which run one by one."""
STUCK_SECONDS: Final = 60.0
"""If nothing happens to the jobs that are left for so long, nothing will."""
STOP_SECONDS: Final = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What can be chosen of a run. `rate`: the jobs a second that the enqueuers aim at, together;
    `times`: how many times as often as usual faults are to happen.
    """

    seed: int
    minutes: float
    folder: Path
    workers: int = 4
    rate: float = 1000.0
    kinds: Collection[str] = tuple(RATES)
    times: float = 1.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a run: how often each fault was done, what ended by itself, and what the checker found."""

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
        """How often each promise was broken: those of the checker's rules, and those that the run itself sees."""
        return {
            **self.report.counts,
            "jobs left unfinished": self.left,
            "HTTP requests that made two jobs": self.repeated,
            "jobs that the claims' cursors left behind": self.left_behind,
            "processes that ended by themselves": len(self.unexpected),
        }

    def lines(self) -> Iterator[str]:
        """All of it, for people."""
        yield f"ran for {self.seconds:.0f} s"
        yield "faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        if self.unavailable:
            yield f"not done here: {'; '.join(self.unavailable)}"
        yield from self.report.lines()
        yield from (f"{name} {count:,}" for name, count in self.counts.items() if name not in self.report.counts)
        yield from self.unexpected[:20]


class Torture:
    """One run; `say` is told what is going on."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.options = options
        self.say = say
        self.faults: Counter[str] = Counter()

    async def run(self) -> Outcome:
        """Run from the start to the end. Whatever happens, no process and no server is left behind."""
        options = self.options
        self._rng = random.Random(options.seed)  # noqa: S311  # the same again for the same seed
        async with AsyncExitStack() as stack:
            self._history = stack.enter_context(History(options.folder, "runner"))
            self._disk = Disk()
            stack.callback(self._disk.remove)
            self._database = Database(self._disk)
            await self._database.start()
            stack.push_async_callback(self._database.stop)
            settings = Settings(database_url=self._database.url)
            await asyncio.to_thread(upgrade, settings)
            connection = await self._database.connect()
            await install(connection)
            await connection.close()
            self._client = Client(settings)
            stack.push_async_callback(self._client.close)
            self._programs = Programs(options.folder, self._history, random.Random(options.seed))  # noqa: S311
            stack.push_async_callback(self._programs.kill_all)
            self._links = [Link(self._database.socket, self._rng) for _ in range(2)]
            for link in self._links:
                await link.open()
                stack.push_async_callback(link.close)
            await stack.enter_async_context(Watch(self._history, lambda: self._database.url))
            self._start_programs()
            began = time.monotonic()
            unavailable = await self._torment(began)
            self.say("healing, and waiting for the rest")
            left = await self._settle()
            seconds = time.monotonic() - began
            connection = await self._database.connect()
            repeated = await self._tell_http(connection)
            await write_audit(connection, options.folder)
            await connection.close()
        self.say("checking")
        report = await asyncio.to_thread(check, options.folder, periods={"torture.tick": float(workload.TICK_SECONDS)})
        return Outcome(
            report=report,
            faults=self.faults,
            unexpected=self._programs.unexpected,
            unavailable=unavailable,
            seconds=seconds,
            left=left,
            repeated=repeated,
            left_behind=_count(options.folder, '"job_left_behind"'),
        )

    def _start_programs(self) -> None:
        """Half of the processes reach the server directly, the others through a link each."""
        options = self.options
        port = _free_port()
        enqueuers = list(numbered("enqueuer", 2))
        for number, name in enumerate(numbered("worker", options.workers)):
            link = self._links[number % 4 - 2] if number % 4 >= 2 else None
            command = python(
                "-m", "rowlock", "worker", "rowlock.torture.workload:app", "--concurrency", "30", "--threads", "5"
            )
            command += ["--queues", workload.queues()]
            self._add(name, command, link)
        for name, link in zip(enqueuers, (None, self._links[0]), strict=True):
            seed, rate = f"{options.seed}-{name}-{{start}}", str(options.rate / len(enqueuers))
            self._add(
                name, python("-m", "rowlock.torture.enqueuer", name, seed, rate, f"http://127.0.0.1:{port}"), link
            )
        self._add(
            "api", python("-m", "rowlock", "api", "rowlock.torture.workload:app", "--port", str(port)), self._links[1]
        )

    def _add(self, name: str, command: list[str], link: Link | None) -> None:
        url = self._database.url if link is None else url_through(link)
        environment = program_environment(self.options.folder, name, url)
        self._programs.add(Program(name, command, environment, link))

    async def _torment(self, began: float) -> list[str]:
        unavailable = []
        kinds = set(self.options.kinds)
        if not self._disk.can_be_filled and "full" in kinds:
            kinds.discard("full")
            unavailable.append("full (a small disk can be mounted by root alone)")
        if not self._programs.can_skew:
            unavailable.append("skew (libfaketime is not installed)")
        end = began + self.options.minutes * 60
        faults = Faults(
            self._database,
            self._disk,
            self._links,
            self._programs,
            client=self._client,
            history=self._history,
            say=self.say,
        )
        self.faults = faults.done
        running: set[asyncio.Task[None]] = set()
        for fault in plan(self.options.seed, self.options.minutes, kinds, times=self.options.times):
            await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
            task = asyncio.create_task(faults.do(fault))
            running.add(task)
            task.add_done_callback(running.discard)
            for done in [task for task in running if task.done()]:
                done.result()
        await asyncio.sleep(max(0.0, end - time.monotonic()))
        await asyncio.gather(*running)
        return unavailable

    # The end.

    async def _settle(self) -> int:
        """Heal everything, enqueue no more, and wait until all is done. Returns how many jobs are not."""
        for link in self._links:
            link.heal()
        await self._programs.end(self._programs.of("enqueuer"), within=STOP_SECONDS)
        connection = await self._database.connect()
        await connection.execute("UPDATE rowlock.schedule SET is_paused = true")
        began = changed = time.monotonic()
        left, last = 1, None
        while left and time.monotonic() < min(began + DRAIN_SECONDS, changed + STUCK_SECONDS):
            await asyncio.sleep(0.5)
            (seen,) = await connection.fetch("SELECT count(*) AS jobs, sum(attempt) AS attempts FROM rowlock.job")
            if seen != last:
                last, changed = seen, time.monotonic()
                left = seen["jobs"]
        await connection.close()
        await self._programs.end(self._programs.of("worker", "api"), within=STOP_SECONDS)
        return left

    async def _tell_http(self, connection: asyncpg.Connection[Any]) -> int:
        """Whoever posts a job does not choose its id: tell the checker which jobs came from which request.

        Returns how many requests made more than one job.
        """
        rows = await connection.fetch(
            "SELECT id, args ->> 'op' AS op FROM rowlock.jobs WHERE task = $1", workload.over_http.name
        )
        for row in rows:
            wanted = [Wanted(id=row["id"], task=workload.over_http.name)]
            self._history.write(Enqueue(op=f"{row['op']}-request", how="http", jobs=wanted))
        repeated = len(rows) - len({row["op"] for row in rows})
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


def _count(folder: Path, event: str) -> int:
    """How often the workers have logged an event."""
    return sum(file.read_text(errors="replace").count(event) for file in folder.glob("worker-*.log"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
