"""The checker finds jobs that are lost or that nobody wanted, and effects without their success."""

from __future__ import annotations

from uuid import uuid4

import pytest

from rowlock.torture.audit import Effect, Last
from tests.torture.reports import broken, clean
from tests.torture.story import Job, Story


def test_an_acknowledged_job_that_is_not_there_is_lost(story: Story) -> None:
    story.enqueue("stored", is_stored=False)
    assert broken(story) == {"lost"}


def test_an_acknowledged_job_that_never_ends_is_lost(story: Story) -> None:
    story.enqueue()
    assert broken(story) == {"lost"}


def test_an_acknowledged_retry_that_did_not_happen_is_lost(story: Story) -> None:
    job = story.run(story.enqueue(), "fail")
    story.fail(job, "failed")
    story.act("retry", job, "done", does=False)
    assert broken(story) == {"lost"}


@pytest.mark.parametrize("outcome", ["unknown", "killed"])
def test_an_unknown_job_may_exist_or_not_but_is_finished_if_it_does(story: Story, outcome: str) -> None:
    story.enqueue(outcome, is_stored=False)  # type: ignore[arg-type]  # one of them
    story.run(story.enqueue(outcome, is_stored=True))  # type: ignore[arg-type]  # one of them
    report = clean(story)
    assert report.figures["jobs unknown"] == 2
    assert report.figures["jobs unknown and found stored"] == 1


def test_a_job_of_an_unknown_enqueue_that_never_ends_is_unfinished(story: Story) -> None:
    story.enqueue("unknown", is_stored=True)
    assert broken(story) == {"unfinished"}


def test_a_job_that_nobody_enqueued_is_unexpected(story: Story) -> None:
    job = Job(uuid4(), "torture.quick", None)
    story.insert(job)
    story.run(job)
    assert broken(story) == {"unexpected"}


@pytest.mark.parametrize("outcome", ["nothing", "existing"])
def test_a_job_that_was_refused_is_unexpected(story: Story, outcome: str) -> None:
    story.run(story.enqueue(outcome, is_stored=True))  # type: ignore[arg-type]  # one of them
    assert broken(story) == {"unexpected"}


def test_a_refused_job_that_was_enqueued_again_is_expected(story: Story) -> None:
    refused = story.enqueue("nothing")
    story.enqueue(again=refused)
    unknown = story.enqueue("unknown", is_stored=False)
    story.enqueue(again=unknown)
    story.run(refused)
    story.run(unknown)
    clean(story)


@pytest.mark.parametrize("effects, is_clean", [(0, False), (1, True), (2, False)])
def test_a_success_has_exactly_one_effect(story: Story, effects: int, is_clean: bool) -> None:
    job = story.done(task="torture.exactly_once")
    story.effects += [Effect(job=job.id, attempt=1, run=job.run)] * effects
    report = story.check()
    assert (report.is_clean, report.counts["effects"]) == (is_clean, not is_clean)


def test_an_effect_of_a_job_that_failed_is_found(story: Story) -> None:
    job = story.run(story.enqueue(task="torture.exactly_once"), "fail")
    story.fail(job, "failed")
    story.effects.append(Effect(job=job.id, attempt=1, run=job.run))
    assert broken(story) == {"effects"}


def test_an_effect_of_another_run_than_the_one_that_succeeded_is_found(story: Story) -> None:
    job = story.done(task="torture.exactly_once")
    story.effects.append(Effect(job=job.id, attempt=1, run="another"))
    assert broken(story) == {"effects"}


def leave(story: Story, shown: str) -> None:
    """Leave a job that waits after an error, and have the view show it so."""
    job = story.run(story.enqueue(), "error")
    story.again(job, "error")
    story.lasts[job.id] = Last(id=job.id, task=job.task, state=shown, attempt=job.attempt, run=None)


@pytest.mark.parametrize("shown", ["queued", "retrying", "scheduled"])
def test_a_waiting_job_that_is_left_is_lost_and_shown_as_it_is_stored(story: Story, shown: str) -> None:
    leave(story, shown)
    assert broken(story) == {"lost"}


def test_a_waiting_job_that_is_shown_as_running_is_inconsistent(story: Story) -> None:
    leave(story, "running")
    assert broken(story) == {"lost", "inconsistencies"}
