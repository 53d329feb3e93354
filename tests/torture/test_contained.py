"""What a run contained is counted, and what it did not contain is not."""

from __future__ import annotations

import pytest

from rowlock.torture.history import Began
from tests.torture.reports import clean
from tests.torture.story import EPOCH, LEASE, Story

PAIRED = (
    "unjustified duplicates: recorded as crashes",
    "starts past the limit: used up its attempts",
    "lapsed leases: ran out in a process that lived on",
)


def looked(story: Story) -> dict[str, int]:
    counts = clean(story).looked
    return {case: counts[case] for case in PAIRED if counts.get(case)}


def test_jobs_that_simply_run_are_none_of_these_cases(story: Story) -> None:
    story.done()
    assert looked(story) == {}


@pytest.mark.parametrize("fault, count", [("kill", 0), ("freeze", 1), ("black_hole", 1)])
def test_leases_that_run_out_count_if_their_process_lives_on(story: Story, fault: str, count: int) -> None:
    other = story.new_worker(12)
    job = story.enqueue()
    story.claim(job)
    first = story.start(job)
    story.fault(fault, story.worker)
    if fault == "kill":
        story.ended(story.worker)
    story.wait(LEASE + 5)
    story.rescue(job)
    if fault != "kill":
        story.end(job, "stopped", run=first, attempt=1)
    story.run(job, worker=other)
    assert looked(story)["unjustified duplicates: recorded as crashes"] == 1
    assert looked(story).get("lapsed leases: ran out in a process that lived on", 0) == count


def test_attempts_that_are_used_up_count(story: Story) -> None:
    story.fail(story.run(story.enqueue(max_attempts=2), "fail"), "failed")
    assert looked(story) == {}
    story.fail(story.run(story.enqueue(max_attempts=1), "error"))
    assert looked(story) == {"starts past the limit: used up its attempts": 1}


def test_processes_whose_clock_is_behind_count(story: Story) -> None:
    story.done()
    for name, clock in (("enqueuer-1", EPOCH), ("enqueuer-2", EPOCH), ("worker-2", EPOCH - 3600)):
        story.tell(Began(clock=clock + story.now), by=name)
    assert story.check().looked["unjustified rescues: processes whose clock is behind"] == 1
