"""The checker of waits for results."""

from __future__ import annotations

from pathlib import Path

import pytest

from rowlock.torture.checks import results
from tests.torture.operating import broken, call, clean
from tests.torture.story import Job, Story

ANSWER = "operate.answer"


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def wait(story: Story, job: Job, said: dict[str, object], timeout: float = 20.0, what: str = "result") -> None:
    call(story, what, jobs=[job], about={"timeout": timeout}, said=said)


def test_a_result_that_is_the_handler_s_is_clean(story: Story) -> None:
    job = story.done(task=ANSWER)
    wait(story, job, {"result": {"run": job.run}})
    wait(story, job, {"status": 200, "state": "succeeded", "result": {"run": job.run}}, what="http result")
    wait(story, job, {"status": 503}, what="http result")
    assert clean(story).looked[results.RULE] == 3


def test_a_result_of_no_success_is_false(story: Story) -> None:
    job = story.done(task=ANSWER)
    wait(story, job, {"result": {"run": "another"}})
    assert broken(story) == {results.RULE}


def test_a_result_before_the_job_has_succeeded_is_false(story: Story) -> None:
    job = story.enqueue(task=ANSWER)
    story.claim(job)
    story.start(job)
    wait(story, job, {"result": {"run": job.run}})
    story.wait(4)
    story.end(job)
    story.succeed(job)
    assert broken(story) == {results.RULE}


def test_an_error_is_that_of_the_attempt_that_ended_the_job(story: Story) -> None:
    job = story.run(story.enqueue(task=ANSWER), "error")
    first = job.run
    story.again(job, "error")
    story.fail(story.run(job, "error"))
    wait(story, job, {"state": "failed", "error": f"ValueError: run {job.run}"})
    looked = clean(story).looked
    assert looked[f"{results.RULE}: errors of a later attempt"] == 1
    assert looked[f"{results.RULE}: results of a later attempt"] == 0
    wait(story, job, {"state": "failed", "error": f"ValueError: run {first}"})
    assert broken(story) == {results.RULE}


def test_a_state_that_the_job_did_not_come_to_is_false(story: Story) -> None:
    wait(story, story.done(task=ANSWER), {"state": "cancelled", "error": None})
    assert broken(story) == {results.RULE}


def test_a_job_that_exists_is_not_missing(story: Story) -> None:
    wait(story, story.done(task=ANSWER), {"is_missing": True})
    assert broken(story) == {results.RULE}


@pytest.mark.parametrize("timeout, is_broken", [(20.0, True), (0.1, False)])
def test_a_lost_connection_is_waited_out_within_the_timeout(story: Story, timeout: float, *, is_broken: bool) -> None:
    job = story.done(task=ANSWER)
    about, said = {"timeout": timeout}, {"error": "DatabaseUnavailable"}
    call(story, "result", jobs=[job], about=about, said=said, outcome="unknown")
    assert broken(story) == ({results.RULE} if is_broken else set())


def late(story: Story, job: Job, seconds: float, timeout: float) -> None:
    call(story, "result", lambda: story.wait(seconds), jobs=[job], about={"timeout": timeout}, said={"is_late": True})


def test_a_wait_lasts_as_long_as_its_timeout(story: Story) -> None:
    job = story.enqueue(task=ANSWER)
    late(story, job, 3.0, 3.0)
    story.run(job)
    assert clean(story).looked[f"{results.RULE}: not finished in time"] == 1


@pytest.mark.parametrize("seconds, timeout", [(1.0, 3.0), (25.0, 3.0)])
def test_a_wait_that_ends_early_or_hangs_is_seen(story: Story, seconds: float, timeout: float) -> None:
    job = story.enqueue(task=ANSWER)
    late(story, job, seconds, timeout)
    story.run(job)
    assert broken(story) == {results.RULE}


def test_a_wait_that_does_not_see_the_end_is_seen_unless_the_server_was_away(story: Story) -> None:
    def wait_on() -> None:
        story.run(job)
        story.wait(12)

    job = story.enqueue(task=ANSWER)
    story.fault("server")
    call(story, "result", wait_on, jobs=[job], about={"timeout": 12}, said={"is_late": True})
    story.fault("server", is_over=True)
    clean(story)
    job = story.enqueue(task=ANSWER)
    call(story, "result", wait_on, jobs=[job], about={"timeout": 12}, said={"is_late": True})
    assert broken(story) == {results.RULE}
