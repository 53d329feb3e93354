"""Check that a paused or drained queue starts no job, and that a scaled one keeps its limit: docs/queues.md."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rowlock.torture.checks import rewound
from rowlock.torture.evidence import PAUSES, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Deed, Run
    from rowlock.torture.life import Life

PAUSED: Final = "operate.paused"
SCALED: Final = "operate.scaled"
"""The tasks in the queues that are paused and scaled: each has a queue of its own, with its name."""
STARTS: Final = "starts while paused"
LIMITS: Final = "starts past a scale"
CLAIM_SECONDS: Final = 2.0
"""How much later a claim that began before the pause's acknowledgement may be written."""
START_SECONDS: Final = 5.0
"""Jobs claimed at the same moment start, or are released, within a second: workers poll once a second."""
WAIT_SECONDS: Final = 0.8
"""The answer of a drain that does not wait for running jobs comes before this time."""
SCALE_SECONDS: Final = 6.0
"""A scale takes effect after a second or so: workers poll for it every second."""
AWAY: Final = frozenset({"server", "full", "full_wal", "failover", "rewind", "locks"})
"""Faults that keep all workers from the database, or the database from the jobs."""
IN_QUEUE_SECONDS: Final = 30.0
"""The longest time from a job's enqueue to the resume of its queue."""


def pauses(life: Life, evidence: Evidence) -> Iterator[str]:
    """No job of a queue is claimed once its pause is acknowledged, and none starts after a second or so.

    After a drain, none runs and none starts, until the queue is resumed. Then all of them run.
    """
    if life.wanted is None or life.wanted.task != PAUSED:
        return
    switches = [_as_kept(deed, evidence) for deed in evidence.deeds_of("pause", "drain", "resume")]
    for claim in life.claims:
        if evidence.epochs:
            at = evidence.history_time(claim.change.at)
            evidence.looked[STARTS] += 1
            pause = _pause_before(switches, at)
            if pause is not None and at > pause.ended + CLAIM_SECONDS * SECOND:
                yield f"attempt {claim.change.attempt} was claimed {_after(pause, at)}"
    if life.changes and evidence.epochs:
        stored = evidence.history_time(life.changes[0].at)
        pause = _pause_before(switches, stored)
        is_drained = pause is not None and pause.what == "drain" and pause.outcome == "done" and stored > pause.ended
        evidence.looked[f"{STARTS}: enqueued after a drain"] += is_drained
    for run in life.runs:
        yield from _starts(run, switches, life, evidence)
        yield from _over_drain(run, switches, evidence)
    for deed in evidence.deeds_on.get(life.id, ()):
        if deed.what == "resumed" and rewound.of_deed(deed, evidence) is None:
            yield from _resumed(deed, evidence)


def _as_kept(deed: Deed, evidence: Evidence) -> Deed:
    """Return the act; without its answer, if the database may have forgotten it."""
    return deed if rewound.of_deed(deed, evidence) is None else replace(deed, outcome="unknown")


def _starts(run: Run, switches: list[Deed], life: Life, evidence: Evidence) -> Iterator[str]:
    pause = _pause_before(switches, run.started)
    if pause is None:
        return
    is_drained = pause.what == "drain" and pause.outcome == "done"
    bound = 0.0 if is_drained else START_SECONDS * SECOND
    evidence.looked[f"{STARTS}: in the moment of the pause"] += run.started <= pause.ended
    if run.started > pause.ended + bound:
        claim = life.claim_of(run.attempt)
        since = evidence.history_time(claim.change.at) if claim and evidence.epochs else float(pause.began)
        if not _was_held(run, min(since, pause.began), run.started, evidence):
            yield f"attempt {run.attempt} started {_after(pause, run.started)}"


def _over_drain(run: Run, switches: list[Deed], evidence: Evidence) -> Iterator[str]:
    for drain in switches:
        if drain.what == "drain" and drain.outcome == "done":
            runs_on = run.started < drain.ended and run.ended > drain.began + WAIT_SECONDS * SECOND
            evidence.looked[f"{STARTS}: drained while it ran"] += runs_on
            # A step ahead ends the lease, and the job is rescued from a handler that does not know it yet.
            is_excused = evidence.clocks.stepped_between(run.started, run.ended)
            is_excused = is_excused or _was_held(run, run.started, run.ended, evidence)
            if run.started < drain.ended < run.ended and not is_excused:
                yield f"attempt {run.attempt} still ran for {(run.ended - drain.ended) / SECOND:.2f} s after the drain"


def _pause_before(switches: list[Deed], at: float) -> Deed | None:
    """The pause or drain in force at this moment; None if it is not certain that there is one.

    A drain that timed out leaves its queue paused.
    """
    last = None
    for deed in switches:
        if deed.began <= at:
            last = deed
    return None if last is None or last.what == "resume" or last.outcome == "unknown" else last


def _was_held(run: Run, begin: float, end: float, evidence: Evidence) -> bool:
    """Whether the run's process was frozen meanwhile, or its event loop blocked."""
    frozen = any(one.kind in PAUSES and one.process == run.pid for one in evidence.troubles_between(begin, end))
    return frozen or any(one.started <= end and one.ended >= begin for one in evidence.blocking.get(run.pid, ()))


def _after(pause: Deed, at: float) -> str:
    return f"{(at - pause.ended) / SECOND:.2f} s after a {pause.what} of its queue was acknowledged"


def _resumed(deed: Deed, evidence: Evidence) -> Iterator[str]:
    evidence.looked[f"{STARTS}: waited for after the resume"] += 1
    is_hit = any(one.kind in AWAY for one in evidence.troubles_between(deed.began, deed.ended))
    # A job that came in before the clock went back is due when that clock has caught up.
    has_stepped = evidence.clocks.stepped_between(deed.began - IN_QUEUE_SECONDS * SECOND, deed.ended)
    if deed.said.get("is_late") and not is_hit and not has_stepped:
        yield f"it did not run within {(deed.ended - deed.began) / SECOND:.0f} s of the resume of its queue"


def scales(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """When a job starts, its worker runs no more jobs of the queue than the scale allows. Running jobs continue."""
    orders = [_as_kept(deed, evidence) for deed in evidence.deeds_of("scale")]
    workers: dict[int, list[Run]] = {}
    for runs in evidence.runs.values():
        for run in runs:
            if run.task == SCALED:
                workers.setdefault(run.pid, []).append(run)
    for pid, runs in workers.items():
        for run in runs:
            most = _scale_at(orders, run, evidence)
            if most is None:
                continue
            beside = sum(other.started <= run.started < other.ended for other in runs)
            evidence.looked[LIMITS] += 1
            evidence.looked[f"{LIMITS}: as many as there may be"] += beside == most
            if beside > most:
                yield str(run.job), f"process {pid} ran {beside} jobs of the queue at once, of at most {most}"


def _scale_at(orders: list[Deed], run: Run, evidence: Evidence) -> int | None:
    """How many jobs may run when this one starts; None if the worker may not know the limit yet."""
    last = None
    for deed in orders:
        if deed.began <= run.started:
            last = deed
    since = run.started - SCALE_SECONDS * SECOND
    if last is None or last.outcome != "done" or not last.about["most"] or last.ended > since:
        return None
    if not evidence.is_calm(run.pid, since, run.started) or _was_held(run, since, run.started, evidence):
        return None
    return int(last.about["most"])
