"""The faults: each is logged in the history before it begins, and when it is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from rowlock.queue.jobs.unique import Unique
from rowlock.torture import workload
from rowlock.torture.faults_of_processes import hit_process
from rowlock.torture.faults_of_servers import hit_server
from rowlock.torture.faults_of_sessions import hit_sessions
from rowlock.torture.scene import NotDone

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowlock.torture.nemesis import Planned
    from rowlock.torture.scene import Scene

POISONS: Final = ("exit", "segfault", "kill", "abort")


class Faults:
    """The possible faults of the server, the links and the processes of a run; `done` counts them by kind."""

    def __init__(self, scene: Scene, say: Callable[[str], None]) -> None:
        self._scene = scene
        self._say = say
        self._server_lock = asyncio.Lock()
        self._register_lock = asyncio.Lock()
        self._pooler_lock = asyncio.Lock()
        self.done: Counter[str] = Counter()

    async def do(self, fault: Planned) -> None:
        """Inject the fault, from its begin to its end."""
        self._say(f"{fault.kind} {fault.seconds:.1f}")
        try:
            await self._do(fault)
        except NotDone as error:
            self._say(f"{fault.kind} was not done: {error}")
        else:
            self.done[fault.kind] += 1

    async def _do(self, fault: Planned) -> None:
        match fault.kind:
            case "register":
                async with self._register_lock:  # else one waits for the other's locks, and hits no process
                    await hit_process(self._scene, fault)
            case "kill" | "stop" | "freeze" | "group" | "supervisor" | "oom":
                await hit_process(self._scene, fault)
            case "server" | "backend" | "full" | "full_wal" | "clock" | "failover" | "rewind":
                async with self._server_lock:  # one at a time
                    await hit_server(self._scene, fault)
            case "pgbouncer":
                async with self._pooler_lock:
                    await hit_sessions(self._scene, fault)
            case "poison":
                how = POISONS[int(fault.choice * len(POISONS))]
                await self._scene.enqueue(workload.poison.using(unique=Unique(uuid4().hex)).job(how))  # type: ignore[arg-type]  # one of its literals
            case "block":
                await self._scene.enqueue(workload.blocks.job(fault.seconds))
            case _:
                await hit_sessions(self._scene, fault)


__all__ = ["Faults"]
