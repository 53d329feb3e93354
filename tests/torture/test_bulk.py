"""The checker of acts on many jobs, and of jobs that are run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rowlock.torture.checks import bulk
from tests.torture.operating import broken, call, clean
from tests.torture.story import Job, Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def cancel_many(story: Story, jobs: list[Job], cancelled: list[Job], count: int, requested: int = 0) -> None:
    def do() -> None:
        for job in cancelled:
            if job.state == "running":
                story.update(job)
            else:
                story.finish(job, "cancelled")

    said = {"count": count, "requested": requested, "first_ids": [str(job.id) for job in cancelled]}
    call(story, "cancel_many", do, jobs=jobs, about={"state": None}, said=said)


def group(story: Story, count: int = 3) -> list[Job]:
    return [story.enqueue(task="operate.bulk") for _ in range(count)]


def test_a_cancel_of_many_that_says_what_it_did_is_clean(story: Story) -> None:
    jobs = group(story)
    story.claim(jobs[2])
    story.start(jobs[2])
    cancel_many(story, jobs, jobs, 3, 1)
    story.end(jobs[2])
    story.succeed(jobs[2])
    report = clean(story)
    assert report.looked[bulk.RULE] == 1
    assert report.looked[f"{bulk.RULE}: cancels of jobs that ran"] == 1


def test_a_cancel_of_many_that_says_another_number_is_seen(story: Story) -> None:
    jobs = group(story)
    cancel_many(story, jobs, jobs, 2)
    assert broken(story) == {bulk.RULE}


def test_a_job_that_a_cancel_of_many_left_out_is_seen(story: Story) -> None:
    jobs = group(story)
    cancel_many(story, jobs, jobs[:2], 2)
    story.wait(3)
    story.run(jobs[2])
    assert broken(story) == {bulk.RULE}


def test_a_job_that_does_not_fit_and_was_cancelled_is_seen(story: Story) -> None:
    jobs, others = group(story), group(story)
    cancel_many(story, jobs, [*jobs, others[0]], 3)
    story.run(others[1])
    story.run(others[2])
    assert bulk.RULE in broken(story)
    assert "false outcomes" in broken(story)


def test_an_act_whose_answer_was_lost_may_have_done_some_of_it(story: Story) -> None:
    jobs = group(story)
    call(story, "cancel_many", jobs=jobs, about={"state": None}, outcome="unknown")
    story.finish(jobs[0], "cancelled")
    story.run(jobs[1])
    story.run(jobs[2])
    assert clean(story).looked[f"{bulk.RULE}: the answer was lost"] == 1


def dead(story: Story, count: int = 3) -> list[Job]:
    jobs = group(story, count)
    for job in jobs:
        story.fail(story.run(job, "error"))
    story.wait(2)
    return jobs


@pytest.mark.parametrize("back, count, is_broken", [(3, 3, False), (2, 2, True), (3, 2, True)])
def test_a_retry_of_many_puts_each_dead_letter_back(story: Story, back: int, count: int, *, is_broken: bool) -> None:
    jobs = dead(story)

    def do() -> None:
        for job in jobs[:back]:
            story.put_back(job)

    call(story, "retry_many", do, jobs=jobs, said={"count": count, "skipped": 0, "first_ids": []})
    story.wait(2)
    for job in jobs[:back]:
        story.run(job)
    assert broken(story) == ({bulk.RULE} if is_broken else set())


@pytest.mark.parametrize("what", ["cancel_many", "retry_many"])
def test_a_dry_run_that_changes_a_job_is_seen(story: Story, what: str) -> None:
    jobs = group(story, 1) if what == "cancel_many" else dead(story, 1)

    def act() -> None:
        if what == "cancel_many":
            story.finish(jobs[0], "cancelled")
        else:
            story.put_back(jobs[0])
        story.wait(1)

    call(story, f"dry {what}", act, jobs=jobs, said={"count": 1})
    call(story, what, jobs=jobs, about={"state": None}, outcome="unknown")
    if what == "retry_many":
        story.run(jobs[0])
    assert broken(story) == {bulk.RULE}


@pytest.mark.parametrize("count, is_broken", [(1, False), (2, True)])
def test_a_dry_run_counts_what_fits(story: Story, count: int, *, is_broken: bool) -> None:
    jobs = dead(story, 1)
    call(story, "dry discard_many", jobs=jobs, said={"count": count})
    assert broken(story) == ({bulk.RULE} if is_broken else set())


@pytest.mark.parametrize(
    "count, listed, left, is_broken", [(2, 2, 0, False), (1, 2, 0, True), (2, 1, 0, True), (2, 2, 1, True)]
)
def test_discarded_jobs_are_listed_as_such(
    story: Story, count: int, listed: int, left: int, *, is_broken: bool
) -> None:
    jobs = dead(story, 2)
    ids = [str(job.id) for job in jobs]
    call(story, "discard_many", jobs=jobs, said={"count": count, "skipped": 0, "first_ids": []})
    call(story, "discarded", jobs=jobs, said={"discarded": ids[:listed], "dead": ids[:left]})
    assert broken(story) == ({bulk.RULE} if is_broken else set())


def shown(**other: object) -> dict[str, Any]:
    job = {
        "id": "old",
        "task": "t",
        "args": {"op": "1"},
        "queue": "q",
        "priority": 7,
        "tags": ["again"],
        "metadata": {"op": "1"},
    }
    return {**job, "max_attempts": 10, "state": "succeeded", "attempt": 1, "errors": 0, **other}


@pytest.mark.parametrize(
    "new, after, is_broken",
    [
        ({"id": "new", "state": "queued"}, {}, False),
        ({"id": "old"}, {}, True),
        ({"id": "new", "priority": 5}, {}, True),
        ({"id": "new", "args": {"op": "2"}}, {}, True),
        ({"id": "new"}, {"attempt": 2}, True),
    ],
)
def test_a_job_that_is_run_again_is_copied_and_left_alone(
    story: Story, new: dict[str, Any], after: dict[str, Any], *, is_broken: bool
) -> None:
    story.done()
    said = {"old": shown(), "new": shown(**new), "after": shown(**after)}
    call(story, "run_again", about={"op": "1", "wanted": "1"}, said=said)
    assert broken(story) == ({bulk.AGAIN} if is_broken else set())


def test_a_schedule_that_is_run_by_hand_makes_a_job(story: Story) -> None:
    call(story, "run_now", said={"job": str(story.done(task="operate.now").id)})
    clean(story)
    call(story, "run_now", said={"job": str(uuid4())})
    assert broken(story) == {bulk.AGAIN}


@pytest.mark.parametrize("by", ["tag", "task", "args", "age"])
def test_a_job_that_another_part_of_the_filter_leaves_out_is_seen_in_the_number(story: Story, by: str) -> None:
    jobs = group(story)
    said = {"count": 4, "requested": 0, "first_ids": [str(job.id) for job in jobs]}

    def cancel() -> None:
        for job in jobs:
            story.finish(job, "cancelled")

    call(story, "cancel_many", cancel, jobs=jobs, about={"state": None, "by": by}, said=said)
    report = story.check()
    assert {violation.rule for violation in report.violations} == {bulk.RULE}
    assert report.looked[f"{bulk.RULE}: by {by}"] == 1


def test_an_act_by_age_over_a_step_of_the_clock_is_not_judged(story: Story) -> None:
    jobs = group(story)
    story.step_clock(30)
    call(story, "cancel_many", jobs=jobs, about={"state": None, "by": "age"}, said={"count": 0, "requested": 0})
    for job in jobs:
        story.run(job)
    assert story.check().counts[bulk.RULE] == 0
