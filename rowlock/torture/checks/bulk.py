"""Check that acts on many jobs act on the jobs that they mean: docs/operating.md, 'Many at once', 'Run again'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.torture.checks import rewound
from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Deed
    from rowlock.torture.life import Life, Step

RULE: Final = "acts on many jobs"
AGAIN: Final = "jobs run again"
CLOCK_SECONDS: Final = 0.5
"""The largest difference between the two clocks."""
COPIED: Final = ("task", "queue", "priority", "tags", "metadata", "max_attempts")
UNTOUCHED: Final = (*COPIED, "id", "args", "state", "attempt", "errors")


def bulk(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """An act on many changes exactly the matching jobs, and returns their number. A dry run changes none."""
    if not evidence.epochs:
        return
    for deed in evidence.deeds_of("cancel_many", "retry_many", "discard_many"):
        lives = _lives(deed, evidence)
        evidence.looked[RULE] += 1
        by = deed.about.get("by", "tag")
        if by == "age" and evidence.clocks.steps:
            continue  # the ages are by a clock that stepped
        evidence.looked[f"{RULE}: by {by}"] += 1
        evidence.looked[f"{RULE}: the answer was lost"] += deed.outcome == "unknown"
        if deed.outcome == "done":
            wrong = {"cancel_many": _cancelled, "retry_many": _retried, "discard_many": _discarded}[deed.what]
            if rewound.of_deed(deed, evidence) is None:
                yield from ((deed.what, sentence) for sentence in wrong(deed, lives, evidence))
            strange = set(deed.said["first_ids"]) - {str(job) for job in deed.jobs}
            if strange:
                yield deed.what, f"it named job {min(strange)}, which does not match its filter"
    for deed in evidence.deeds_of("dry cancel_many", "dry retry_many", "dry discard_many"):
        evidence.looked[f"{RULE}: a dry run"] += 1
        yield from ((deed.what, sentence) for sentence in _dry(deed, evidence))
    for deed in evidence.deeds_of("discarded"):
        yield from ((deed.what, sentence) for sentence in _put_aside(deed, evidence))


def _lives(deed: Deed, evidence: Evidence) -> list[Life]:
    return [evidence.kept[job] for job in deed.jobs if job in evidence.kept]


def _within(step: Step, deed: Deed, evidence: Evidence) -> bool:
    begin, end = evidence.database_time(deed.began), evidence.database_time(deed.ended)
    return begin - CLOCK_SECONDS <= step.change.at <= end + CLOCK_SECONDS


def _cancelled(deed: Deed, lives: list[Life], evidence: Evidence) -> Iterator[str]:
    begin, end = evidence.database_time(deed.began), evidence.database_time(deed.ended)
    cancelled = requested = 0
    for life in lives:
        acts = [step for step in life.steps if _within(step, deed, evidence)]
        is_cancelled = any(step.is_cancel_of_waiting for step in acts)
        is_requested = any(step.kind == "touch" for step in acts)
        cancelled, requested = cancelled + is_cancelled, requested + is_requested
        if deed.about["state"] is None and not (is_cancelled or is_requested):
            finished = min((step.change.at for step in life.steps if step.kind == "finish"), default=end + 60)
            if finished > end + CLOCK_SECONDS:
                yield f"job {life.id} matches its filter, and was not cancelled"
        late = [claim for claim in life.claims if claim.change.at > end + CLOCK_SECONDS]
        if late and deed.about["state"] is None:
            yield f"attempt {late[0].change.attempt} of job {life.id} began {late[0].change.at - end:.2f} s later"
        if is_cancelled and life.steps[0].change.at > begin + CLOCK_SECONDS:
            yield f"job {life.id} was cancelled, and was enqueued after it had begun"
    evidence.looked[f"{RULE}: cancels of jobs that ran"] += requested
    if deed.said["count"] != cancelled + requested or deed.said["requested"] != requested:
        yield (
            f"it returned that it changed {deed.said['count']} jobs and asked {deed.said['requested']} to stop; "
            f"{cancelled} were cancelled, and {requested} asked"
        )


def _retried(deed: Deed, lives: list[Life], evidence: Evidence) -> Iterator[str]:
    begin = evidence.database_time(deed.began)
    back = 0
    for life in lives:
        retries = sum(step.kind == "retry" and _within(step, deed, evidence) for step in life.steps)
        back += retries
        if not retries and _is_dead(life, begin - CLOCK_SECONDS):
            yield f"job {life.id} is a dead letter that matches its filter, and was not put back"
    evidence.looked[f"{RULE}: dead letters to put back"] += sum(_is_dead(life, begin - CLOCK_SECONDS) for life in lives)
    if deed.said["count"] != back or deed.said["skipped"]:
        said = f"it put {deed.said['count']} jobs back, and skipped {deed.said['skipped']}"
        yield f"it returned that {said}; {back} were put back"


def _discarded(deed: Deed, lives: list[Life], evidence: Evidence) -> Iterator[str]:
    dead = sum(_is_dead(life, evidence.database_time(deed.began) - CLOCK_SECONDS) for life in lives)
    some = sum(_is_dead(life, evidence.database_time(deed.ended) + CLOCK_SECONDS) for life in lives)
    if not dead <= deed.said["count"] <= some:
        yield f"it returned that it discarded {deed.said['count']} jobs, and there were {dead} dead letters"


def _put_aside(deed: Deed, evidence: Evidence) -> Iterator[str]:
    acts = [one for job in deed.jobs for one in evidence.deeds_on[job] if one.what == "discard_many"]
    if not acts or acts[0].outcome != "done" or deed.outcome != "done":
        return
    if any(rewound.of_deed(one, evidence) is not None for one in (acts[0], deed)):
        return
    at = evidence.database_time(acts[0].began) - CLOCK_SECONDS
    dead = {str(life.id) for life in _lives(deed, evidence) if _is_dead(life, at)}
    if missing := dead - set(deed.said["discarded"]):
        yield f"job {min(missing)} was to be discarded, and is not listed as such"
    if left := dead & set(deed.said["dead"]):
        yield f"job {min(left)} was discarded, and is still listed as a dead letter"


def _is_dead(life: Life, at: float) -> bool:
    """Whether it was a dead letter at that time, by the database's clock."""
    state = None
    for step in life.steps:
        if step.change.at <= at and step.new is not None:
            state = step.new.state
    return state == "failed"


def _dry(deed: Deed, evidence: Evidence) -> Iterator[str]:
    """A dry run changes nothing, and counts no more jobs than match."""
    end = evidence.database_time(deed.ended)
    is_rewound = rewound.of_deed(deed, evidence) is not None
    for life in () if is_rewound else _lives(deed, evidence):
        real = [one.began for one in evidence.deeds_on[life.id] if one.what == deed.what.removeprefix("dry ")]
        until = min(end, evidence.database_time(min(real))) if real else end
        begin = evidence.database_time(deed.began)
        if any(
            (step.is_cancel_of_waiting or step.kind == "retry") and begin < step.change.at < until
            for step in life.steps
        ):
            yield f"a dry run changed job {life.id}"
    if deed.outcome == "done" and deed.said["count"] > len(deed.jobs):
        yield f"a dry run counted {deed.said['count']} jobs, and only {len(deed.jobs)} match"


def again(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Running a job again leaves the old job unchanged, and makes a new one like it, due now."""
    for deed in evidence.deeds_of("run_again"):
        evidence.looked[AGAIN] += 1
        if deed.outcome != "done":
            continue
        old, new, after = deed.said["old"], deed.said["new"], deed.said["after"]
        subject = str(old["id"])
        if new["id"] == old["id"]:
            yield subject, "it was run again under its own id"
        untouched = UNTOUCHED if rewound.of_deed(deed, evidence) is None else ("id", *COPIED)
        if changed := [name for name in untouched if old[name] != after[name]]:
            yield subject, f"it was run again, and its {', '.join(changed)} changed"
        if different := [name for name in COPIED if old[name] != new[name]]:
            yield subject, f"it was run again, and {', '.join(different)} of the new job differs"
        if new["args"] != {"op": deed.about["wanted"]}:
            yield subject, f"it was to run again with {deed.about['wanted']}, and the new job has {new['args']}"
    for deed in evidence.deeds_of("run_now"):
        evidence.looked[f"{AGAIN}: schedules run by hand"] += 1
        if deed.outcome == "done" and all(deed.said["job"] != str(job) for job in evidence.last):
            window = rewound.of_deed(deed, evidence)
            if window is None or deed.ended < window.begins - rewound.LAG_SECONDS * SECOND:
                yield str(deed.said["job"]), "a schedule was run by hand, and its job does not exist"
