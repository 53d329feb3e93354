"""Faults of the server: crashes, full disks, a clock that steps, failovers, a database that goes back in time."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rowlock.torture.clocks import Step
from rowlock.torture.enqueuer import LOST
from rowlock.torture.history import Fault
from rowlock.torture.scene import NotDone

if TYPE_CHECKING:
    from rowlock.torture.disk import Volume
    from rowlock.torture.nemesis import Planned
    from rowlock.torture.scene import Scene

OFFSETS: Final = (0, 2, -2, 30, -30, 3600, -3600)
"""Where the server's clock steps to: this many seconds ahead of the machine's."""

MOST_SEGMENTS: Final = 70
"""So many files of 16 MB, and some more, are in 1 GB of WAL."""


async def hit_server(scene: Scene, fault: Planned) -> None:
    """Inject one of these faults. Never two of them at a time."""
    match fault.kind:
        case "server":
            with scene.programs.trouble(), scene.fault("server"):
                await scene.database.crash()
                await asyncio.sleep(fault.seconds)
                await scene.database.start()
        case "backend":
            with scene.programs.trouble(), scene.fault("server"):
                await _kill_backend(scene, fault.choice)
                await scene.database.start()
        case "full":
            await _fill(scene, fault, scene.disk.data)
        case "full_wal":
            await _fill(scene, fault, scene.disk.wal)
        case "clock":
            await _step(scene, fault)
        case "failover":
            await _fail_over(scene, fault)
        case _:
            await _rewind(scene, fault)


async def _kill_backend(scene: Scene, choice: float) -> None:
    with suppress(*LOST):
        connection = await scene.database.server.connect()
        pids = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'rowlock%' ORDER BY pid"
        )
        if pids:
            os.kill(pids[int(choice * len(pids))]["pid"], signal.SIGKILL)
        await connection.close(timeout=5)
    await asyncio.sleep(0.2)


async def _fill(scene: Scene, fault: Planned, volume: Volume) -> None:
    with scene.programs.trouble(), scene.fault(fault.kind):
        await asyncio.to_thread(volume.fill)
        if volume is scene.disk.wal:
            await _use_up_segments(scene)
        await asyncio.sleep(fault.seconds)
        volume.free()
        await scene.database.start()


async def _use_up_segments(scene: Scene) -> None:
    """Make the server need new files for its WAL: its spare files would last for the whole fault."""
    with suppress(*LOST):
        connection = await scene.database.server.connect()
        for _ in range(MOST_SEGMENTS):
            await connection.execute("SELECT pg_logical_emit_message(true, 'torture', 'x')")
            await connection.execute("SELECT pg_switch_wal()")
        await connection.close(timeout=5)


async def _step(scene: Scene, fault: Planned) -> None:
    clock = scene.database.clock
    if clock is not None:
        others = [offset for offset in OFFSETS if offset != clock.offset]
        with scene.programs.trouble():
            await step_to(scene, others[int(fault.choice * len(others))])


async def step_to(scene: Scene, offset: int) -> None:
    """Set the server's clock, and log the audit's numbers before and after."""
    clock = scene.database.clock
    if clock is None or clock.offset == offset:
        return
    old, first = clock.offset, await scene.database.last_number()
    scene.history.write(Fault(kind="clock"))
    clock.set(offset)
    at = time.monotonic_ns()
    step = Step(at=at, old=old, new=offset, first_number=first, last_number=await scene.database.last_number())
    scene.history.write(Fault(kind="clock", note=step.note, is_over=True))


async def _fail_over(scene: Scene, fault: Planned) -> None:
    database = scene.database
    try:
        await database.attach(is_synchronous=True)
        await asyncio.sleep(fault.seconds)
    except LOST as error:
        await database.give_up_standby()
        raise NotDone(f"no standby: {error}") from error
    with scene.programs.trouble(), scene.fault("failover"):
        await database.fail_over()


async def _rewind(scene: Scene, fault: Planned) -> None:
    """Lose the last seconds: fail over to a standby that is behind, or restore an earlier copy of the data."""
    database = scene.database
    if fault.choice < 0.5:
        try:
            await database.attach(is_synchronous=False)
            moment = time.monotonic_ns()
            await database.detach()
        except LOST as error:
            await database.give_up_standby()
            raise NotDone(f"no standby: {error}") from error
    else:
        with scene.programs.trouble(), scene.fault("server"):
            moment = time.monotonic_ns()
            await database.snapshot()
    await asyncio.sleep(fault.seconds)
    with scene.programs.trouble(), scene.fault("rewind", note=str(moment)):
        if fault.choice < 0.5:
            await database.fail_over(skips_numbers=True)
        else:
            await database.restore()


__all__ = ["OFFSETS", "hit_server", "step_to"]
