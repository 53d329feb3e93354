"""The steps of the server's clock, and the database's times without them.

A step is logged in the history when it is over: its note has the old and the new offset in seconds, and the numbers
of the audit's last change before it and after it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import msgspec

if TYPE_CHECKING:
    from rowlock.torture.audit import Change
    from rowlock.torture.history import Fault


DUE: Final = ("expires_at", "run_at", "ends_at", "deadline")
"""The times of a row that the clock of its change computed."""
STEP_SECONDS: Final = 1.0
"""How long before or after its log line a step may take effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, at a moment of the history. Changes with a number in between may have either clock."""

    at: int
    old: int
    new: int
    first_number: int
    last_number: int

    @property
    def note(self) -> str:
        """The step in the form of its fault's note."""
        return f"{self.old} {self.new} {self.first_number} {self.last_number}"

    @classmethod
    def from_fault(cls, fault: Fault) -> Self:
        """Parse the fault's note."""
        old, new, first, last = map(int, fault.note.split())
        return cls(at=fault.at, old=old, new=new, first_number=first, last_number=last)


@dataclass(slots=True)
class Clocks:
    """All steps of a run, in their order."""

    steps: list[Step] = field(default_factory=list)

    def stepped_between(self, begin: float, end: float) -> bool:
        """Whether the server's clock stepped between two moments of the history."""
        return any(begin <= step.at <= end for step in self.steps)

    def right(self, change: Change, epoch: float) -> Change:
        """Return the change with its times as if the clock had never stepped."""
        if not self.steps:
            return change
        offset = self._offset(change, epoch)
        at, committed = change.at - offset, change.committed
        return msgspec.structs.replace(
            change,
            at=at,
            began=self._right_near(change.began, at, offset, epoch),
            committed=None if committed is None else self._right_near(committed, at, offset, epoch),
            # An infinite time, noted as 0, needs no correction.
            **{name: max(0.0, at - offset) for name in DUE if (at := getattr(change, name))},
        )

    def _right_near(self, moment: float, at: float, offset: int, epoch: float) -> float:
        """Return a moment of a change's transaction without the steps. The transaction began, or ended, by a clock in
        force then; if there are several, use the one that brings it nearest to the change, which is right already.
        """
        if not moment:
            return moment
        offsets = {offset, *(other for step in self.steps for other in (step.old, step.new))}
        found = [moment - one for one in offsets if self._was_in_force(one, moment - one, epoch)]
        return min(found, key=lambda right: abs(right - at), default=moment - offset)

    def _was_in_force(self, offset: int, at: float, epoch: float) -> bool:
        """Whether the clock was so far ahead at a moment, given without the steps."""
        begins, seen = float("-inf"), self.steps[0].old
        for step in self.steps:
            ends = step.at / 1e9 + epoch
            if seen == offset and begins - STEP_SECONDS <= at <= ends + STEP_SECONDS:
                return True
            begins, seen = ends, step.new
        return seen == offset and at >= begins - STEP_SECONDS

    def right_time(self, at: float, epoch: float) -> float:
        """Return one of the database's times as if the clock had never stepped: the earliest that it can be."""
        ends = [step.at / 1e9 + epoch for step in self.steps]
        offsets = [0, *(step.new for step in self.steps)]
        for number, offset in enumerate(offsets):
            begins = ends[number - 1] if number else float("-inf")
            if begins - 1 <= at - offset <= (ends[number] if number < len(ends) else float("inf")) + 1:
                return at - offset
        return at

    def _offset(self, change: Change, epoch: float) -> int:
        index = bisect_left(self.steps, change.number, key=lambda step: step.last_number)
        # The change's number is not above that of the step with this index, which comes later, or is under way.
        if index < len(self.steps):
            step = self.steps[index]
            if change.number <= step.first_number:
                return step.old
            now = step.at / 1e9 + epoch
            return min((step.old, step.new), key=lambda offset: abs(change.at - offset - now))
        return self.steps[-1].new


__all__ = ["Clocks", "Step"]
