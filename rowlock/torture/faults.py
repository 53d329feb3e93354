"""The faults themselves: each is written into the history before it begins, and when it is over."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from rowlock.torture import testimony, workload
from rowlock.torture.enqueuer import LOST
from rowlock.torture.history import Enqueue, Enqueued, Fault, History, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rowlock.queue.client import Client
    from rowlock.queue.new_job import NewJob
    from rowlock.torture.nemesis import Planned
    from rowlock.torture.proxy import Link
    from rowlock.torture.stage import Database, Disk, Programs

POISONS: Final = ("exit", "segfault", "kill", "abort")


class Faults:
    """What can be done to the server, the links and the processes of a run; `done` counts it by kind."""

    def __init__(
        self,
        database: Database,
        disk: Disk,
        links: Sequence[Link],
        programs: Programs,
        *,
        client: Client,
        history: History,
        say: Callable[[str], None],
    ) -> None:
        self._database = database
        self._disk = disk
        self._links = links
        self._programs = programs
        self._client = client
        self._history = history
        self._say = say
        self._server_lock = asyncio.Lock()
        self.done: Counter[str] = Counter()

    async def do(self, fault: Planned) -> None:
        """Do it, from its begin to its end."""
        self.done[fault.kind] += 1
        self._say(f"{fault.kind} {fault.seconds:.1f}")
        match fault.kind:
            case "kill" | "stop" | "freeze":
                await self._signal(fault)
            case "terminate":
                with self._programs.trouble():
                    await self._terminate(fault)
            case "server" | "backend" | "full":
                async with self._server_lock:
                    with self._programs.trouble():
                        await self._hit_server(fault)
            case "cut" | "delay" | "black_hole" | "half_open":
                with self._programs.trouble():
                    await self._hit_link(fault)
            case "pin":
                await self._pin(fault)
            case "poison":
                how = POISONS[int(fault.choice * len(POISONS))]
                await self._enqueue(workload.poison.job(how))  # type: ignore[arg-type]  # one of its literals
            case "block":
                await self._enqueue(workload.blocks.job(fault.seconds))

    async def _signal(self, fault: Planned) -> None:
        kinds = ("worker",) if fault.kind == "stop" else ("worker", "worker", "worker", "enqueuer", "api")
        targets = [program for kind in kinds for program in self._programs.of(kind) if program.pid]
        if not targets:
            return
        program = targets[int(fault.choice * len(targets))]
        pid = program.pid
        self._history.write(Fault(kind=fault.kind, process=pid))
        match fault.kind:
            case "kill":
                program.signal(signal.SIGKILL)
            case "stop":
                program.signal(signal.SIGTERM)
            case _:
                program.signal(signal.SIGSTOP)
                await asyncio.sleep(fault.seconds)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                self._history.write(Fault(kind=fault.kind, process=pid, is_over=True))

    async def _terminate(self, fault: Planned) -> None:
        self._history.write(Fault(kind="terminate"))
        with suppress(*LOST):
            connection = await asyncpg.connect(self._database.url, timeout=5)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'rowlock%' AND random() < $1",
                fault.choice**2,
            )
            await connection.close(timeout=5)
        self._history.write(Fault(kind="terminate", is_over=True))

    async def _hit_server(self, fault: Planned) -> None:
        self._history.write(Fault(kind="full" if fault.kind == "full" else "server"))
        match fault.kind:
            case "server":
                await self._database.crash()
                await asyncio.sleep(fault.seconds)
            case "backend":
                await self._kill_backend(fault.choice)
            case _:
                await asyncio.to_thread(self._disk.fill)
                await asyncio.sleep(fault.seconds)
                self._disk.free()
        await self._database.start()
        self._history.write(Fault(kind="full" if fault.kind == "full" else "server", is_over=True))

    async def _kill_backend(self, choice: float) -> None:
        with suppress(*LOST):
            connection = await asyncpg.connect(self._database.url, timeout=5)
            pids = await connection.fetch(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'rowlock%' ORDER BY pid"
            )
            if pids:
                os.kill(pids[int(choice * len(pids))]["pid"], signal.SIGKILL)
            await connection.close(timeout=5)
        await asyncio.sleep(0.2)

    async def _hit_link(self, fault: Planned) -> None:
        number = int(fault.choice * len(self._links))
        link = self._links[number]
        hit = [program.pid for program in self._programs.all if program.link is link and program.pid]
        for pid in hit:
            self._history.write(Fault(kind=fault.kind, process=pid))
        match fault.kind:
            case "cut":
                link.cut()
            case "delay":
                link.delay(0.02 + fault.choice * 0.3)
            case "black_hole":
                link.black_hole()
            case _:
                link.half_open()
        if fault.seconds:
            await asyncio.sleep(fault.seconds)
            link.heal()
        for pid in hit:
            self._history.write(Fault(kind=fault.kind, process=pid, is_over=True))

    async def _pin(self, fault: Planned) -> None:
        self._history.write(Fault(kind="pin"))
        with suppress(*LOST):
            connection = await asyncpg.connect(self._database.url, timeout=5)
            transaction = connection.transaction(isolation="repeatable_read")
            await transaction.start()
            await connection.execute("SELECT count(*) FROM rowlock.job")
            if fault.choice < 0.5:  # one that has written, too: the cursors cannot settle while it is open
                await connection.execute("SELECT pg_current_xact_id()")
            await asyncio.sleep(fault.seconds)
            await transaction.rollback()
            await connection.close(timeout=5)
        self._history.write(Fault(kind="pin", is_over=True))

    async def _enqueue(self, job: NewJob[Any]) -> None:
        wanted = [Wanted(id=job.id, task=job.task, max_attempts=job.options.max_attempts)]
        for number in range(100):
            op = f"{job.id}-{number}"
            self._history.write(Enqueue(op=op, how="runner", jobs=wanted, is_again=number > 0))
            testimony.note("asked", [job.id])
            try:
                await self._client.enqueue_many([job], again=True)
            except LOST:
                self._history.write(Enqueued(op=op, outcome="unknown"))
                await asyncio.sleep(0.5)
            else:
                self._history.write(Enqueued(op=op, outcome="stored"))
                testimony.note("stored", [job.id])
                return
