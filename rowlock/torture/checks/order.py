"""Check that a claim takes the most urgent jobs of a queue, and among equal priorities those due first."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from rowlock.torture import process_tasks
from rowlock.torture.checks.times import is_steady
from rowlock.torture.facts import Taken, Wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.audit import Change
    from rowlock.torture.evidence import Evidence
    from rowlock.torture.life import Life

SEEN_SECONDS: Final = 0.3
"""The longest time from a job's commit until it is visible to all."""
LAST_CHANCE: Final = 2
"""After so many crashes a job runs alone, out of order."""
MOST_OVERTAKEN: Final = 5
"""A claim skips a locked row; an aborted claim locks it for a moment. So many claims are more than a moment."""
MOST_READ: Final = 2000
"""The most claims examined for each job: it waited for long, and the first of them are proof enough."""
CALM_SECONDS: Final = 1.0
LONGEST_DELAY: Final = 20.0
"""The longest time from a job's enqueue to its due time."""
EXECUTORS: Final = {"torture.thread": "thread", process_tasks.NAME: "process"}
"""Tasks that a worker claims separately: it has fewer threads and processes than slots."""
HARMLESS: Final = frozenset({"pin", "terminate", "slow"})
"""Faults that hit everybody, and lock no row for longer than a moment."""
HOLDING: Final = frozenset({"black_hole", "half_open"})
"""Faults that may delay the answer of one claim in the server. Its transaction locks the rows meanwhile."""


def note_claims(life: Life, evidence: Evidence) -> None:
    """Note the jobs that the claims took, and the waiting jobs that a claim could not overlook."""
    for index, step in enumerate(life.steps):
        row = step.new
        if step.kind == "claim" and step.old is not None and is_steady(step.old, step.old, evidence):
            _note_taken(step.old, step.change, evidence)
        if row is None or not _is_certain(row) or not is_steady(row, row, evidence):
            continue  # a row that was stored while the clock stepped may be due by either clock
        ends = [row.ends_at] if row.ends_at is not None else []
        if index + 1 < len(life.steps):
            following = life.steps[index + 1].change
            ends.append(min(following.began, following.at))
        if ends and row.queue is not None and row.priority is not None and row.run_at is not None:
            lane = (row.queue, EXECUTORS.get(row.task or ""))
            evidence.waits.append(
                Wait(job=life.id, lane=lane, priority=row.priority, run_at=row.run_at, until=min(ends))
            )


def _is_certain(row: Change) -> bool:
    """Whether every claim from the due time on sees the row: it was visible before it was due.

    The claim cursors never pass a time in the future. So such a job is always ahead of them, however many transactions
    were open when it was stored.
    """
    is_usual = row.state == "queued" and (row.crashes or 0) < LAST_CHANCE and row.unique_key is None
    if not is_usual or row.run_at is None or row.committed is None:
        return False
    return row.run_at > row.visible + SEEN_SECONDS


def _note_taken(row: Change, claim: Change, evidence: Evidence) -> None:
    if row.queue is None or row.priority is None or row.run_at is None or (row.crashes or 0) >= LAST_CHANCE:
        return
    claims = evidence.taken[row.queue, EXECUTORS.get(row.task or "")]
    known = claims.get((claim.xid, claim.worker))
    if known is None or (-row.priority, row.run_at) > (-known.priority, known.run_at):
        claims[claim.xid, claim.worker] = Taken(
            began=claim.began,
            at=max(claim.at, known.at if known else 0.0),
            priority=row.priority,
            run_at=row.run_at,
            job=claim.id,
        )
    else:
        known.at = max(known.at, claim.at)


def out_of_order(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Less urgent jobs of a queue overtake a job only by chance, and not in claim after claim.

    Only delayed jobs are judged, since no claim can have overlooked them: a claim that began (now() of its transaction)
    after the due time, and ended before the job was claimed, takes no job of the same queue that is less urgent, or of
    the same priority and due later. One exception is allowed: a claim skips a row that another transaction locks
    (SKIP LOCKED), for example an aborted claim. That lasts for moments; so MOST_OVERTAKEN claims must overtake the job,
    and claims do not count while everybody's database was in trouble, or just after. Jobs on their last chance run
    apart. Jobs that run in threads or in processes are claimed separately, when a thread or process is free: they are
    judged separately.
    """
    hard = [
        (evidence.database_time(one.begins) - CALM_SECONDS, evidence.database_time(one.ends) + CALM_SECONDS)
        for one in evidence.troubles
        if evidence.epochs and (one.kind in HOLDING or not (one.process or one.kind in HARMLESS))
    ]
    claims = {lane: sorted(taken.values(), key=lambda one: one.began) for lane, taken in evidence.taken.items()}
    begins = {lane: [one.began for one in taken] for lane, taken in claims.items()}
    for wait in evidence.waits:
        if _spans_a_step(wait, evidence):
            continue
        of_lane = claims.get(wait.lane, [])
        first = bisect_left(begins.get(wait.lane, []), wait.run_at)
        while_it_waited = []
        for one in of_lane[first : first + MOST_READ]:
            if one.began >= wait.until:
                break
            if one.at < wait.until and not any(begin <= one.began <= end for begin, end in hard):
                while_it_waited.append(one)
        if while_it_waited:
            evidence.looked["out of order"] += 1
        if any(one.priority != wait.priority for one in while_it_waited):
            evidence.looked["out of order: beside other priorities"] += 1
        by = [one for one in while_it_waited if (-one.priority, one.run_at) > (-wait.priority, wait.run_at)]
        if len(by) >= MOST_OVERTAKEN:
            what = f"less urgent jobs of the queue {wait.lane[0]!r}, such as {by[0].job} with priority {by[0].priority}"
            waited = f"it waited for {wait.until - wait.run_at:.2f} s with priority {wait.priority}"
            yield str(wait.job), f"{waited}, and {len(by)} claims took {what}"


def _spans_a_step(wait: Wait, evidence: Evidence) -> bool:
    """Whether the server's clock stepped while the job waited: due times by two clocks have no order."""
    begin, end = evidence.history_time(wait.run_at - LONGEST_DELAY), evidence.history_time(wait.until)
    return evidence.clocks.stepped_between(begin, end)
