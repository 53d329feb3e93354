"""Faults between the processes and the server: links, the pooler, sessions, locks, old transactions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rowlock.torture.enqueuer import LOST

if TYPE_CHECKING:
    from rowlock.torture.nemesis import Planned
    from rowlock.torture.scene import Scene

LOCKS: Final = (
    "LOCK TABLE rowlock.worker IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE rowlock.job IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE rowlock.unique_key IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE rowlock.queue IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE rowlock.duty IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE rowlock.task IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE rowlock.finished_job IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE rowlock.schedule IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE rowlock.idle_worker IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE rowlock.worker IN SHARE ROW EXCLUSIVE MODE",
    "LOCK TABLE rowlock.job IN SHARE ROW EXCLUSIVE MODE",
    "LOCK TABLE rowlock.finished_job IN SHARE ROW EXCLUSIVE MODE",
)
"""The locks, like those of a careless migration or a VACUUM FULL."""
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '5s'"
"""A waiting lock blocks like a granted one: behind an old transaction it would block for too long."""


async def hit_sessions(scene: Scene, fault: Planned) -> None:
    """Inject one of these faults."""
    match fault.kind:
        case "terminate":
            with scene.programs.trouble():
                await _terminate(scene, fault)
        case "pin":
            await _pin(scene, fault)
        case "locks":
            with scene.programs.trouble():
                await _lock(scene, fault)
        case "pgbouncer":
            with scene.programs.trouble():
                await _kill_pooler(scene, fault)
        case _:
            with scene.programs.trouble():
                await _hit_link(scene, fault)


async def _terminate(scene: Scene, fault: Planned) -> None:
    with scene.fault("terminate"), suppress(*LOST):
        connection = await scene.database.server.connect()
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'rowlock%' AND random() < $1",
            fault.choice**2,
        )
        await connection.close(timeout=5)


async def _pin(scene: Scene, fault: Planned) -> None:
    with scene.fault("pin"), suppress(*LOST):
        connection = await scene.database.server.connect()
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        await connection.execute("SELECT count(*) FROM rowlock.job")
        if fault.choice < 0.5:  # one that has written, too: the cursors cannot settle while it is open
            await connection.execute("SELECT pg_current_xact_id()")
        await asyncio.sleep(fault.seconds)
        await transaction.rollback()
        await connection.close(timeout=5)


async def _lock(scene: Scene, fault: Planned) -> None:
    statement = LOCKS[int(fault.choice * len(LOCKS))]
    with scene.fault("locks", note=statement.removeprefix("LOCK TABLE ")), suppress(*LOST):
        connection = await scene.database.server.connect()
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(_LOCK_TIMEOUT)
        await connection.execute(statement)
        await asyncio.sleep(fault.seconds)
        await transaction.rollback()
        await connection.close(timeout=5)


async def _kill_pooler(scene: Scene, fault: Planned) -> None:
    pooler = scene.pooler
    if pooler is not None:
        with scene.fault("pgbouncer", *scene.programs.processes_through(scene.links[0])):
            pooler.kill()
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(pooler.start)


async def _hit_link(scene: Scene, fault: Planned) -> None:
    link = scene.links[int(fault.choice * len(scene.links))]
    with scene.fault(fault.kind, *scene.programs.processes_through(link)):
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


__all__ = ["LOCKS", "hit_sessions"]
