"""Check that tasks in processes end as documented, and that no process outlives its worker: docs/executors.md."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Deed
    from rowlock.torture.life import Life

RULE: Final = "process tasks"
CRASH: Final = "operate.crash"
TOLD: Final = {
    "exit": "ProcessEnded: The process of the task ended",
    "kill": "ProcessEnded: The process of the task ended by SIGKILL",
    "memory": "MemoryError",
}
"""The beginning of a crash's error, or a part of it."""
KILLED: Final = TOLD["kill"]
OUTLIVED_SECONDS: Final = 2.0
"""The kernel ends a process with its worker. The accuracy of the worker's end."""


def processes(life: Life, evidence: Evidence) -> Iterator[str]:
    """No process outlives its worker."""
    for run in life.runs:
        if run.child:
            evidence.looked[RULE] += 1
            death = evidence.death(run.pid, run.started)
            beats = [one.at for one in evidence.notes.get(life.id, ()) if one.run == run.run and one.what == "beat"]
            evidence.looked[f"{RULE}: their worker died"] += death < (inf if run.how is None else run.ended)
            if beats and max(beats) > death + OUTLIVED_SECONDS * SECOND:
                late = (max(beats) - death) / SECOND
                yield f"process {run.child} still lived {late:.2f} s after its worker, process {run.pid}"


def crashes(life: Life, evidence: Evidence) -> Iterator[str]:
    """The crash of a process fails its attempt, with the documented error."""
    if life.wanted is not None and life.wanted.task == CRASH:
        for deed in evidence.deeds_on.get(life.id, ()):
            yield from _recorded(deed, life, evidence)


def _recorded(deed: Deed, life: Life, evidence: Evidence) -> Iterator[str]:
    """The recorded outcome of a crash; unless the worker's own crashes ended the job."""
    how, error = deed.about.get("how"), deed.said.get("error") or ""
    if deed.outcome != "done" or how not in TOLD or not deed.said.keys() & {"state", "result"}:
        return
    if any(step.kind == "finish" and step.is_crash for step in life.steps):
        return
    evidence.looked[f"{RULE}: {how}"] += 1
    if TOLD[how] not in error and not (KILLED in error and _was_killed(life, evidence)):
        yield f"its process ended by {how}, and its error is {error!r}"
    outcomes = [row.outcome for row in life.recorded if row.outcome not in {"released", "crashed"}]
    if outcomes != ["error"]:
        yield f"its process ended by {how}, and its attempts are recorded as {outcomes}"


def _was_killed(life: Life, evidence: Evidence) -> bool:
    """Whether a fault ended its process first: that of its run; if it did not begin, any process but a worker's."""
    if life.runs:
        return any(evidence.death(run.child, run.started) < inf for run in life.runs)
    ends = (step.change.at for step in life.steps if step.kind == "finish")
    workers = {worker.pid for worker in evidence.workers.values()}
    begin, end = max((claim.change.at for claim in life.claims), default=0.0), min(ends, default=inf)
    return any(
        trouble.kind == "kill" and trouble.process not in workers
        for trouble in evidence.troubles_between(evidence.history_time(begin), evidence.history_time(end))
    )
