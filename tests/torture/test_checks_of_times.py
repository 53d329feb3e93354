"""The checker finds what starts before its time, or after it, and nothing else."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from rowlock.torture.history import End
from tests.torture.reports import broken, clean
from tests.torture.story import Job, Story, interrupted

SOON = 1.0


def delayed(story: Story, *, row_delay: float = SOON, delay: float = SOON) -> Job:
    """A job that was to wait for `delay`; its row has another one."""
    return story.enqueue(delay=delay, row={"run_at": story.now + 0.11 + row_delay})


def limited(story: Story, name: str, *, seconds: float = SOON) -> Job:
    column = {"expires": "expires_at", "deadline": "deadline"}[name]
    asked: dict[str, Any] = {name: seconds}
    return story.enqueue(row={column: story.now + 0.11 + seconds}, **asked)


def end_overdue(story: Story, job: Job, state: str) -> None:
    story.finish(job, state)


def test_a_delayed_job_starts_when_it_is_due(story: Story) -> None:
    job = delayed(story)
    story.wait(SOON)
    story.run(job)
    report = clean(story)
    assert report.looked["too early"] == report.looked["too early: delayed jobs"] == 1


def test_a_delayed_job_that_is_claimed_before_it_is_due_is_found(story: Story) -> None:
    story.run(delayed(story))
    assert broken(story) == {"too early"}


def test_a_job_that_is_due_before_its_delay_is_over_is_found(story: Story) -> None:
    story.run(delayed(story, row_delay=0))
    assert broken(story) == {"too early"}


def snoozed(story: Story, waits: float) -> None:
    job = story.enqueue()
    story.claim(job)
    run = story.start(job)
    story.tell(End(job=job.id, attempt=1, run=run, how="snooze", delay=SOON), by=story.worker.name, pid=11)
    story.again(job, "snoozed", run_at=story.now + 0.01 + waits)
    story.wait(2 * SOON)
    story.run(job)


def test_a_snoozed_job_waits_as_long_as_its_handler_said(story: Story) -> None:
    snoozed(story, SOON)
    assert clean(story).looked["too early: delays"] == 1


def test_a_snooze_that_is_too_short_is_found(story: Story) -> None:
    snoozed(story, SOON / 2)
    assert broken(story) == {"too early"}


@pytest.mark.parametrize("name, state", [("expires", "expired"), ("deadline", "failed")])
def test_a_job_whose_time_is_over_ends_as_it_is_to(story: Story, name: str, state: str) -> None:
    job = limited(story, name)
    story.wait(2 * SOON)
    end_overdue(story, job, state)
    story.run(limited(story, name))
    report = clean(story)
    assert report.looked[f"too late: jobs that ended as {state} while they waited"] == 1
    assert report.looked["too late"] == 1


@pytest.mark.parametrize("name", ["expires", "deadline"])
def test_a_claim_of_a_job_whose_time_is_over_is_found(story: Story, name: str) -> None:
    job = limited(story, name)
    story.wait(2 * SOON)
    story.run(job)
    assert broken(story) == {"too late"}


@pytest.mark.parametrize("name", ["expires", "deadline"])
def test_a_start_long_after_the_claim_when_the_time_is_over_is_found(story: Story, name: str) -> None:
    job = limited(story, name)
    story.claim(job)
    story.wait(4)
    story.start(job)
    story.end(job)
    story.succeed(job)
    assert broken(story) == {"too late"}


def test_a_process_that_was_frozen_before_it_started_may_be_late(story: Story) -> None:
    job = limited(story, "expires")
    story.claim(job)
    story.fault("freeze", story.worker)
    story.wait(4)
    story.fault("freeze", story.worker, is_over=True)
    story.start(job)
    story.end(job)
    story.succeed(job)
    clean(story)


def test_a_job_that_had_started_before_it_expired_may_start_again_but_not_after_its_deadline(story: Story) -> None:
    for name in ("expires", "deadline"):
        job = story.run(limited(story, name), "error")
        story.again(job, "error")
        story.wait(2 * SOON)
        story.run(job)
        assert story.check().counts["too late"] == (name == "deadline")


@pytest.mark.parametrize("name", ["expires", "deadline"])
def test_a_row_without_the_limit_that_was_asked_for_is_found(story: Story, name: str) -> None:
    story.run(story.enqueue(**{name: SOON}))  # type: ignore[arg-type]  # of Wanted
    assert broken(story) == {"too late"}


@pytest.mark.parametrize("state", ["expired", "failed"])
def test_a_job_that_ends_before_its_time_is_over_is_found(story: Story, state: str) -> None:
    end_overdue(story, story.enqueue(), state)
    assert broken(story) == {"too late"}


@pytest.mark.parametrize("has_trouble", [True, False])
def test_a_job_whose_time_was_over_long_ago_is_found_unless_the_server_was_away(
    story: Story, *, has_trouble: bool
) -> None:
    job = limited(story, "expires")
    story.wait(10)
    if has_trouble:
        story.fault("server")
        story.fault("server", is_over=True)
    story.wait(20)
    end_overdue(story, job, "expired")
    assert story.check().counts["too late"] == (not has_trouble)


# Due too late


def put_back(story: Story, how: Literal["snooze", "error"], outcome: str, waits: float, longest: float = SOON) -> None:
    job = story.enqueue()
    story.claim(job)
    run = story.start(job)
    end = End(job=job.id, attempt=1, run=run, how=how, delay=SOON, longest=longest)
    story.tell(end, by=story.worker.name, pid=11)
    story.again(job, outcome, run_at=story.now + 0.01 + waits)
    story.wait(waits)
    story.run(job)


@pytest.mark.parametrize("how, outcome", [("snooze", "snoozed"), ("error", "error"), ("error", "retried")])
@pytest.mark.parametrize("waits, is_right", [(1.0, True), (1.2, False)])
def test_a_wait_that_is_longer_than_the_handler_said_is_found(
    story: Story, how: Literal["snooze", "error"], outcome: str, waits: float, *, is_right: bool
) -> None:
    put_back(story, how, outcome, waits)
    report = story.check()
    assert report.counts["too late"] == (not is_right)
    assert report.looked["too late: waits between two attempts"] == 1


def test_a_wait_whose_length_nobody_knows_is_not_judged(story: Story) -> None:
    put_back(story, "error", "error", 9.0, longest=0.0)
    clean(story)


@pytest.mark.parametrize("waits, is_right", [(0.0, True), (20.0, False)])
def test_a_rescued_job_is_due_at_once(two_workers: Story, waits: float, *, is_right: bool) -> None:
    story, job = two_workers, interrupted(two_workers)
    story.kill(story.worker)
    story.wait(20)
    job.run_at = story.now + waits
    story.rescue(job)
    story.wait(waits)
    story.run(job, worker=story.workers[1])
    assert story.check().counts["too late"] == (not is_right)


@pytest.mark.parametrize("asked, has, is_right", [(1.0, 1.0, True), (1.0, 3.0, False), (None, 3.0, False)])
def test_a_job_that_is_due_after_its_delay_is_found(
    story: Story, asked: float | None, has: float, *, is_right: bool
) -> None:
    job = story.enqueue(delay=asked, queue="default", row={"run_at": story.now + 0.11 + has})
    story.wait(has)
    story.run(job)
    assert story.check().counts["too late"] == (not is_right)


# Handlers that go on past their time


@pytest.mark.parametrize("seconds, is_right", [(1.0, True), (9.0, False)])
@pytest.mark.parametrize("name", ["timeout", "deadline"])
def test_a_handler_that_goes_on_past_its_time_is_found(
    story: Story, name: str, seconds: float, *, is_right: bool
) -> None:
    job = limited(story, "deadline") if name == "deadline" else story.enqueue(timeout=SOON)
    story.claim(job)
    story.start(job)
    story.wait(seconds)
    story.end(job)
    story.succeed(job)
    report = story.check()
    assert report.counts["too late"] == (not is_right)
    assert report.looked[f"too late: handlers with a {name}"] == 1


def test_a_stubborn_handler_and_one_behind_a_fault_may_go_on(story: Story) -> None:
    for is_stubborn in (True, False):
        job = story.enqueue(timeout=SOON)
        story.claim(job)
        story.start(job, is_stubborn=is_stubborn)
        if not is_stubborn:
            story.fault("cut")
        story.wait(9)
        story.end(job)
        story.succeed(job)
    clean(story)
