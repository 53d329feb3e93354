"""Shares: the claims of a worker, divided by the executors that limit what it can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from rowlock.queue.claim.claims import Claims
from rowlock.worker.loop.slots import Executor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rowlock.queue.enqueue.task import Task
    from rowlock.worker.loop.slots import Slots

    Share: TypeAlias = tuple[Claims, Executor | None]
    """The claims of some tasks, and the executor that they are for; None for all that needs none that binds."""


class Shares:
    """Claims the tasks of each executor that binds apart from the others."""

    def __init__(self, claims: Claims, slots: Slots, tasks: Mapping[str, Task[..., Any]]) -> None:
        self._claims = claims
        self._slots = slots
        self._tasks = tasks
        self._shares: list[Share] = [(claims, None)]
        self.divide()

    def __iter__(self) -> Iterator[Share]:
        return iter(self._shares)

    def __len__(self) -> int:
        return len(self._shares)

    def __getitem__(self, part: slice) -> list[Share]:
        return self._shares[part]

    def divide(self) -> None:
        """Divide the claims anew, if other executors bind than before."""
        bound = {task: executor for executor in self._slots.binding for task in executor.tasks}
        parts: dict[Executor | None, list[str]] = {}
        for name, task in self._tasks.items():
            parts.setdefault(bound.get(name), []).extend(task.claimed_as)
        executors = list(parts) or [None]
        if executors != [executor for _, executor in self._shares]:
            self._claims.divide(list(parts.values()) or [()])
            self._shares = list(zip((self._claims, *self._claims.apart), executors, strict=True))


__all__ = ["Shares"]
