"""Faults of single processes: signals at any moment, during a registration, to a family, or to a task's process."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rowlock.torture import workload
from rowlock.torture.enqueuer import LOST
from rowlock.torture.history import Fault
from rowlock.torture.scene import NotDone
from rowlock.torture.stage import SUPERVISED

if TYPE_CHECKING:
    import asyncpg
    from asyncpg import Record

    from rowlock.torture.nemesis import Planned
    from rowlock.torture.scene import Scene
    from rowlock.torture.stage import Program

START_SECONDS: Final = 10.0
"""How long a worker may take to insert its row."""
FIRST_SECONDS: Final = 2.0
"""How many seconds after its start a worker connects, registers and claims."""
_TASK_CHILD: Final = "rowlock.worker.executors.child"
"""A part of the command line of a process task's process."""
_LOCK_TASKS: Final = "LOCK TABLE rowlock.task IN ACCESS EXCLUSIVE MODE"
_LOCK_WORKERS: Final = "LOCK TABLE rowlock.worker IN ACCESS EXCLUSIVE MODE"
_IS_THERE: Final = "SELECT EXISTS (SELECT FROM rowlock.worker WHERE pid = $1)"


async def hit_process(scene: Scene, fault: Planned) -> None:
    """Inject one of these faults."""
    match fault.kind:
        case "register":
            with scene.programs.trouble():
                await _hit_registering(scene, fault)
        case "group":
            _kill_family(scene, fault)
        case "supervisor":
            _signal_supervisor(scene, fault)
        case "oom":
            await _run_out_of_memory(scene, fault)
        case _:
            await _signal(scene, fault)


async def _signal(scene: Scene, fault: Planned) -> None:
    kinds = ("worker",) if fault.kind == "stop" else ("worker", "worker", "worker", "enqueuer", "api")
    targets = [program for kind in kinds for program in scene.programs.targets(kind)]
    if not targets:
        return
    program = targets[int(fault.choice * len(targets))]
    pid = program.pid
    scene.history.write(Fault(kind=fault.kind, process=pid))
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
            scene.history.write(Fault(kind=fault.kind, process=pid, is_over=True))


async def _hit_registering(scene: Scene, fault: Planned) -> None:
    """Kill a worker, and hit the process that replaces it while it registers."""
    targets = scene.programs.targets("worker")
    if not targets:
        raise NotDone("no worker runs")
    way, chance = divmod(fault.choice * 4, 1)
    program = targets[int(chance * len(targets))]
    starts = program.starts
    _kill(scene, program)
    deadline = time.monotonic() + START_SECONDS
    while program.starts == starts or not program.pid:
        if time.monotonic() > deadline:
            raise NotDone("no process replaced the killed one")
        await asyncio.sleep(0.005)
    if way == 0:  # at any moment after its start
        await asyncio.sleep(chance * FIRST_SECONDS)
        _kill(scene, program)
        return
    with suppress(*LOST):
        connection = await scene.database.server.connect()
        if way == 1:
            await _hold_registration(scene, program, connection, fault.seconds)
        elif await _is_there(connection, program.pid):
            await asyncio.sleep(0.0 if way == 2 else chance * 0.05)
            _kill(scene, program)
        await connection.close(timeout=5)


async def _hold_registration(
    scene: Scene, program: Program, connection: asyncpg.Connection[Record], seconds: float
) -> None:
    """Block a worker in the middle of its registration until its lease has run out."""
    with scene.fault("locks", note="rowlock.task, rowlock.worker while a worker registers"):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(_LOCK_TASKS)
        if await _is_there(connection, program.pid):
            await connection.execute(_LOCK_WORKERS)
            await asyncio.sleep(seconds)
        await transaction.rollback()


async def _is_there(connection: asyncpg.Connection[Record], pid: int) -> bool:
    """Wait until a worker's row is there; False if it does not come."""
    deadline = time.monotonic() + START_SECONDS
    while not await connection.fetchval(_IS_THERE, pid):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.001)
    return True


def _kill(scene: Scene, program: Program) -> None:
    if program.pid:
        scene.history.write(Fault(kind="kill", process=program.pid))
        program.signal(signal.SIGKILL)


def _kill_family(scene: Scene, fault: Planned) -> None:
    """SIGKILL a program with all processes that it has started, like the end of a container."""
    targets = scene.programs.targets("worker", SUPERVISED, SUPERVISED, "enqueuer", "api")
    if targets:
        program = targets[int(fault.choice * len(targets))]
        family = set(scene.programs.kin.of(program.name)) - {program.pid}
        _kill(scene, program)
        for pid in family:
            scene.history.write(Fault(kind="kill", process=pid))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _signal_supervisor(scene: Scene, fault: Planned) -> None:
    """SIGKILL or SIGTERM the supervisor: its processes then end by themselves."""
    targets = scene.programs.targets(SUPERVISED)
    if targets:
        program = targets[int(fault.choice * 2 * len(targets)) % len(targets)]
        is_kill = fault.choice < 0.5
        for pid in set(scene.programs.kin.of(program.name)) - {program.pid}:
            scene.history.write(Fault(kind="stop", process=pid))
        scene.history.write(Fault(kind="kill" if is_kill else "stop", process=program.pid))
        program.signal(signal.SIGKILL if is_kill else signal.SIGTERM)


async def _run_out_of_memory(scene: Scene, fault: Planned) -> None:
    """SIGKILL a process task's process, as the kernel does; or make it exceed its limit."""
    hoards = fault.choice < 1 / 3
    for seconds in (2.0, 0.5, 4.0):
        await scene.enqueue(workload.process.job(seconds, hoards))
    deadline = time.monotonic() + START_SECONDS
    while not hoards and time.monotonic() < deadline:
        names = [program.name for program in scene.programs.of("worker", SUPERVISED)]
        children = [pid for name in names for pid in scene.programs.kin.children(name, _TASK_CHILD)]
        if children:
            pid = children[int(fault.choice * len(children))]
            scene.history.write(Fault(kind="kill", process=pid))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        await asyncio.sleep(0.02)
    if not hoards:
        raise NotDone("no process of a process task ran")


__all__ = ["hit_process"]
