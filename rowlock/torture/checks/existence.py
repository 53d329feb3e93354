"""Check that all expected jobs exist, and no others; each has one end, and the effects of its success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.queue.jobs.lifecycle import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.life import Life

EXACTLY_ONCE: Final = "torture.exactly_once"
"""The task whose handler inserts an effect in job.transaction()."""


def lost(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job whose enqueue was acknowledged exists, and finishes in the end. So does one that was put back."""
    if life.answers is not None and life.answers.stored:
        evidence.looked["lost"] += 1
        if not life.changes:
            yield "its enqueue was acknowledged, and it was never in the database"
        elif life.state not in FINAL:
            yield f"its enqueue was acknowledged, and in the end it is {life.state or 'gone'}"
    evidence.looked["lost: jobs that were put back"] += any(one.what == "retry" for one in life.operations)
    put_back = sum(step.kind == "retry" for step in life.steps)
    acknowledged = sum(one.what == "retry" and one.outcome == "done" for one in life.operations)
    if put_back < acknowledged:
        yield f"{acknowledged} retries were acknowledged, and it was put back {put_back} times"


def unfinished(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job that exists finishes in the end, whatever the answer of its enqueue was."""
    evidence.looked["unfinished"] += bool(life.changes)
    is_acknowledged = life.answers is not None and life.answers.stored
    if life.answers is not None and life.answers.unknown and not life.answers.stored:
        evidence.looked["unfinished: unknown enqueues that were stored"] += bool(life.changes)
    if life.changes and not is_acknowledged and life.state not in FINAL:
        yield f"it exists, and in the end it is {life.state or 'gone'}"


def unexpected(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job exists only if an enqueue asked for it, and did not return that it was not stored."""
    if life.answers is not None and (life.answers.nothing or life.answers.existing):
        evidence.looked["unexpected: enqueues that stored nothing"] += 1
    if not life.changes or life.is_tick:
        return
    evidence.looked["unexpected"] += 1
    if life.wanted is None or life.answers is None:
        yield f"it is in the database ({life.state}), and no enqueue asked for it"
    elif not (life.answers.stored or life.answers.unknown):
        why = "another job holds its key" if life.answers.existing else "nothing was stored"
        yield f"its enqueue returned that {why}, and it is in the database ({life.state})"


def final_states(life: Life, evidence: Evidence) -> Iterator[str]:
    """A job has one final state; only an operator's retry undoes it."""
    kept = 0
    evidence.looked["more than one final state"] += len(life.last) > 0
    for change in life.changes:
        if change.what == "finished_job":
            kept += 1 if change.old_state is None else -1
            if kept > 1:
                yield f"it became {change.state} (change {change.number}) when it had a final state already"
    if len(life.last) > 1:
        yield f"it is there {len(life.last)} times in the end: {', '.join(last.state for last in life.last)}"


def effects(life: Life, evidence: Evidence) -> Iterator[str]:
    """A handler's effect in job.transaction() exists once, from the run that succeeded; never without a success."""
    task = life.last[-1].task if life.last else life.wanted.task if life.wanted else ""
    evidence.looked["effects"] += task == EXACTLY_ONCE
    evidence.looked["effects: after several attempts"] += task == EXACTLY_ONCE and len(life.runs) > 1
    if life.state != "succeeded":
        if life.effects:
            yield f"it has {len(life.effects)} effects, and is {life.state}"
    elif task == EXACTLY_ONCE or life.effects:
        if len(life.effects) != 1:
            yield f"it succeeded, and has {len(life.effects)} effects"
        elif life.effects[0].run != life.last[-1].run or life.effects[0].attempt != life.last[-1].attempt:
            effect, last = life.effects[0], life.last[-1]
            yield (
                f"its effect is of the run {effect.run} (attempt {effect.attempt}), "
                f"and its success of {last.run} (attempt {last.attempt})"
            )


SHOWN: Final = {"scheduled": "queued", "retrying": "queued"}
"""The view's states and the stored ones: a waiting job has other names before its due time, or after errors."""


def consistency(life: Life, evidence: Evidence) -> Iterator[str]:
    """The view shows in the end what the last change left."""
    evidence.looked["inconsistencies"] += 1
    if not life.changes:
        if life.last:
            yield f"it is {life.state} in the end, and it had no change"
        return
    new = life.steps[-1].new
    last = life.last[-1] if life.last else None
    seen = None if last is None else (SHOWN.get(last.state, last.state), last.attempt)
    left = None if new is None else (new.state, new.attempt)
    if seen != left:
        yield f"its last change left (state, attempt) = {left}, and in the end it is {seen}"


def whole_lines(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Every line of the histories is a complete event, and every answer follows its call."""
    yield from evidence.broken_lines
