"""Shares: a worker's claims, divided by the executors that limit how many jobs it can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from rowlock.queue.claim.claims import Claims
from rowlock.worker.loop.slots import Executor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rowlock.queue.enqueue.task import Task
    from rowlock.worker.loop.slots import Slots

    Share: TypeAlias = tuple[Claims, Executor | None]
    """The claims of some tasks, and their binding executor; None for the tasks without a binding executor."""


class Shares:
    """Separate claims for the tasks of each binding executor: one with less room than there are slots."""

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
        """Divide the claims again if the binding executors have changed."""
        bound = {task: executor for executor in self._slots.binding for task in executor.tasks}
        parts: dict[Executor | None, list[str]] = {}
        for name, task in self._tasks.items():
            parts.setdefault(bound.get(name), []).extend(task.claimed_as)
        executors = list(parts) or [None]
        if executors != [executor for _, executor in self._shares]:
            self._claims.divide(list(parts.values()) or [()])
            self._shares = list(zip((self._claims, *self._claims.apart), executors, strict=True))


__all__ = ["Shares"]
