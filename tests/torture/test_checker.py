"""The checker finds what is wrong, and nothing else."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from rowlock.torture.audit import Last
from rowlock.torture.checker import RULES, Report
from tests.torture.story import Job, Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def clean(story: Story) -> Report:
    report = story.check()
    assert report.violations == ()
    assert report.is_clean
    return report


def broken(story: Story) -> set[str]:
    report = story.check()
    assert not report.is_clean
    return {violation.rule for violation in report.violations}


def test_a_run_in_which_all_went_well_is_clean(story: Story) -> None:
    story.done()
    for how, outcome in [("error", "error"), ("error", "retried"), ("snooze", "snoozed"), ("stopped", "timeout")]:
        job = story.run(story.enqueue(), how)
        story.again(job, outcome)
        story.run(job)
    for how, outcome in [("error", "error"), ("fail", "failed"), ("cancel", "cancelled")]:
        story.fail(story.run(story.enqueue(), how), outcome)
    story.act("cancel", story.enqueue())
    put_back = story.run(story.enqueue(max_attempts=1), "error")
    story.fail(put_back)
    story.act("retry", put_back)
    story.run(put_back)
    story.enqueue("nothing")
    report = clean(story)
    assert list(report.counts) == list(RULES)
    assert report.figures["jobs asked for"] == 11
    assert report.figures["jobs acknowledged"] == 10
    assert report.figures["jobs succeeded"] == 6
    assert report.figures["duplicates justified by an operator's retry"] == 1
    assert report.figures["duplicates justified by snoozed"] == 1
    assert "lost 0" in report.lines()
    assert "jobs failed 2" in report.lines()


# Lost, unfinished, unexpected


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


# Starts and their causes


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


def test_a_released_attempt_that_never_started_is_justified(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.again(job, "released")
    story.run(job)
    clean(story)


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


def test_starts_past_the_limit_are_found(story: Story) -> None:
    job = story.enqueue(max_attempts=2)
    for _ in range(2):
        story.run(job, "error")
        story.again(job, "error")
    story.run(job)
    assert broken(story) == {"starts past the limit"}


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


# Outcomes


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


# States


def test_a_second_final_state_is_found(story: Story) -> None:
    job = story.done()
    story._change(job, what="finished_job", old_state=None, state="succeeded", run=job.result)
    assert broken(story) == {"more than one final state", "illegal transitions"}


def test_a_finished_job_that_is_live_as_well_is_found(story: Story) -> None:
    job = story.done()
    story.save()
    with (story.folder / "last.audit").open("ab") as file:
        file.write(msgspec.json.encode(Last(id=job.id, task=job.task, state="succeeded", attempt=1)) + b"\n")
    from rowlock.torture.checker import check

    assert [v.rule for v in check(story.folder).violations] == ["more than one final state"]


@pytest.mark.parametrize("archive_first", [False, True])
def test_a_finish_is_two_changes_of_one_transaction_in_either_order(story: Story, archive_first: bool) -> None:
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    story.end(job)
    story.succeed(job, archive_first=archive_first)
    clean(story)


def test_a_job_that_leaves_without_a_trace_is_found(story: Story) -> None:
    job = story.enqueue("unknown", is_stored=True)
    story._change(job, old_state="queued", state=None)
    story.jobs.remove(job)
    assert broken(story) == {"illegal transitions", "unfinished"}


def test_success_without_a_claim_is_no_edge(story: Story) -> None:
    job = story.enqueue()
    story.finish(job, "succeeded")
    assert broken(story) == {"illegal transitions"}


def test_a_succeeded_job_that_is_put_back_is_found(story: Story) -> None:
    job = story.done()
    story.act("retry", job)
    story.run(job)
    assert broken(story) == {"illegal transitions"}


@pytest.mark.parametrize("by", [0, 2])
def test_a_claim_counts_one_attempt(story: Story, by: int) -> None:
    job = story.run(story.enqueue(), "error")
    story.again(job, "error")
    job.attempt += by - 1
    story.run(job)
    assert "illegal transitions" in broken(story)


def test_a_job_that_is_taken_from_its_worker_while_it_runs_is_found(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    story.end(job)
    story.update(job, attempt=2, worker=story.new_worker(pid=12).id)
    story.succeed(job)
    assert {"illegal transitions", "stale outcomes accepted"} <= broken(story)


@pytest.mark.parametrize("values", [{"errors": 5}, {"errors": 0}, {"crashes": 2}])
def test_counters_only_count_what_happened(story: Story, values: dict[str, int]) -> None:
    job = story.run(story.enqueue(), "error")
    story.again(job, "error")
    story.update(job, **values)
    story.run(job)
    assert broken(story) == {"illegal transitions"}


def test_a_waiting_job_that_is_replaced_stays_as_it_was(story: Story) -> None:
    job = story.enqueue()
    story.update(job)
    story.run(job)
    clean(story)


def test_what_is_seen_in_the_end_is_the_last_change(story: Story) -> None:
    job = story.done()
    story.lasts[job.id] = Last(id=job.id, task=job.task, state="failed", attempt=1, run=job.result)
    assert broken(story) == {"inconsistencies"}


def test_half_a_line_is_found(story: Story) -> None:
    story.done()
    story.save()
    file = story.folder / "enqueuer.history"
    file.write_bytes(file.read_bytes() + b'{"do":"start"')
    from rowlock.torture.checker import check

    (violation,) = check(story.folder).violations
    assert (violation.rule, violation.subject) == ("inconsistencies", "enqueuer.history")
