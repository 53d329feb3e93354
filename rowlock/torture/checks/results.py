"""Check that a wait returns its job's outcome in time: docs/results.md, and the result in docs/http-api.md."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Deed
    from rowlock.torture.life import Life, Step

RULE: Final = "false results"
HANG_SECONDS: Final = 15.0
"""How long a query that began within the time may take: a silent server counts as lost after ten seconds."""
LOOK_SECONDS: Final = 7.0
"""A wait polls at least every five seconds: it must see an end so long before the timeout."""
EARLY_SECONDS: Final = 0.1
CLOCK_SECONDS: Final = 0.5
"""The largest difference between the two clocks."""


def results(life: Life, evidence: Evidence) -> Iterator[str]:
    """`result(timeout)` returns, or raises, within its timeout.

    Until the timeout, it waits through a lost connection. Over HTTP a lost connection ends the request with a 503.
    """
    for deed in evidence.deeds_on.get(life.id, ()):
        if deed.what in {"result", "http result"} and deed.ended < inf:
            evidence.looked[RULE] += 1
            _count(deed, life, evidence)
            yield from _wrong_time(deed, evidence)


def answers(life: Life, evidence: Evidence) -> Iterator[str]:
    """A wait returns what became of the job, soon after the job's end."""
    for deed in evidence.deeds_on.get(life.id, ()):
        if deed.what in {"result", "http result"} and deed.ended < inf:
            yield from _told_late(deed, life, evidence)
            yield from _wrong_answer(deed, life, evidence)


def _count(deed: Deed, life: Life, evidence: Evidence) -> None:
    """Count the cases that a run may lack."""
    troubles = [one.kind for one in evidence.troubles_between(deed.began, deed.ended) if one.process in {0, deed.pid}]
    evidence.looked[f"{RULE}: waited over a restart of the server"] += "server" in troubles
    evidence.looked[f"{RULE}: waited over a broken network"] += any(kind not in {"server", "pin"} for kind in troubles)
    evidence.looked[f"{RULE}: not finished in time"] += _is_late(deed)
    ends = [step.change for step in life.steps if step.kind == "finish" and (step.change.attempt or 0) > 1]
    if deed.what == "result" and deed.outcome == "done" and not _is_late(deed):
        evidence.looked[f"{RULE}: results of a later attempt"] += any(end.state == "succeeded" for end in ends)
        evidence.looked[f"{RULE}: errors of a later attempt"] += any(end.state == "failed" for end in ends)


def _is_late(deed: Deed) -> bool:
    return bool(deed.said.get("is_late")) or deed.said.get("status") == 202


def _wrong_time(deed: Deed, evidence: Evidence) -> Iterator[str]:
    waited, timeout = (deed.ended - deed.began) / SECOND, float(deed.about["timeout"])
    stalled = sum(
        (min(one.ends, deed.ended) - max(one.begins, deed.began)) / SECOND
        for one in evidence.troubles_between(deed.began, deed.ended)
        if one.kind == "stall" and one.process == deed.pid
    )
    if waited > timeout + HANG_SECONDS + stalled:
        yield f"a wait of at most {timeout:g} s took {waited:.1f} s"
    if deed.what == "result" and deed.outcome == "unknown" and waited < timeout - EARLY_SECONDS:
        yield f"a wait of at most {timeout:g} s raised {deed.said.get('error')} after {waited:.2f} s"
    if _is_late(deed) and waited < timeout - EARLY_SECONDS:
        yield f"a wait of at most {timeout:g} s ended after {waited:.2f} s without a result"


def _told_late(deed: Deed, life: Life, evidence: Evidence) -> Iterator[str]:
    """A lost notification costs one poll: after an end, a wait continues for five seconds at most."""
    if not evidence.epochs or deed.outcome != "done":
        return
    ends = [evidence.history_time(step.change.at) for step in life.steps if step.kind == "finish"]
    since = max(ends[-1], deed.began) if ends else inf
    if deed.ended > since + LOOK_SECONDS * SECOND and evidence.is_calm(deed.pid, since, deed.ended):
        yield f"a wait went on for {(deed.ended - since) / SECOND:.2f} s after the job had finished"


def _wrong_answer(deed: Deed, life: Life, evidence: Evidence) -> Iterator[str]:
    if deed.outcome != "done":
        return
    said = deed.said
    if said.get("is_missing") or said.get("status") == 404:
        yield "its enqueue was acknowledged, and a wait for its result returned that it does not exist"
    elif "status" in said and said["status"] not in {200, 202, 503}:
        yield f"the request for its result was answered with {said['status']}"
    elif said.get("result") is not None or said.get("state") == "succeeded":
        result = said.get("result") or {}
        run = result.get("run")
        if all(run != step.change.run for step in _ends(deed, life, evidence, "succeeded")):
            yield f"a wait returned the result {result}, which belongs to none of its successes"
        elif "square" in deed.about and result.get("square") != deed.about["square"]:
            yield f"a wait returned {result.get('square')}, and its handler returned {deed.about['square']}"
    elif not _is_late(deed) and said.get("status") != 503:
        ends = list(_ends(deed, life, evidence, said.get("state")))
        if not ends:
            yield f"a wait returned that it has {said.get('state') or 'no result'}, and it had not"
        elif not any(_has_error(step, life, said.get("error") or "") for step in ends):
            yield f"a wait raised the error {said.get('error')!r}, which is not that of the attempt that ended it"


def _ends(deed: Deed, life: Life, evidence: Evidence, state: object) -> Iterator[Step]:
    """The job's ends in this state that a wait until then can have seen."""
    known = evidence.database_time(deed.ended) + CLOCK_SECONDS if evidence.epochs else inf
    return (
        step for step in life.steps if step.kind == "finish" and step.change.state == state and step.change.at <= known
    )


def _has_error(step: Step, life: Life, error: str) -> bool:
    """Whether an error that names a run of the handler names one of the attempt that ended the job."""
    named = [run for run in life.runs if f"run {run.run}" in error]
    return not named or any(run.attempt == step.change.attempt for run in named)
