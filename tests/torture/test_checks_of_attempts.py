"""The checker finds attempts without a claim or a cause, past their limit, and false outcomes."""

from __future__ import annotations

import json

import pytest

from tests.torture.reports import broken, clean
from tests.torture.story import Story


def test_a_start_without_a_claim_is_found(story: Story) -> None:
    job = story.done()
    story.start(job, attempt=2)
    story.end(job, attempt=2)
    assert broken(story) == {"starts without a claim"}


def test_a_start_of_a_job_that_is_nowhere_is_found(story: Story) -> None:
    job = story.enqueue("unknown", is_stored=False)
    story.start(job, attempt=1)
    assert broken(story) == {"starts without a claim"}


def test_two_starts_of_one_attempt_are_found(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    story.end(job)
    story.start(job)
    story.end(job)
    story.succeed(job)
    assert broken(story) == {"starts without a claim"}


def test_a_start_in_another_process_than_the_claim_is_found(story: Story) -> None:
    job, other = story.enqueue(), story.new_worker(pid=12)
    story.claim(job)
    story.start(job, other)
    story.end(job, worker=other)
    story.succeed(job)
    assert broken(story) == {"starts without a claim"}


def test_a_second_attempt_without_a_cause_is_unjustified(story: Story) -> None:
    job = story.run(story.enqueue(), "error")
    story.update(job, state="queued", worker=None)
    story.run(job)
    assert broken(story) == {"unjustified duplicates"}


@pytest.mark.parametrize("recorded", ["crashed", "failed", "cancelled"])
def test_a_cause_that_does_not_put_a_job_back_without_a_crash_justifies_nothing(story: Story, recorded: str) -> None:
    job = story.run(story.enqueue(), "fail" if recorded == "failed" else "cancel")
    story.again(job, recorded)
    story.run(job)
    assert broken(story) == {"unjustified duplicates"}


def test_a_crash_that_is_recorded_as_something_else_justifies_nothing(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.kill(story.worker)
    story.wait(20)
    story.record(job, "timeout")
    story.update(job, state="queued", worker=None, crashes=1)
    story.run(job, worker=story.new_worker(pid=12))
    assert broken(story) == {"unjustified duplicates"}


def test_a_second_attempt_whose_first_handler_returned_is_unjustified(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    story.end(job, "return")
    story.again(job, "error")
    story.run(job)
    assert broken(story) == {"false outcomes"}


def test_a_retry_that_no_operator_asked_for_is_unjustified(story: Story) -> None:
    job = story.run(story.enqueue(), "fail")
    story.fail(job, "failed")
    story.put_back(job)
    story.run(job)
    assert broken(story) == {"unjustified duplicates"}


@pytest.mark.parametrize("outcome", ["unknown", "killed"])
def test_a_retry_whose_answer_was_lost_justifies_an_attempt(story: Story, outcome: str) -> None:
    job = story.run(story.enqueue(), "fail")
    story.fail(job, "failed")
    story.act("retry", job, outcome, does=True)
    story.run(job)
    clean(story)


def test_a_refused_retry_justifies_nothing(story: Story) -> None:
    job = story.run(story.enqueue(), "fail")
    story.fail(job, "failed")
    story.act("retry", job, "refused", does=True)
    story.run(job)
    assert broken(story) == {"unjustified duplicates"}


def test_a_started_attempt_is_released_by_a_process_that_stops_and_by_no_other(story: Story) -> None:
    job = story.run(story.enqueue(), "stopped")
    story.again(job, "released")
    other = story.new_worker(pid=12)
    story.run(job, worker=other)
    assert broken(story) == {"unjustified duplicates"}
    story.fault("stop", story.worker)
    clean(story)


def test_a_process_that_ends_by_itself_may_release_what_has_started(story: Story) -> None:
    job = story.run(story.enqueue(), "stopped")
    story.again(job, "released")
    story.ended(story.worker, code=0)
    story.run(job, worker=story.new_worker(pid=12))
    clean(story)


@pytest.mark.parametrize("is_its_own", [True, False])
def test_a_started_attempt_is_released_if_its_own_lease_was_lost(story: Story, *, is_its_own: bool) -> None:
    worker, other = story.worker, story.new_worker(pid=12)
    job = story.run(story.enqueue(), "stopped")
    story.again(job, "released")
    story.run(job, worker=other)
    line = {"event": "lease_lost", "worker": str((worker if is_its_own else other).id)}
    (story.folder / "worker-11.log").write_text(json.dumps(line) + "\n")
    assert story.check().counts["unjustified duplicates"] == (not is_its_own)


def test_starts_past_the_limit_are_found(story: Story) -> None:
    job = story.enqueue(max_attempts=2)
    for _ in range(2):
        story.run(job, "error")
        story.again(job, "error")
    story.run(job)
    assert broken(story) == {"starts past the limit"}


def test_more_starts_than_all_causes_allow_are_past_the_limit(story: Story) -> None:
    job = story.enqueue(max_attempts=1)
    story.claim(job)
    for _ in range(8):
        story.start(job)
        story.end(job)
    story.succeed(job)
    assert broken(story) == {"starts past the limit", "starts without a claim"}


def test_snoozes_and_retries_do_not_count_as_attempts(story: Story) -> None:
    job = story.enqueue(max_attempts=1)
    for _ in range(10):
        story.run(job, "snooze")
        story.again(job, "snoozed")
    for _ in range(10):
        story.run(job, "error")
        story.fail(job)
        story.act("retry", job)
    story.run(job)
    clean(story)


def test_a_result_of_an_older_attempt_is_stale(story: Story) -> None:
    job = story.run(story.enqueue(), "error")
    older = job.run
    story.again(job, "error")
    story.claim(job)
    story.start(job)
    story.end(job)
    story.succeed(job, result=older)
    assert broken(story) == {"stale outcomes accepted"}


def test_a_success_without_its_handler_is_stale(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.succeed(job, result=None)
    assert broken(story) == {"stale outcomes accepted"}


def test_a_finish_by_another_worker_is_stale(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    story.end(job)
    story.succeed(job, worker=story.new_worker(pid=12).id)
    assert broken(story) == {"stale outcomes accepted"}


def test_a_second_outcome_of_an_attempt_is_stale(story: Story) -> None:
    job = story.run(story.enqueue(), "error")
    story.record(job, "error")
    story.again(job, "error")
    story.run(job)
    assert broken(story) == {"stale outcomes accepted"}


def test_an_error_of_an_attempt_that_succeeded_is_stale(story: Story) -> None:
    job = story.done()
    story.record(job, "timeout")
    assert broken(story) == {"stale outcomes accepted"}


def test_an_error_recorded_by_another_worker_is_stale(story: Story) -> None:
    job = story.run(story.enqueue(), "error")
    story.record(job, "error", worker=story.new_worker(pid=12).id)
    story.update(job, state="queued", worker=None, errors=1)
    story.run(job)
    assert broken(story) == {"stale outcomes accepted"}


@pytest.mark.parametrize("how, outcome", [("error", "snoozed"), ("snooze", "error")])
def test_an_outcome_that_the_handler_did_not_give_is_false(story: Story, how: str, outcome: str) -> None:
    job = story.run(story.enqueue(), how)
    story.again(job, outcome)
    story.run(job)
    assert broken(story) == {"false outcomes"}


def test_a_cancel_that_nobody_wanted_is_false(story: Story) -> None:
    story.fail(story.run(story.enqueue(), "error"), "cancelled")
    assert broken(story) == {"false outcomes"}


def test_a_running_job_is_cancelled_on_request(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    story.act("cancel", job, "requested")
    story.update(job)
    story.end(job, "stopped")
    story.fail(job, "cancelled")
    clean(story)


@pytest.mark.parametrize(
    "asked, seconds, is_right",
    [
        ({"timeout": 1.0}, 2.0, True),
        ({"timeout": 3.0}, 1.0, False),
        ({}, 1.0, False),
        ({"deadline": 1.0}, 0.1, True),
    ],
)
def test_a_timeout_is_of_a_job_with_a_limit_whose_handler_ran_that_long(
    story: Story, asked: dict[str, float], seconds: float, *, is_right: bool
) -> None:
    job = story.enqueue(queue="default", **asked)  # type: ignore[arg-type]  # of Wanted
    story.claim(job)
    story.start(job)
    story.wait(seconds)
    story.end(job, "stopped")
    story.again(job, "timeout")
    story.run(job)
    report = story.check()
    assert report.counts["false outcomes"] == (not is_right)
    assert report.looked["false outcomes: timeouts"] == 1
