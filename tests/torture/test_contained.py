"""What a run contained is counted, and what it did not contain is not."""

from __future__ import annotations

import pytest

from rowlock.torture.audit import Effect
from rowlock.torture.checks.existence import EXACTLY_ONCE
from tests.torture.reports import clean
from tests.torture.story import LEASE, Story

PAIRED = [
    "lost: unknown and stored",
    "unexpected: told that nothing was stored",
    "unjustified rescues",
    "unjustified rescues: after a freeze",
    "stale outcomes accepted: rescued from a process that lived on",
    "overlaps",
    "overlaps: ran at the same time",
    "unique violations",
    "unique violations: refused because of another job",
    "cancelled jobs that started",
    "cancelled jobs that started: raced a claim",
    "starts past the limit: used up its attempts",
    "effects",
    "effects: ran more than once",
    "lapsed leases: ran out in a process that lived on",
    "unjustified quarantines",
]
"""The cases that a run may lack although its jobs all ran."""


def looked(story: Story) -> dict[str, int]:
    return {case: count for case, count in clean(story).looked.items() if count and case in PAIRED}


def rescued_from(story: Story, fault: str) -> None:
    """Let another worker rescue a job whose own worker is kept from renewing its lease."""
    other = story.new_worker(12)
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    first = job.run
    story.fault(fault, story.worker)
    if fault == "kill":
        story.ended(story.worker)
    story.wait(LEASE + 5)
    story.rescue(job)
    if fault != "kill":
        story.end(job, "stopped", run=first, attempt=1)
    story.run(job, worker=other)


def test_jobs_that_simply_run_are_cases_of_the_plain_rules_alone(story: Story) -> None:
    story.done()
    assert looked(story) == {}
    counts = story.check().looked
    for rule in ("lost", "unexpected", "illegal transitions", "starts without a claim", "starts past the limit"):
        assert counts[rule], rule
    assert counts["more than one final state"] == counts["stale outcomes accepted"] == counts["inconsistencies"] == 1
    assert counts["lapsed leases"]


def test_unknown_enqueues_count_if_they_were_stored(story: Story) -> None:
    story.enqueue("unknown", is_stored=False)
    assert "lost: unknown and stored" not in looked(story)
    story.run(story.enqueue("unknown", is_stored=True))
    assert looked(story) == {"lost: unknown and stored": 1}
    assert story.check().looked["unfinished"] == 1


def test_refused_enqueues_count(story: Story) -> None:
    story.enqueue("nothing")
    holder = story.enqueue(key="a")
    story.enqueue("existing", key="a", holder=holder)
    story.run(holder)
    assert looked(story) == {
        "unexpected: told that nothing was stored": 2,
        "unique violations": 2,
        "unique violations: refused because of another job": 1,
    }


@pytest.mark.parametrize(
    "fault, cases",
    [
        ("kill", set()),
        (
            "black_hole",
            {
                "stale outcomes accepted: rescued from a process that lived on",
                "lapsed leases: ran out in a process that lived on",
            },
        ),
        (
            "freeze",
            {
                "unjustified rescues: after a freeze",
                "stale outcomes accepted: rescued from a process that lived on",
                "lapsed leases: ran out in a process that lived on",
            },
        ),
    ],
)
def test_rescues_count_by_what_became_of_the_process(story: Story, fault: str, cases: set[str]) -> None:
    rescued_from(story, fault)
    assert set(looked(story)) == {"unjustified rescues", "overlaps", *cases}


def test_an_overlap_that_is_justified_counts(story: Story) -> None:
    other = story.new_worker(12)
    job = story.enqueue()
    story.claim(job)
    first = story.start(job, is_stubborn=True)
    story.fault("freeze", story.worker)
    story.wait(LEASE + 5)
    story.rescue(job)
    story.claim(job, other)
    story.start(job, other)
    story.fault("freeze", story.worker, is_over=True)
    story.end(job, "return", run=first, attempt=1)
    story.end(job, worker=other)
    story.succeed(job)
    assert looked(story)["overlaps: ran at the same time"] == 1


def test_cancels_count_and_those_apart_that_raced_a_claim(story: Story) -> None:
    job = story.enqueue()
    story.act("cancel", job)
    assert looked(story) == {"cancelled jobs that started": 1}
    running = story.enqueue()
    story.claim(running)
    story.act("cancel", running, "requested")
    story.start(running)
    story.end(running)
    story.succeed(running)
    assert looked(story)["cancelled jobs that started: raced a claim"] == 1


def test_attempts_that_are_used_up_count(story: Story) -> None:
    story.fail(story.run(story.enqueue(max_attempts=2), "fail"), "failed")
    assert looked(story) == {}
    story.fail(story.run(story.enqueue(max_attempts=1), "error"))
    assert looked(story) == {"starts past the limit: used up its attempts": 1}


def test_jobs_set_aside_count(story: Story) -> None:
    job = story.enqueue()
    for pid in (21, 22, 23):
        worker = story.new_worker(pid)
        story.claim(job, worker)
        story.start(job, worker)
        story.kill(worker)
        story.wait(LEASE + 5)
        story.rescue(job)
    assert looked(story)["unjustified quarantines"] == 1


def test_effects_count_and_those_apart_of_jobs_that_ran_again(story: Story) -> None:
    for errors in (0, 1):
        job = story.enqueue(task=EXACTLY_ONCE)
        for _ in range(errors):
            story.again(story.run(job, "error"), "error")
        story.claim(job)
        story.start(job)
        story.effects.append(Effect(job=job.id, attempt=job.attempt, run=job.run))
        story.end(job)
        story.succeed(job)
    assert looked(story) == {"effects": 2, "effects: ran more than once": 1, "overlaps": 1}
