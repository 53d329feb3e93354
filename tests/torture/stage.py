"""Where crash points are visited: the proxy, the children that are killed, and the one who goes on after each crash."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote
from uuid import UUID, uuid4

import asyncpg
import msgspec

from rowlock import NewJob, Rowlock, Settings
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.finish.finishes import Finishes, Unsuccess
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import CANCELLED, decide
from rowlock.queue.jobs.results import describe_error
from rowlock.torture.audit import install
from rowlock.torture.history import AnyEvent, End, History, Start
from tests.torture.operations import Order, Site, declare, new_job
from tests.torture.wire import Wire, open_wire

if TYPE_CHECKING:
    from asyncpg import Record

    Connection: TypeAlias = asyncpg.Connection[Record]

LONG = timedelta(hours=1)
_decoder = msgspec.json.Decoder(AnyEvent)


class Children:
    """The processes that are killed, one at a time: forked by a small program that has loaded everything already."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.operations"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            cwd=Path(__file__).parents[2],
        )
        theirs.close()
        self._ours.setblocking(False)
        self._pid: asyncio.Future[int] | None = None
        self._code: asyncio.Future[int] | None = None

    def expect(self) -> None:
        """The next child has not begun yet."""
        loop = asyncio.get_running_loop()
        self._pid, self._code = loop.create_future(), loop.create_future()

    async def run(self, order: Order) -> tuple[int, int]:
        """Run a child to its end; its number, and its exit code."""
        assert self._pid is not None
        assert self._code is not None
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._ours, msgspec.json.encode(order) + b"\n")
        told = b""
        for future in (self._pid, self._code):
            while b"\n" not in told:
                told += await loop.sock_recv(self._ours, 100)
            number, _, told = told.partition(b"\n")
            future.set_result(int(number))
        return self._pid.result(), self._code.result()

    async def kill(self) -> None:
        """Kill the child that runs; returns when it is dead."""
        assert self._pid is not None
        assert self._code is not None
        with suppress(ProcessLookupError):
            os.kill(await self._pid, signal.SIGKILL)
        await asyncio.shield(self._code)

    def close(self) -> None:
        """End the program."""
        self._ours.close()
        self._program.wait(10)


class Survivor:
    """A worker that goes on after each crash: it rescues, claims, and finishes, over a connection of its own."""

    def __init__(self, app: Rowlock, history: History, connection: ControlConnection) -> None:
        self.id = uuid7()
        self.app = app
        self.history = history
        self.control = connection
        self.claims = Claims(connection, ["default"], list(app.tasks))
        self.finishes = Finishes(connection, self.id, _never)
        self.held: list[Record] = []

    async def register(self, worker: UUID, pid: int, lease: timedelta) -> None:
        """Register a worker: this one, or one that is dead."""
        tasks = list(self.app.tasks)
        await self.control.fetch(
            "register_worker", worker, "here", pid, "0", ["default"], tasks, 1, "running", lease, []
        )

    async def enqueue(self, tasks: Mapping[UUID, str]) -> None:
        """Enqueue a job of each task, with these ids."""
        jobs: list[NewJob[Any]] = [new_job(self.app, task, job_id) for job_id, task in tasks.items()]
        site = Site(url="", history=self.history, ids=list(tasks), is_done=_nothing)
        await site.enqueue("many", jobs, lambda: self.app.enqueue_many(jobs))

    async def claim(self, worker: UUID | None = None) -> list[Record]:
        """Claim what is due, for this worker or for one that is about to die; what has crashed often, alone."""
        worker = worker or self.id
        return await self.claims.claim(worker, 100, {}) or await self.claims.claim_alone(worker)

    async def rescue(self) -> int:
        """Take back what the dead ones held; returns how many jobs that were."""
        rows = await self.control.fetch("rescue", self.app.settings.max_crashes, 100, False)
        await self.control.fetch("end_overdue", 100)
        await self.control.fetch("forget_workers")
        return len(rows)

    async def work(self) -> int:
        """Do all that is held or due; returns how many attempts that were."""
        done = 0
        while rows := self.held or await self.claim():
            self.held = []
            done += len(rows)
            asked = {row["id"] for row in await self.control.fetch("list_cancel_requests", self.id)}
            for row in rows:
                await self._perform(row, is_cancelled=row["id"] in asked)
            await self.finishes.flush()
        return done

    async def fail(self) -> None:
        """Claim what is due, and let it fail."""
        for row in await self.claim():
            run = self._start(row)
            self.history.write(End(job=row["id"], attempt=row["attempt"], run=run, how="error"))
            error = ValueError("as always")
            decision = decide(error, errors=row["errors"], max_attempts=row["max_attempts"], delay=timedelta)
            self.finishes.ended(Unsuccess(row, decision, describe_error(error), time.monotonic()))
        await self.finishes.flush()

    async def _perform(self, row: Record, *, is_cancelled: bool) -> None:
        run = self._start(row)
        self.history.write(
            End(job=row["id"], attempt=row["attempt"], run=run, how="stopped" if is_cancelled else "return")
        )
        if is_cancelled:
            self.finishes.ended(Unsuccess(row, CANCELLED, None, time.monotonic()))
            return
        if row["task"] == "torture.exactly_once":
            async with self.app.database.connection() as connection:
                await connection.execute(
                    "INSERT INTO rowlock_audit.effect VALUES ($1, $2, $3)", row["id"], row["attempt"], run
                )
        self.finishes.succeeded(_Success(row, self.id, f'{{"run": "{run}"}}'))

    def _start(self, row: Record) -> str:
        run = uuid4().hex
        self.history.write(Start(job=row["id"], attempt=row["attempt"], run=run, task=row["task"]))
        return run


class _Success:
    def __init__(self, claimed: Record, worker: UUID, result: str) -> None:
        self.claimed, self.worker, self.began = claimed, worker, time.monotonic()
        self.result: str | None = result


def _never(success: object, error: Exception) -> Unsuccess:
    raise AssertionError("every result can be stored") from error


async def _nothing() -> None: ...


class Stage:
    """One database, with the proxy before it, the survivor beside it, and the folder in which all histories are.

    `connection` is for what a test asks, and `clock` for what goes on while it waits.
    """

    def __init__(
        self, url: str, wire: Wire, folder: Path, *, connection: Connection, clock: Connection, survivor: Survivor
    ) -> None:
        self.url = url
        self.wire = wire
        self.folder = folder
        self.connection = connection
        self.clock = clock
        self.survivor = survivor

    @property
    def wire_url(self) -> str:
        """The DSN that leads through the proxy."""
        return self.url.replace(quote(str(self.wire.server_dir)), quote(str(self.wire.folder)))

    def told(self, by: str) -> list[AnyEvent]:
        """What a process has written down."""
        return [
            _decoder.decode(line)
            for file in self.folder.glob(f"{by}-*{History.SUFFIX}")
            for line in file.read_bytes().splitlines()
        ]

    async def nothing_is_left_over(self) -> bool:
        """Whether no connection but this stage's own two is in a transaction, or holds a lock."""
        busy: int = await self.connection.fetchval(
            """
            SELECT (SELECT count(*) FROM pg_stat_activity AS a
                     WHERE a.datname = current_database() AND a.pid <> ALL($1::int[]) AND a.state <> 'idle')
                 + (SELECT count(*) FROM pg_locks AS l
                     WHERE l.pid <> ALL($1::int[])
                       AND l.pid IN (SELECT a.pid FROM pg_stat_activity AS a WHERE a.datname = current_database()))
            """,
            [self.connection.get_server_pid(), self.clock.get_server_pid()],
        )
        return busy == 0


@asynccontextmanager
async def open_stage(url: str, server_dir: str, folder: Path) -> AsyncIterator[Stage]:
    """Set the stage in a migrated, empty database."""
    connection, clock = await asyncpg.connect(url), await asyncpg.connect(url)
    settings = Settings(database_url=url)
    control = ControlConnection(settings, url, purpose="survivor")
    finisher: asyncio.Task[None] | None = None
    try:
        await install(connection)
        # Nothing but what a crash point is about happens while it is visited.
        await connection.execute(
            "CREATE TABLE mine (job uuid);"
            "UPDATE rowlock.duty SET every = '1 day', next_run_at = now() + interval '1 day'"
        )
        with History(folder, "survivor") as history:
            async with open_wire(server_dir) as wire, Rowlock(settings=settings) as app:
                declare(app, history, asyncio.Event(), asyncio.Event())
                survivor = Survivor(app, history, control)
                await survivor.register(survivor.id, os.getpid(), LONG)
                finisher = asyncio.create_task(survivor.finishes.run())
                yield Stage(url, wire, folder, connection=connection, clock=clock, survivor=survivor)
    finally:
        if finisher is not None:
            finisher.cancel()
        await control.close()
        connection.terminate()
        clock.terminate()
