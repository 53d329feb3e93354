"""Check that one job holds a unique key at a time, and that a refused enqueue returns a holder."""

from __future__ import annotations

from itertools import pairwise, zip_longest
from math import inf
from typing import TYPE_CHECKING, Final

from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Refusal
    from rowlock.torture.life import Life

COMMIT_SECONDS: Final = 60.0
"""How long a job may stay visible after it has left, if its transaction was slow to commit."""
CLOCK_SECONDS: Final = 1.0
"""The largest difference between the two clocks."""


def note_holds(life: Life, evidence: Evidence) -> None:
    """Note when the job holds its unique key: from its insert until it ends, or until its claim.

    A job with a key until its start holds it again after a return to the queue only if no other job has it.
    """
    key = next((change.unique_key for change in life.changes if change.unique_key), None)
    if key is None and life.wanted is not None and life.wanted.key is not None:
        key = life.wanted.key
    if key is None or not life.changes:
        return
    if life.wanted is not None and life.wanted.until == "period":
        first = life.changes[0]
        evidence.periods_held[key].append((first.began, first.at, life.wanted.period or 0.0, life.id))
        return
    ends = {"claim", "finish"} if life.wanted is not None and life.wanted.until == "start" else {"finish"}
    _note_end(life, evidence)
    holds = evidence.holds[key]
    begin: int | None = None
    for step in life.steps:
        if step.kind in {"enqueue", "retry"}:
            begin = step.change.number
        elif (step.kind in ends or step.gives_up_key) and begin is not None:
            left = step.old if step.kind == "finish" and step.old is not None else step.change
            holds.append((begin, left.number, life.id))
            begin = None
    if begin is not None:
        holds.append((begin, inf, life.id))


def _note_end(life: Life, evidence: Evidence) -> None:
    """Note how and when the job released its key, and when it waited for its next attempt."""
    if life.wanted is not None and life.wanted.until == "finish":
        evidence.between[life.id] = [
            (step.change.at, after.change.at)
            for step, after in pairwise(life.steps)
            if step.kind == "requeue" and after.kind in {"claim", "finish"}
        ]
    for step in life.steps:
        if step.is_cancel_of_waiting:
            evidence.let_go[life.id] = ("were cancelled while they waited", step.change)
        elif step.kind == "finish" and step.change.state in {"expired", "failed"}:
            evidence.let_go[life.id] = (step.change.state, step.change)
    evidence.looked["unique violations: keys that were taken again"] += any(step.kind == "retry" for step in life.steps)


def _count_ends(holds: list[tuple[int, float, UUID]], evidence: Evidence) -> None:
    """Count the jobs that released a key which another job asked for afterwards."""
    for (_, _, job), following in zip_longest(holds, holds[1:]):
        asked = [evidence.database_time(one.began) for one in evidence.refusals.get(job, ())]
        evidence.looked["unique violations: keys of jobs that waited for their next attempt"] += any(
            begin < at < end for begin, end in evidence.between.get(job, ()) for at in asked
        )
        if job in evidence.let_go:
            how, end = evidence.let_go[job]
            since = end.at + CLOCK_SECONDS
            refusals = (evidence.database_time(one.began) for one in evidence.refusals.get(job, ()))
            # A job that took the key over before, from one whose time was over, shows nothing of its release.
            is_followed = following is not None and following[0] > end.number
            was_asked_for = is_followed or any(began > since for began in refusals)
            evidence.looked[f"unique violations: keys of jobs that {how}"] += was_asked_for


def unique(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """At most one job holds a key at a time."""
    for key, holds in evidence.holds.items():
        holds.sort()
        evidence.looked["unique violations"] += len(holds)
        _count_ends(holds, evidence)
        evidence.looked["unique violations: keys across tasks"] += len(holds) * key.startswith(":")
        held_until, holder = 0.0, holds[0][2]
        for begin, end, job in holds:
            if begin < held_until:
                yield str(job), f"it took the key {key!r} (change {begin}) while job {holder} held it"
            if end > held_until:
                held_until, holder = end, job


def periods(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A key for a period is claimed again only after the period, whatever became of the job."""
    for key, holds in evidence.periods_held.items():
        holds.sort(key=lambda hold: hold[1])
        for (began, _, seconds, holder), (_, at, _, job) in pairwise(holds):
            evidence.looked["unique violations: keys for a period"] += 1
            if began and at < began + seconds and not _has_stepped(began, at, evidence):
                yield str(job), f"it took the key {key!r} {at - began:.3f} s after job {holder}, for {seconds} s"


def _has_stepped(begin: float, end: float, evidence: Evidence) -> bool:
    """Whether the server's clock, by which a period ends, stepped between two of the database's times."""
    margin = CLOCK_SECONDS * SECOND
    return evidence.clocks.stepped_between(evidence.history_time(begin) - margin, evidence.history_time(end) + margin)


def contents(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job starts with the content that was acknowledged last, and never with content that an acknowledged replacement
    had overwritten.

    A call that overlaps another one, or whose answer is unknown, may count before it or after it.
    """
    if life.wanted is None or not life.wanted.replaces or not evidence.epochs:
        return
    calls = [one for one in evidence.refusals.get(life.id, ()) if one.wanted[0].replaces]
    ended = {one.wanted[0].content: evidence.database_time(one.ended) for one in calls}
    for claim in life.claims:
        row = claim.old
        if row is None or row.content is None:
            continue
        evidence.looked["stale content"] += 1
        evidence.looked["stale content: replaced jobs"] += row.content != life.wanted.content
        for run in life.runs_of(claim.change.attempt):
            if run.content != row.content:
                yield f"attempt {run.attempt} was started with the content {run.content}, and its row had {row.content}"
        if row.content != life.wanted.content and row.content not in ended:
            continue  # from a call without an answer
        known = ended.get(row.content, 0.0)
        for one in calls:
            began, answered = evidence.database_time(one.began), evidence.database_time(one.ended)
            if known + CLOCK_SECONDS < began and answered + CLOCK_SECONDS < claim.change.began:
                newer, before = one.wanted[0].content, claim.change.began - answered
                has = f"attempt {claim.change.attempt} has the content {row.content}"
                yield f"{has}, and {newer} had been acknowledged {before:.2f} s before"
                break


def unfollowed(life: Life, evidence: Evidence) -> Iterator[str]:
    """An enqueue that is refused for a key until the start is followed by a start."""
    for refusal in evidence.refusals.get(life.id, ()):
        if refusal.wanted[0].until != "start" or not life.changes or not evidence.epochs:
            continue
        evidence.looked["unfollowed"] += 1
        began = evidence.database_time(refusal.began)
        follows = [claim.change for claim in life.claims] + [
            step.change for step in life.steps if step.kind == "finish" and not step.ends_attempt
        ]
        if not any(
            change.visible + (CLOCK_SECONDS if change.committed is not None else COMMIT_SECONDS) >= began
            for change in follows
        ):
            yield f"job {refusal.wanted[0].id} was refused because of it, and it had started before that"


def keyless(life: Life, _: Evidence) -> Iterator[str]:
    """A job that was enqueued with a unique key has it."""
    if life.wanted is not None and life.wanted.key is not None and life.changes:
        stored = life.changes[0].unique_key
        if stored != life.wanted.key:
            yield f"it was to have the unique key {life.wanted.key!r}, and has {stored!r}"


def raised(life: Life, evidence: Evidence) -> Iterator[str]:
    """A duplicate raises if and only if its call asked for it."""
    for refusal in evidence.refusals.get(life.id, ()):
        if refusal.raised is None:
            continue
        wanted = refusal.wanted[0]
        evidence.looked["unique violations: duplicates that raise"] += wanted.raises
        if refusal.raised != wanted.raises:
            did = "raised" if refusal.raised else "returned"
            yield f"job {wanted.id} was refused because of it, and the call {did} ({wanted.raises=})"


def refused(life: Life, evidence: Evidence) -> Iterator[str]:
    """A refusal never names a job that does not exist, or that holds another key."""
    for refusal in evidence.refusals.get(life.id, ()):
        evidence.looked["unique violations: refused enqueues"] += 1
        keys, job = {wanted.key for wanted in refusal.wanted}, refusal.wanted[0].id
        if not life.changes:
            yield f"job {job} was refused because of it, and it never existed"
        elif life.changes[0].unique_key not in keys:
            yield f"job {job} was refused because of it, and its key is {life.changes[0].unique_key!r}"
        elif not _was_live(life, refusal, evidence):
            yield f"job {job} was refused because of it, when it did not exist yet, or had ended long ago"


def _was_live(life: Life, refusal: Refusal, evidence: Evidence) -> bool:
    """Whether the job was live at some moment of the enqueue, within the accuracy of the two clocks."""
    if not evidence.epochs:
        return True
    begin, end = evidence.database_time(refusal.began), evidence.database_time(refusal.ended)
    if refusal.wanted[0].until == "period":
        if _has_stepped(life.changes[0].began, end, evidence):
            return True
        first, seconds = life.changes[0], refusal.wanted[0].period or 0.0
        return first.began <= end + CLOCK_SECONDS and first.at + seconds >= begin - CLOCK_SECONDS
    came = [step.change.at for step in life.steps if step.kind in {"enqueue", "retry"}]
    is_known = refusal.wanted[0].until == "finish"  # `unfollowed` judges keys until the start
    left = [
        step.change.visible + (CLOCK_SECONDS if is_known and step.change.committed is not None else COMMIT_SECONDS)
        for step in life.steps
        if step.kind == "finish"
    ]
    return any(
        since <= end + CLOCK_SECONDS and until >= begin for since, until in zip(came, [*left, inf], strict=False)
    )
