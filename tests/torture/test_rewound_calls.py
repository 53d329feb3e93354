"""A call of the operating program in a lost window is excused from the database's word, and from nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from rowlock.torture.checks import apis, bulk, policies, results, switches
from tests.torture.operating import broken, call
from tests.torture.story import Job, Story

SAID: dict[str, Any] = {"count": 3, "requested": 0, "skipped": 0, "first_ids": []}


def cancels(story: Story) -> None:
    job = story.done(task="operate.bulk")
    call(story, "cancel_many", jobs=[job], about={"state": "scheduled"}, said=SAID)


def retries(story: Story) -> None:
    call(story, "retry_many", jobs=[story.done(task="operate.bulk")], said=SAID)


def discards(story: Story) -> None:
    call(story, "discard_many", jobs=[story.done(task="operate.bulk")], said=SAID)


def runs_now(story: Story) -> None:
    call(story, "run_now", said={"job": str(uuid4())})


def runs_again(story: Story) -> None:
    old = {"id": "1", "args": {"op": "a"}, "state": "succeeded", "attempt": 1, "errors": 0}
    old |= {"task": "t", "queue": "q", "priority": 7, "tags": [], "metadata": {}, "max_attempts": 1}
    said = {"old": old, "new": {**old, "id": "2"}, "after": {**old, "state": "running"}}
    call(story, "run_again", jobs=[story.done()], about={"op": "a", "wanted": "a"}, said=said)


def asks_both(story: Story) -> None:
    answers = [{"status": 200, "attempt": 1}, {"status": 200, "attempt": 2}]
    call(story, "both", jobs=[story.done()], said={"answers": answers})


def sends_twice(story: Story) -> None:
    call(story, "twice", about={"op": "1"}, said={"ids": ["1", "2"]})


def is_told_that_it_is_missing(story: Story) -> None:
    call(story, "result", jobs=[story.done()], about={"timeout": 20.0}, said={"is_missing": True})


def misses(story: Story) -> None:
    about = {"schedule": "s", "policy": "latest", "period": 300}
    call(story, "miss", about=about, said={"since": 300.0, "until": 1000.0, "fired": 1001.0})


def pauses(story: Story) -> None:
    job = story.enqueue(task=switches.PAUSED)
    call(story, "pause", about={"queue": switches.PAUSED})
    story.wait(9)
    story.run(job)


@pytest.mark.parametrize(
    "act, rule",
    [
        (cancels, bulk.RULE),
        (retries, bulk.RULE),
        (discards, bulk.RULE),
        (runs_now, bulk.AGAIN),
        (runs_again, bulk.AGAIN),
        (asks_both, apis.RULE),
        (sends_twice, apis.RULE),
        (is_told_that_it_is_missing, results.RULE),
        (pauses, switches.STARTS),
        (misses, policies.MISFIRE),
    ],
)
@pytest.mark.parametrize("is_rewound", [True, False])
def test_what_the_database_may_have_forgotten_is_excused(
    story: Story, act: Callable[[Story], None], rule: str, *, is_rewound: bool
) -> None:
    story.wait(20)
    moment = story.now
    act(story)
    if is_rewound:
        keep(story, moment)
    assert broken(story) == (set() if is_rewound else {rule})


def keep(story: Story, moment: float) -> None:
    """Go back to a moment, and have everything happen again that happened since."""
    changes, recorded = story.changes, story.recorded
    story.rewind(moment)
    story.changes, story.recorded = changes, recorded


def waits(story: Story, job: Job) -> None:
    call(story, "result", jobs=[job], about={"timeout": 20.0}, said={"result": {"run": "nobody's"}})


def hangs(story: Story, job: Job) -> None:
    said = {"is_late": True}
    call(story, "result", lambda: story.wait(30), jobs=[job], about={"timeout": 1.0}, said=said)


def names_another(story: Story, job: Job) -> None:
    said = {**SAID, "first_ids": [str(uuid4())]}
    call(story, "cancel_many", jobs=[job], about={"state": "scheduled"}, said=said)


def counts_too_many(story: Story, job: Job) -> None:
    call(story, "dry cancel_many", jobs=[job], said={"count": 2})


@pytest.mark.parametrize(
    "act, rule",
    [(waits, results.RULE), (hangs, results.RULE), (names_another, bulk.RULE), (counts_too_many, bulk.RULE)],
)
def test_what_a_call_says_of_itself_must_hold_all_the_same(
    story: Story, act: Callable[[Story, Job], None], rule: str
) -> None:
    story.wait(20)
    moment = story.now
    act(story, story.done())
    keep(story, moment)
    assert broken(story) == {rule}


def test_a_result_that_the_database_has_forgotten_is_that_of_a_call_of_the_handler(story: Story) -> None:
    job = story.enqueue()
    moment = story.now
    story.run(job)
    call(story, "result", jobs=[job], about={"timeout": 20.0}, said={"result": {"run": job.run}})
    story.rewind(moment)
    job.state, job.attempt, job.worker, job.result = "queued", 0, None, None
    story.wait(1)
    story.run(job)
    assert broken(story) == set()


def test_a_call_long_before_the_window_is_not_excused(story: Story) -> None:
    runs_now(story)
    story.wait(20)
    keep(story, story.now)
    assert broken(story) == {bulk.AGAIN}
