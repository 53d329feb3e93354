"""A database that went back in time excuses what it must, for the jobs in the window alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from rowlock.torture.checker import Report
from tests.torture.story import Job, Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def broken(report: Report) -> set[str]:
    return {violation.rule for violation in report.violations}


def forgotten(story: Story, job: Job) -> None:
    """The database knows nothing of the job any more."""
    story.jobs.remove(job)


def test_a_job_that_was_acknowledged_in_the_window_may_be_gone(story: Story) -> None:
    story.done()
    moment = story.now
    job = story.enqueue()
    story.rewind(moment)
    forgotten(story, job)
    report = story.check()
    assert report.is_clean, report.violations
    assert report.figures["jobs with an event in a rewound window"] == 2


def test_without_a_rewind_it_may_not(story: Story) -> None:
    story.done()
    moment = story.now
    job = story.enqueue()
    story.forget(moment)
    forgotten(story, job)
    assert broken(story.check()) == {"lost"}


def test_a_job_that_was_acknowledged_long_before_the_window_may_not_be_gone(story: Story) -> None:
    job = story.enqueue()
    before = story.now - 1
    story.wait(8)
    moment = story.now
    story.claim(job)
    story.start(job)
    story.end(job)
    story.rewind(moment)
    story.changes = [change for change in story.changes if change.what == "worker" or change.at < before]
    forgotten(story, job)
    assert "lost" in broken(story.check())


def test_a_job_whose_success_was_forgotten_runs_again(story: Story) -> None:
    job = story.enqueue()
    moment = story.now
    story.run(job)
    story.rewind(moment)
    job.state, job.attempt, job.worker, job.result = "queued", 0, None, None
    story.wait(1)
    story.run(job)
    report = story.check()
    assert report.is_clean, report.violations


def test_a_job_that_is_there_after_the_rewind_finishes(story: Story) -> None:
    job = story.enqueue()
    moment = story.now
    story.run(job)
    story.rewind(moment)
    job.state, job.attempt, job.worker, job.result = "queued", 0, None, None
    assert broken(story.check()) == {"lost"}


@pytest.mark.parametrize("is_same", [True, False])
def test_a_process_does_not_start_what_it_runs_already(story: Story, is_same: bool) -> None:
    job = story.enqueue()
    moment = story.now
    story.claim(job)
    first = story.start(job)
    story.rewind(moment)
    job.state, job.attempt, job.worker = "queued", 0, None
    worker = story.worker if is_same else story.new_worker(pid=12)
    story.claim(job, worker)
    story.start(job, worker)
    story.end(job, worker=worker)
    story.succeed(job)
    story.end(job, run=first)
    assert broken(story.check()) == ({"overlaps"} if is_same else set())


def test_a_job_outside_of_the_window_is_not_excused(story: Story) -> None:
    job = story.done()
    story.wait(20)
    story.rewind(story.now)
    story.wait(20)
    story.start(job, attempt=2)
    story.end(job, attempt=2)
    assert broken(story.check()) == {"starts without a claim"}
