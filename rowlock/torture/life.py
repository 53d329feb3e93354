"""The life of one job: its changes as steps of the state machine, with all evidence on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from rowlock.torture.audit import Change, Effect, Last, Recorded
    from rowlock.torture.facts import Answers, Operation, Run
    from rowlock.torture.history import Wanted

Kind = Literal["enqueue", "claim", "requeue", "finish", "retry", "touch", "broken"]


@dataclass(slots=True)
class Step:
    """One step of a job's life. `old` is the row before, and `new` the row after (None: gone, without a trace).

    `touch` leaves the state unchanged; `broken` must never happen, such as half of a finish. A finish and a retry
    are two changes in one transaction: `old` is the deleted row, and `new` the inserted one.
    """

    kind: Kind
    old: Change | None
    new: Change | None

    @property
    def change(self) -> Change:
        """The change with the step's time, worker and number."""
        change = self.new or self.old
        assert change is not None  # noqa: S101  # one of them made this step
        return change

    @property
    def is_crash(self) -> bool:
        """Whether it rescued the job from a worker that was considered dead."""
        return self.old is not None and self.new is not None and _crashes(self.new) > _crashes(self.old)

    @property
    def ends_attempt(self) -> bool:
        """Whether an attempt ended with it."""
        return self.kind == "requeue" or (
            self.kind == "finish" and self.old is not None and self.old.worker is not None
        )

    @property
    def is_cancel_of_waiting(self) -> bool:
        """Whether it cancelled a job that did not run."""
        return self.kind == "finish" and self.change.state == "cancelled" and not self.ends_attempt

    @property
    def gives_up_key(self) -> bool:
        """Whether another job took its expired key: its row has `-infinity`, noted as the epoch."""
        return self.kind == "touch" and self.new is not None and self.new.ends_at == 0

    def __str__(self) -> str:
        old = None if self.old is None else _state(self.old)
        new = None if self.new is None else _state(self.new)
        return f"{old} → {new} (attempt {self.change.attempt}, change {self.change.number})"


@dataclass(slots=True, kw_only=True)
class Life:
    """All evidence on one job. `runs` are in the order in which they started."""

    id: UUID
    wanted: Wanted | None
    answers: Answers | None
    is_tick: bool
    steps: list[Step]
    runs: list[Run]
    operations: list[Operation]
    recorded: list[Recorded]
    effects: list[Effect]
    last: list[Last]
    changes: Sequence[Change]
    claims: list[Step]

    @property
    def state(self) -> str | None:
        """Its state at the end, if it exists."""
        return self.last[-1].state if self.last else None

    def claim_of(self, attempt: int | None) -> Step | None:
        """The step with which an attempt began."""
        return next((step for step in self.claims if step.change.attempt == attempt), None)

    def runs_of(self, attempt: int | None) -> list[Run]:
        """The calls of the handler for an attempt: one, or none if it never began."""
        return [run for run in self.runs if run.attempt == attempt]

    def asked(self, what: str) -> list[Operation]:
        """The operators' requests of this kind that were accepted, or whose answer is unknown."""
        return [one for one in self.operations if one.what == what and one.outcome != "refused"]


def steps_of(changes: Sequence[Change]) -> list[Step]:
    """Combine the two changes of a finish, and of a retry, whichever comes first; the rest is a step each."""
    steps: list[Step] = []
    live: Change | None = None
    index = 0
    while index < len(changes):
        one = changes[index]
        other = changes[index + 1] if index + 1 < len(changes) else None
        if other is not None and one.xid == other.xid and one.what != other.what:
            gone, added = (one, other) if one.state is None else (other, one)
            if gone.state is None and added.old_state is None and added.state is not None:
                kind: Kind = "finish" if gone.what == "job" else "retry"
                steps.append(Step(kind, gone, added))
                live = None if kind == "finish" else added
                index += 2
                continue
        steps.append(Step(_kind(one, live), one if one.state is None else live, one if one.state is not None else None))
        if one.what == "job":
            live = one if one.state is not None else None
        index += 1
    return steps


def _kind(change: Change, live: Change | None) -> Kind:
    if change.what != "job" or change.state is None:
        return "broken"
    if change.old_state is None:
        return "enqueue"
    if live is None or live.state != change.old_state:
        return "broken"
    if change.old_state == change.state:
        return "touch"
    return {"running": "claim", "queued": "requeue"}.get(change.state, "broken")  # type: ignore[return-value]  # of Kind


def _state(change: Change) -> str:
    state = change.state or change.old_state
    assert state is not None  # noqa: S101  # a change is from, or to, a state
    return state


def _crashes(change: Change) -> int:
    return change.crashes or 0
