"""The checker finds ticks that are missing, early, or made twice."""

from __future__ import annotations

from uuid import uuid4

import msgspec

from rowlock.torture.audit import Tick
from tests.torture.reports import broken, clean
from tests.torture.story import EPOCH, Job, Story


def tick(story: Story, number: int, job: Job | None = None) -> Job:
    if job is None:
        job = Job(uuid4(), "torture.tick", None)
        story.insert(job)
        story.run(job)
    at = EPOCH + 2 * number
    story.ticks.append(Tick(schedule="torture.tick", tick_at=at, job=job.id, fired_at=at + 0.1))
    return job


def test_each_tick_makes_a_job(story: Story) -> None:
    for number in range(5):
        tick(story, number)
    report = story.check(periods={"torture.tick": 2.0})
    assert report.is_clean
    assert report.figures["ticks"] == report.figures["jobs of schedules"] == 5


def test_a_tick_may_be_missing_only_of_a_schedule_that_does_not_make_up_for_it(story: Story) -> None:
    for number in (0, 1, 3):
        tick(story, number)
    clean(story)
    assert story.check(periods={"torture.tick": 2.0}).counts["schedule ticks"] == 1


def test_a_schedule_that_makes_no_job_at_all_is_found(story: Story) -> None:
    assert story.check(periods={"torture.tick": 2.0}).counts["schedule ticks"] == 1


def test_a_tick_between_two_ticks_is_found(story: Story) -> None:
    for number in (0.0, 0.25, 1.0):
        tick(story, number)  # type: ignore[arg-type]  # between two
    assert story.check(periods={"torture.tick": 2.0}).counts["schedule ticks"] == 1


def test_two_jobs_of_one_tick_are_found(story: Story) -> None:
    tick(story, 1)
    tick(story, 1)
    assert broken(story) == {"schedule ticks"}


def test_one_job_of_two_ticks_is_found(story: Story) -> None:
    tick(story, 2, tick(story, 1))
    assert broken(story) == {"schedule ticks"}


def test_a_tick_without_its_job_is_found(story: Story) -> None:
    tick(story, 1, Job(uuid4(), "torture.tick", None))
    assert broken(story) == {"schedule ticks"}


def test_a_tick_that_fired_early_is_found(story: Story) -> None:
    job = tick(story, 1)
    story.ticks[-1:] = [Tick(schedule="torture.tick", tick_at=EPOCH + 2, job=job.id, fired_at=EPOCH + 1)]
    assert broken(story) == {"schedule ticks"}


def test_a_job_of_a_tick_that_never_ends_is_unfinished(story: Story) -> None:
    job = Job(uuid4(), "torture.tick", None)
    story.insert(job)
    tick(story, 1, job)
    assert broken(story) == {"unfinished"}


def test_a_tick_before_its_time_is_found_unless_the_clock_stepped_while_it_fired(story: Story) -> None:
    tick(story, 1)
    story.ticks[-1] = msgspec.structs.replace(story.ticks[-1], fired_at=EPOCH - 3600)
    assert broken(story) == {"schedule ticks"}
    story.wait(60)
    story.step_clock(-3600)
    tick(story, 2)
    story.ticks[-1] = msgspec.structs.replace(story.ticks[-1], fired_at=EPOCH - 3600)
    assert story.check().counts["schedule ticks"] == 1, "the first one alone"
