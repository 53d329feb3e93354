"""The checker of pauses, drains and scales."""

from __future__ import annotations

from pathlib import Path

import pytest

from rowlock.torture.checks import switches
from rowlock.torture.evidence import BLOCKS
from tests.torture.operating import broken, call, clean
from tests.torture.story import Job, Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def job_of(story: Story, task: str = switches.PAUSED) -> Job:
    return story.enqueue(task=task)


def begin(story: Story, job: Job) -> None:
    story.claim(job)
    story.start(job)


def finish(story: Story, job: Job) -> None:
    story.end(job)
    story.succeed(job)


def test_a_paused_queue_stands_still_until_it_is_resumed(story: Story) -> None:
    before, after = job_of(story), job_of(story)
    begin(story, before)
    call(story, "pause")
    finish(story, before)
    story.wait(10)
    call(story, "resume")
    call(story, "resumed", lambda: story.run(after), jobs=[after], said={"is_late": False})
    assert clean(story).looked[switches.STARTS] == 2


def test_a_claim_long_after_the_pause_is_seen(story: Story) -> None:
    job = job_of(story)
    call(story, "pause")
    story.wait(3)
    story.run(job)
    call(story, "resume")
    assert broken(story) == {switches.STARTS}


def test_a_pause_whose_answer_was_lost_promises_nothing(story: Story) -> None:
    job = job_of(story)
    call(story, "pause", outcome="unknown")
    story.wait(8)
    story.run(job)
    clean(story)


def test_a_drain_that_was_given_up_pauses_all_the_same(story: Story) -> None:
    job = job_of(story)
    call(story, "drain", outcome="refused")
    story.wait(8)
    story.run(job)
    assert broken(story) == {switches.STARTS}


def test_what_was_claimed_before_starts_at_once_or_not_at_all(story: Story) -> None:
    job = job_of(story)
    story.claim(job)
    call(story, "pause")
    story.wait(7)
    story.start(job)
    finish(story, job)
    assert broken(story) == {switches.STARTS}


def test_a_frozen_process_starts_what_it_had_claimed_late(story: Story) -> None:
    job = job_of(story)
    story.claim(job)
    story.fault("freeze", story.worker)
    call(story, "pause")
    story.wait(7)
    story.fault("freeze", story.worker, is_over=True)
    story.start(job)
    finish(story, job)
    clean(story)


def test_nothing_runs_and_nothing_starts_after_a_drain(story: Story) -> None:
    job, other = job_of(story), job_of(story)
    begin(story, job)

    def wait_for_it() -> None:
        story.wait(1)
        finish(story, job)

    call(story, "drain", wait_for_it)
    late = job_of(story)
    call(story, "resume")
    story.run(other)
    story.run(late)
    looked = clean(story).looked
    assert looked[f"{switches.STARTS}: drained while it ran"] == 1
    assert looked[f"{switches.STARTS}: enqueued after a drain"] == 1
    running = job_of(story)
    begin(story, running)
    call(story, "drain")
    finish(story, running)
    assert broken(story) == {switches.STARTS}


def test_a_resumed_queue_runs_its_jobs(story: Story) -> None:
    job = job_of(story)
    call(story, "resume")
    call(story, "resumed", lambda: story.wait(20), jobs=[job], said={"is_late": True})
    story.run(job)
    assert broken(story) == {switches.STARTS}


def test_a_job_from_before_a_step_back_runs_when_the_clock_has_caught_up(story: Story) -> None:
    job = job_of(story)
    story.step_clock(-3600)
    call(story, "resume")
    call(story, "resumed", lambda: story.wait(40), jobs=[job], said={"is_late": True})
    story.step_clock(0)
    story.run(job)
    assert switches.STARTS not in broken(story)


def two_at_once(story: Story) -> None:
    jobs = [job_of(story, switches.SCALED) for _ in range(2)]
    for job in jobs:
        begin(story, job)
    for job in jobs:
        finish(story, job)


@pytest.mark.parametrize("most, is_broken", [(1, True), (2, False), (0, False)])
def test_a_worker_keeps_to_the_scale(story: Story, most: int, *, is_broken: bool) -> None:
    call(story, "scale", about={"most": most})
    story.wait(8)
    two_at_once(story)
    assert broken(story) == ({switches.LIMITS} if is_broken else set())


def test_a_worker_whose_loop_is_blocked_hears_of_no_scale(story: Story) -> None:
    blocking = story.enqueue(task=BLOCKS)
    story.claim(blocking)
    run = story.start(blocking)
    call(story, "scale", about={"most": 1})
    story.wait(8)
    story.end(blocking, run=run)
    two_at_once(story)
    story.succeed(blocking)
    assert switches.LIMITS not in broken(story)


def test_a_worker_may_need_a_moment_to_hear_of_a_scale(story: Story) -> None:
    call(story, "scale", about={"most": 1})
    two_at_once(story)
    assert switches.LIMITS not in clean(story).looked


@pytest.mark.parametrize("steps", [True, False])
def test_a_handler_whose_lease_a_step_of_the_clock_has_ended_may_outlast_a_drain(story: Story, *, steps: bool) -> None:
    job = job_of(story)
    begin(story, job)
    if steps:
        story.step_clock(3600)
    call(story, "drain")
    finish(story, job)
    assert story.check().counts[switches.STARTS] == (not steps)
