"""The checker finds a job whose row differs from what its call asked for, and nothing else."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.torture.reports import broken, clean
from tests.torture.story import EPOCH, Job, Story

ASKED: Final[dict[str, Any]] = {
    "queue": "default",
    "priority": 7,
    "timeout": 60.0,
    "tags": ["a", "b"],
    "metadata": {"customer": "42"},
    "args_version": 2,
}
OTHERS: Final[dict[str, Any]] = {
    "queue": "slow",
    "priority": 5,
    "timeout": None,
    "tags": ["a"],
    "metadata": None,
    "args_version": 1,
    "max_attempts": 3,
    "task": "torture.slow",
}


def asked(story: Story, *, at: float | None = None, **row: Any) -> Job:  # noqa: ANN401  # columns
    given = {**ASKED, **({} if at is None else {"run_at": EPOCH + at})}
    job = story.enqueue("killed", is_stored=False, row={**ASKED, **row}, **given)
    story.insert(job)
    return job


def latest(story: Story, **row: Any) -> Job:  # noqa: ANN401  # columns
    return story.enqueue(key="k", until="start", content=1, replaces=True, queue="default", row={"content": 1, **row})


def test_a_row_as_it_was_asked_for_is_right_and_stays_so_over_another_attempt(story: Story) -> None:
    job = story.run(asked(story), "error")
    story.again(job, "error")
    story.run(job)
    report = clean(story)
    assert report.looked["stored otherwise"] == 1
    assert report.looked["stored otherwise: tags"] == report.looked["stored otherwise: timeouts"] == 1
    assert report.looked["stored otherwise: metadata"] == 1
    assert report.looked["stored otherwise: later versions of the arguments"] == 1


@pytest.mark.parametrize("name", OTHERS)
def test_a_row_with_another_option_than_was_asked_for_is_found(story: Story, name: str) -> None:
    job = asked(story)
    setattr(job, name, OTHERS[name])
    story.update(job)
    story.run(job)
    assert broken(story) == {"stored otherwise"}


def test_an_option_that_another_attempt_loses_is_found(story: Story) -> None:
    job = story.run(asked(story), "error")
    job.tags = None
    story.again(job, "error")
    story.run(job)
    assert broken(story) == {"stored otherwise"}


@pytest.mark.parametrize(
    "asked_at, due, is_right", [(105.0, 105.0, True), (50.0, None, True), (105.0, None, False), (105.0, 109.0, False)]
)
def test_a_job_is_due_at_the_time_that_was_given_or_at_once_if_that_is_over(
    story: Story, asked_at: float, due: float | None, *, is_right: bool
) -> None:
    job = asked(story, at=asked_at, **({} if due is None else {"run_at": due}))
    story.wait(10)
    story.run(job)
    report = story.check()
    assert report.counts["stored otherwise"] == (not is_right)
    assert report.looked["stored otherwise: times that were given"] == 1


def test_a_replaced_job_has_the_options_of_the_later_call(story: Story) -> None:
    job = latest(story)
    job.priority = 9
    story.replace(job, 2, queue="default", priority=9)
    story.run(job)
    assert clean(story).looked["stored otherwise: replaced jobs"] == 1


def test_a_replaced_job_that_keeps_an_option_of_the_first_call_is_found(story: Story) -> None:
    job = latest(story)
    story.replace(job, 2, queue="default", priority=9)
    story.run(job)
    assert broken(story) == {"stored otherwise"}


def test_a_replaced_job_that_keeps_the_time_of_the_first_call_is_found(story: Story) -> None:
    job = latest(story)
    job.run_at = story.now
    story.replace(job, 2, queue="default", delay=5.0)
    story.run(job)
    assert "stored otherwise" in broken(story)


def test_a_replacement_without_an_answer_is_not_judged(story: Story) -> None:
    job = latest(story)
    story.replace(job, 2, is_acknowledged=False, queue="default", priority=9)
    story.run(job)
    clean(story)
