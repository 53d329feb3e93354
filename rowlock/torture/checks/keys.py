"""Is a unique key held by one job at a time, and is whoever is refused told of a job that holds it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence, Refusal
    from rowlock.torture.life import Life

COMMIT_SECONDS: Final = 60.0
"""A job that has left may be seen for so long, if the transaction in which it did was slow to commit."""
CLOCK_SECONDS: Final = 1.0
"""How far the two clocks may be apart."""


def note_holds(life: Life, evidence: Evidence) -> None:
    """Note when the job holds its unique key: from its insert on until it ends, or until it is claimed.

    A job that is held until its start, and comes back to the queue, holds its key again only if no other has it.
    """
    key = next((change.unique_key for change in life.changes if change.unique_key), None)
    if key is None and life.wanted is not None and life.wanted.key is not None:
        key = life.wanted.key
    if key is None or not life.changes:
        return
    ends = {"claim", "finish"} if life.wanted is not None and life.wanted.until == "start" else {"finish"}
    holds = evidence.holds[key]
    begin: int | None = None
    for step in life.steps:
        if step.kind in {"enqueue", "retry"}:
            begin = step.change.number
        elif step.kind in ends and begin is not None:
            left = step.old if step.kind == "finish" and step.old is not None else step.change
            holds.append((begin, left.number, life.id))
            begin = None
    if begin is not None:
        holds.append((begin, inf, life.id))


def unique(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """At most one job holds a key at a time."""
    for key, holds in evidence.holds.items():
        holds.sort()
        held_until, holder = 0.0, holds[0][2]
        for begin, end, job in holds:
            if begin < held_until:
                yield str(job), f"it took the key {key!r} (change {begin}) while job {holder} held it"
            if end > held_until:
                held_until, holder = end, job


def keyless(life: Life, _: Evidence) -> Iterator[str]:
    """A job that was asked for with a unique key has it."""
    if life.wanted is not None and life.wanted.key is not None and life.changes:
        stored = life.changes[0].unique_key
        if stored != life.wanted.key:
            yield f"it was to have the unique key {life.wanted.key!r}, and has {stored!r}"


def refused(life: Life, evidence: Evidence) -> Iterator[str]:
    """Nobody is told "it exists already" of a job that does not, or that holds another key."""
    for refusal in evidence.refusals.get(life.id, ()):
        keys, job = {wanted.key for wanted in refusal.wanted}, refusal.wanted[0].id
        if not life.changes:
            yield f"job {job} was refused because of it, and it never existed"
        elif life.changes[0].unique_key not in keys:
            yield f"job {job} was refused because of it, and its key is {life.changes[0].unique_key!r}"
        elif not _was_live(life, refusal, evidence):
            yield f"job {job} was refused because of it, when it did not exist yet, or had ended long ago"


def _was_live(life: Life, refusal: Refusal, evidence: Evidence) -> bool:
    """Whether the job was live at some moment of the enqueue, as far as the two clocks can tell."""
    if not evidence.epochs:
        return True
    begin, end = evidence.database_time(refusal.began), evidence.database_time(refusal.ended)
    came = [step.change.at for step in life.steps if step.kind in {"enqueue", "retry"}]
    left = [step.change.at for step in life.steps if step.kind == "finish"]
    return any(
        since <= end + CLOCK_SECONDS and until >= begin - COMMIT_SECONDS
        for since, until in zip(came, [*left, inf], strict=False)
    )
