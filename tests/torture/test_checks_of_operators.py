"""The checker finds cancelled jobs that start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.torture.reports import broken, clean
from tests.torture.story import Story, interrupted

if TYPE_CHECKING:
    from pathlib import Path

    from rowlock.torture.checker import Report


def test_a_cancelled_job_that_starts_is_found(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.fault("stop", story.worker)
    story.again(job, "released")
    story.act("cancel", job)
    story.start(job)
    story.end(job)
    assert broken(story) == {"cancelled jobs that started"}


def test_a_frozen_process_may_start_what_it_had_claimed_before_the_cancel(two_workers: Story) -> None:
    story, job = two_workers, two_workers.enqueue()
    story.claim(job)
    story.fault("freeze", story.worker)
    story.wait(20)
    story.rescue(job)
    story.act("cancel", job)
    story.fault("freeze", story.worker, is_over=True)
    story.start(job)
    story.end(job, "stopped")
    clean(story)


def test_an_acknowledged_cancel_that_did_not_happen_is_found(story: Story) -> None:
    job = story.enqueue()
    story.act("cancel", job, does=False)
    story.run(job)
    assert broken(story) == {"cancelled jobs that started"}


def test_a_cancelled_job_that_was_put_back_may_start(story: Story) -> None:
    job = story.enqueue()
    story.act("cancel", job)
    story.act("retry", job)
    story.run(job)
    clean(story)


@pytest.mark.parametrize("outcome", ["unknown", "killed", "refused"])
def test_a_cancel_that_was_not_acknowledged_may_have_happened_or_not(story: Story, outcome: str) -> None:
    first, second = story.enqueue(), story.enqueue()
    story.act("cancel", first, outcome, does=True)
    story.act("cancel", second, outcome, does=False)
    story.run(second)
    clean(story)


def test_a_waiting_job_that_is_cancelled_by_nobody_is_found(story: Story) -> None:
    story.finish(story.enqueue(), "cancelled")
    assert broken(story) == {"false outcomes"}


def test_no_other_attempt_begins_after_a_cancel_was_requested(story: Story) -> None:
    job = interrupted(story)
    story.act("cancel", job, "requested")
    story.end(job, "error")
    story.again(job, "error")
    story.wait(5)
    story.run(job)
    assert broken(story) == {"cancelled jobs that started"}


def test_a_job_may_be_put_back_after_its_requested_cancel(story: Story) -> None:
    job = interrupted(story)
    story.act("cancel", job, "requested")
    story.end(job, "stopped")
    story.fail(job, "cancelled")
    story.wait(5)
    story.act("retry", job)
    story.run(job)
    clean(story)


def stop_after(story: Story, seconds: float, *, is_stubborn: bool = False, fault: str = "") -> Report:
    job = story.enqueue()
    story.claim(job)
    story.start(job, is_stubborn=is_stubborn, takes=9.0)
    story.act("cancel", job, "requested")
    if fault:
        story.fault(fault, story.worker)
    story.wait(seconds)
    if fault:
        story.fault(fault, story.worker, is_over=True)
    story.end(job, "stopped")
    story.fail(job, "cancelled")
    return story.check()


@pytest.mark.parametrize("seconds, is_right", [(1.0, True), (9.0, False)])
def test_a_running_job_that_goes_on_after_its_cancel_is_found(story: Story, seconds: float, *, is_right: bool) -> None:
    report = stop_after(story, seconds)
    assert report.counts["cancels not heard"] == (not is_right)
    assert report.looked["cancels not heard"] == 1
    assert report.looked["cancels not heard: handlers that had long to go"] == 1


def test_a_stubborn_handler_and_one_behind_a_fault_may_go_on(tmp_path: Path) -> None:
    for name, options in {"stubborn": {"is_stubborn": True}, "frozen": {"fault": "freeze"}}.items():
        folder = tmp_path / name
        folder.mkdir()
        assert stop_after(Story(folder), 9.0, **options).counts["cancels not heard"] == 0  # type: ignore[arg-type]  # of each


def test_a_handler_that_blocks_its_loop_may_go_on(story: Story) -> None:
    blocker = story.enqueue(task="torture.blocks")
    story.claim(blocker)
    story.start(blocker, is_stubborn=True)
    report = stop_after(story, 9.0)
    assert report.counts["cancels not heard"] == 0
