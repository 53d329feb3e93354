"""The checker finds what is wrong, and nothing else."""

from __future__ import annotations

import mmap
from uuid import uuid4

import msgspec
import pytest

from rowlock.torture.audit import Effect, Last, Tick
from rowlock.torture.checker import MOST_KEPT, RULES, check
from rowlock.torture.checks.leases import HITS_ALL
from rowlock.torture.history import Began, Stall
from rowlock.torture.timeline import timelines
from tests.torture.reports import broken, clean
from tests.torture.story import EPOCH, LEASE, Job, Story


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
    assert report.figures["duplicates justified by an operator"] == 1
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


def test_a_row_that_changes_unseen_is_found(story: Story) -> None:
    job = interrupted(story)
    story.end(job)
    job.errors = 1
    story.succeed(job)
    assert broken(story) == {"illegal transitions"}


def test_a_waiting_job_with_a_worker_is_found(story: Story) -> None:
    job = story.enqueue()
    story.update(job, worker=story.worker.id)
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


def test_a_job_that_no_change_has_made_is_found(story: Story) -> None:
    job = story.enqueue("unknown", is_stored=False)
    story.lasts[job.id] = Last(id=job.id, task=job.task, state="failed", attempt=1)
    assert broken(story) == {"inconsistencies"}


def test_half_a_line_is_found(story: Story) -> None:
    story.done()
    story.save()
    file = story.folder / "enqueuer.history"
    file.write_bytes(file.read_bytes() + b'{"do":"start"')
    (violation,) = check(story.folder).violations
    assert (violation.rule, violation.subject) == ("inconsistencies", "enqueuer.history")


def test_half_a_line_at_the_end_of_a_page_is_that_of_a_process_killed_while_it_wrote(story: Story) -> None:
    story.done()
    story.save()
    file = story.folder / "enqueuer.history"
    written = file.read_bytes()
    half = b'{"do":"start","at":'
    file.write_bytes(written + half + b"1" * (-len(written + half) % mmap.PAGESIZE))
    assert not check(story.folder).violations


# Rescues and overlaps


def interrupted(story: Story, task: str = "torture.quick") -> Job:
    job = story.enqueue(task=task)
    story.claim(job)
    story.start(job)
    return job


def rescued(story: Story, job: Job) -> None:
    """Let another worker have the job, and run it."""
    story.rescue(job)
    story.run(job, worker=story.workers[1])


@pytest.fixture
def two_workers(story: Story) -> Story:
    story.new_worker(pid=12)
    return story


def test_the_jobs_of_a_killed_process_are_rescued(two_workers: Story) -> None:
    story, job = two_workers, interrupted(two_workers)
    story.kill(story.worker)
    story.wait(20)
    rescued(story, job)
    report = clean(story)
    assert report.figures["rescues"] == 1
    assert report.figures["duplicates justified by crashed"] == 1


def test_a_job_that_takes_its_process_down_three_times_is_set_aside(story: Story) -> None:
    job = story.enqueue()
    for pid in (21, 22, 23):
        worker = story.new_worker(pid)
        story.claim(job, worker)
        story.start(job, worker)
        story.ended(worker, code=-11)
        story.wait(20)
        story.rescue(job)
    assert job.state == "failed"
    clean(story)


def crash_alone_and_go_on(story: Story, crashes: int) -> None:
    job = story.enqueue()
    for pid in range(21, 21 + crashes):
        worker = story.new_worker(pid)
        story.claim(job, worker)
        story.start(job, worker)
        story.ended(worker, code=-11)
        story.wait(20)
        story.record(job, "crashed")
        story.update(job, state="queued", worker=None, crashes=job.crashes + 1)
    story.run(job)


def test_a_job_that_crashes_again_and_again_is_past_the_limit(story: Story) -> None:
    crash_alone_and_go_on(story, crashes=6)
    assert broken(story) == {"starts past the limit"}


def test_a_few_more_crashes_may_be_those_of_jobs_beside_it(story: Story) -> None:
    crash_alone_and_go_on(story, crashes=5)
    clean(story)


def crash_together(story: Story, *, is_one_done: bool) -> Job:
    """Two jobs whose worker dies three times; the first is set aside then, when the other is still held or was done."""
    first, second = story.enqueue(), story.enqueue()
    for pid in (21, 22, 23):
        worker = story.new_worker(pid)
        for job in (first, second):
            story.claim(job, worker)
            story.start(job, worker)
        if pid == 23 and is_one_done:
            story.end(second, worker=worker)
            story.succeed(second)
        story.kill(worker)
        story.wait(20)
        story.rescue(first)
        if second.state == "running":
            story.rescue(second)
    return first


def test_a_job_that_was_alone_at_its_third_crash_is_set_aside(story: Story) -> None:
    assert crash_together(story, is_one_done=True).state == "failed"
    clean(story)


def test_a_job_that_is_set_aside_beside_another_one_is_found(story: Story) -> None:
    first = crash_together(story, is_one_done=False)
    assert broken(story) == {"unjustified quarantines"}
    assert [violation.subject for violation in story.check().violations] == [str(first.id)]


def test_a_job_that_is_set_aside_too_early_is_found(story: Story) -> None:
    job = interrupted(story)
    story.kill(story.worker)
    story.wait(20)
    story.record(job, "crashed")
    story.finish(job, "failed", crashes=1)
    assert broken(story) == {"unjustified quarantines"}


def test_a_rescue_before_the_lease_has_run_out_is_unjustified(two_workers: Story) -> None:
    story, job = two_workers, interrupted(two_workers)
    story.kill(story.worker)
    story.wait(5)
    rescued(story, job)
    assert broken(story) == {"unjustified rescues"}


def test_a_rescue_by_elapsed_time_is_unjustified(two_workers: Story) -> None:
    story, job = two_workers, interrupted(two_workers, task="torture.slow")
    story.wait(100)
    story.rescue(job)
    story.end(job, "stopped")
    story.run(job, worker=story.workers[1])
    assert broken(story) == {"unjustified rescues"}


def test_a_renewal_that_was_not_visible_yet_does_not_make_a_rescue_wrong(two_workers: Story) -> None:
    story, job = two_workers, interrupted(two_workers)
    story.renew()
    until = story.now + LEASE
    story.fault("black_hole", story.worker)
    story.wait(10)
    story.end(job, "stopped")
    story.now = until - 0.05
    story.fault("black_hole", story.worker, is_over=True)
    story.now = until - 0.05
    story.renew()
    story.now = until + 0.05
    rescued(story, job)
    clean(story)


def test_a_worker_that_loses_its_lease_without_a_reason_is_found(two_workers: Story) -> None:
    story, job = two_workers, interrupted(two_workers)
    story.worker.is_renewing = False
    story.end(job, "stopped")
    story.wait(20)
    rescued(story, job)
    assert broken(story) == {"unjustified rescues"}


@pytest.mark.parametrize(
    "kind, is_reason",
    [(kind, kind in HITS_ALL) for kind in ("server", "cut", "full", "full_wal", "locks", "failover", "pin", "skew")],
)
def test_a_fault_of_the_server_is_a_reason_to_lose_a_lease_and_an_old_transaction_is_none(
    two_workers: Story, kind: str, is_reason: bool
) -> None:
    story, job = two_workers, interrupted(two_workers)
    story.worker.is_renewing = False
    story.end(job, "stopped")
    story.wait(5)
    story.fault(kind)
    story.fault(kind, is_over=True)
    story.wait(15)
    rescued(story, job)
    assert story.check().is_clean is is_reason


def test_a_fault_long_before_or_at_another_process_is_no_reason(two_workers: Story) -> None:
    story = two_workers
    story.fault("server")
    story.fault("server", is_over=True)
    story.fault("skew", story.worker)
    story.wait(60)
    job = interrupted(story)
    story.worker.is_renewing = False
    story.fault("cut", story.workers[1])
    story.end(job, "stopped")
    story.wait(20)
    rescued(story, job)
    assert broken(story) == {"unjustified rescues"}


def test_a_fault_of_the_network_hits_the_next_process_of_the_same_name_too(two_workers: Story) -> None:
    story = two_workers
    story.fault("delay", story.worker)
    story.kill(story.worker)
    again = story.new_worker(pid=13, name=story.worker.name)
    job = story.enqueue()
    story.claim(job, again)
    again.is_renewing = False
    story.wait(20)
    story.rescue(job)
    story.run(job, worker=story.workers[1])
    clean(story)


def test_a_lease_that_is_renewed_after_it_has_run_out_is_found(story: Story) -> None:
    story.worker.is_renewing = False
    story.wait(20)
    story.worker.is_renewing = True
    story.renew()
    assert broken(story) == {"lapsed leases"}


def test_a_lease_is_renewed_at_the_last_moment_given_up_and_forgotten(story: Story) -> None:
    story.worker.is_renewing = False
    story.wait(14.9)
    story.worker.is_renewing = True
    story.renew()
    story._lease(story.worker, "registered", -EPOCH)
    story._lease(story.worker, "registered", -EPOCH, state=None)
    clean(story)


def test_clocks_of_a_few_processes_may_be_wrong(two_workers: Story) -> None:
    story, job = two_workers, interrupted(two_workers)
    story.tell(Began(clock=EPOCH + story.now - 3600), by="worker-11", pid=11)
    story.tell(Began(clock=EPOCH + story.now), by="worker-12", pid=12)
    story.kill(story.worker)
    story.wait(20)
    rescued(story, job)
    clean(story)


def frozen(story: Story, seconds: float = 20) -> Job:
    """A job that is rescued and runs again while the process of its first attempt is frozen."""
    job = interrupted(story)
    story.first = job.run
    story.fault("freeze", story.worker)
    story.wait(seconds)
    story.rescue(job)
    story.run(job, worker=story.workers[1])
    return job


def test_the_overlap_of_a_frozen_process_is_justified_if_it_stops_when_it_wakes_up(two_workers: Story) -> None:
    story, job = two_workers, frozen(two_workers)
    story.fault("freeze", story.worker, is_over=True)
    story.end(job, "stopped", run=story.first, attempt=1)
    report = clean(story)
    assert report.figures["justified overlaps"] == 1
    assert report.figures["longest justified overlap in milliseconds"] == 100


def test_a_handler_that_goes_on_after_its_process_was_frozen_overlaps(two_workers: Story) -> None:
    story, job = two_workers, frozen(two_workers)
    story.fault("freeze", story.worker, is_over=True)
    story.wait(10)
    story.end(job, "stopped", run=story.first, attempt=1)
    assert broken(story) == {"overlaps"}


@pytest.mark.parametrize("seconds", [16.0, 0.0])
def test_a_process_that_did_not_get_to_run_may_lose_its_lease_and_overlap(two_workers: Story, seconds: float) -> None:
    story, job = two_workers, interrupted(two_workers)
    first = job.run
    story.worker.is_renewing = False
    story.wait(20)
    story.rescue(job)
    story.run(job, worker=story.workers[1])
    if seconds:
        story.tell(Stall(seconds=seconds), by=story.worker.name, pid=story.worker.pid)
    story.end(job, "stopped", run=first, attempt=1)
    report = story.check()
    assert (report.counts["overlaps"], report.counts["unjustified rescues"]) == ((0, 0) if seconds else (1, 1))
    assert report.is_clean is bool(seconds)


def test_a_frozen_process_that_is_killed_ended_then(two_workers: Story) -> None:
    story = two_workers
    frozen(story)
    story.kill(story.worker)
    clean(story)


@pytest.mark.parametrize("is_stubborn", [True, False])
def test_a_handler_that_goes_on_when_the_network_is_gone_overlaps_unless_it_cannot_be_stopped(
    two_workers: Story, is_stubborn: bool
) -> None:
    story = two_workers
    job = story.enqueue()
    story.claim(job)
    first = story.start(job, is_stubborn=is_stubborn)
    story.fault("black_hole", story.worker)
    story.wait(20)
    story.rescue(job)
    story.claim(job, story.workers[1])
    story.start(job, story.workers[1])
    story.end(job, "stopped", run=first, attempt=1)
    story.end(job, worker=story.workers[1])
    story.succeed(job)
    assert story.check().counts["overlaps"] == (not is_stubborn)
    assert sum(story.check().counts.values()) == (not is_stubborn)


def test_a_handler_cannot_be_stopped_while_another_one_blocks_its_event_loop(two_workers: Story) -> None:
    story = two_workers
    blocking, job = story.enqueue(task="torture.blocks"), story.enqueue()
    for one in (blocking, job):
        story.claim(one)
        story.start(one, is_stubborn=one is blocking)
    first = job.run
    story.fault("cut", story.worker)
    story.worker.is_renewing = False
    story.wait(20)
    story.rescue(job)
    story.run(job, worker=story.workers[1])
    story.end(blocking)
    story.end(job, "stopped", run=first, attempt=1)
    story.rescue(blocking)
    story.run(blocking, worker=story.workers[1])
    clean(story)


def test_a_run_without_an_end_in_a_process_that_lives_on_overlaps(two_workers: Story) -> None:
    story, job = two_workers, interrupted(two_workers)
    story.fault("black_hole", story.worker)
    story.wait(20)
    rescued(story, job)
    assert broken(story) == {"overlaps"}


# Unique keys


def test_a_key_is_held_by_one_job_after_the_other(story: Story) -> None:
    first = story.enqueue(key="k")
    story.enqueue("existing", key="k", holder=first)
    story.run(first)
    story.done(key="k")
    story.done(key="other")
    clean(story)


def test_two_holders_of_a_key_are_found(story: Story) -> None:
    first, second = story.enqueue(key="k"), story.enqueue(key="k")
    story.run(first)
    story.run(second)
    assert broken(story) == {"unique violations"}


def test_a_key_is_held_by_a_running_job_unless_it_is_held_until_the_start(story: Story) -> None:
    for until in ("start", "finish"):
        job = story.enqueue(key="k", until=until)
        story.claim(job)
        story.start(job)
        other = story.enqueue(key="k", until=until)
        story.end(job, "error")
        story.again(job, "error")
        story.run(job)
        story.run(other)
        assert story.check().counts["unique violations"] == (until == "finish")


def test_a_job_that_was_put_back_holds_its_key_again(story: Story) -> None:
    job = story.run(story.enqueue(key="k"), "fail")
    story.fail(job, "failed")
    other = story.enqueue(key="k")
    story.act("retry", job)
    story.run(other)
    story.run(job)
    assert broken(story) == {"unique violations"}


def test_a_job_that_lost_its_key_on_the_way_is_found(story: Story) -> None:
    job = story.enqueue(key="k", is_stored=False)
    job.key = None
    story.insert(job)
    story.run(job)
    assert broken(story) == {"unique violations"}


def test_a_refusal_because_of_a_job_that_does_not_exist_is_found(story: Story) -> None:
    story.enqueue("existing", key="k", holder=story.enqueue("nothing", key="k"))
    assert broken(story) == {"unique violations"}


def test_a_refusal_because_of_a_job_with_another_key_is_found(story: Story) -> None:
    story.enqueue("existing", key="k", holder=story.done(key="other"))
    assert broken(story) == {"unique violations"}


def test_a_refusal_because_of_a_job_that_ended_long_ago_is_found(story: Story) -> None:
    first = story.done(key="k")
    story.enqueue("existing", key="k", holder=first)
    clean(story)
    story.wait(100)
    story.enqueue("existing", key="k", holder=first)
    assert broken(story) == {"unique violations"}


# Operators


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


# Effects


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


# Ticks


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


# All of it


def test_a_crash_of_the_server_takes_unknown_enqueues_with_it_and_nothing_else(two_workers: Story) -> None:
    story = two_workers
    stored = story.enqueue()
    job = interrupted(story)
    story.fault("server")
    gone, kept = story.enqueue("unknown", is_stored=False), story.enqueue("killed", is_stored=True)
    story.worker.is_renewing = False
    story.fault("server", is_over=True)
    story.end(job, "stopped")
    story.wait(20)
    rescued(story, job)
    for one in (stored, kept):
        story.run(one, worker=story.workers[1])
    report = clean(story)
    assert gone.id not in {life.id for life in story.jobs}
    assert report.figures["jobs unknown and found stored"] == 1


def test_only_the_first_violations_are_kept_and_all_are_counted(story: Story) -> None:
    for _ in range(MOST_KEPT + 10):
        story.enqueue("stored", is_stored=False)
    report = story.check()
    assert report.counts["lost"] == MOST_KEPT + 10
    assert len(report.violations) == MOST_KEPT
    assert f"lost {MOST_KEPT + 10}" in report.lines()
    assert str(report.violations[0]) in report.lines()


def test_the_timeline_of_a_job_tells_what_happened_to_it_and_around_it(two_workers: Story) -> None:
    story, job = two_workers, frozen(two_workers)
    other = story.done()
    story.save()
    lines = list(timelines(story.folder, {job.id}))
    times = [float(line.split()[0]) for line in lines[1:]]
    assert times == sorted(times)
    told = "\n".join(lines)
    assert str(job.id) in told
    assert str(other.id) not in told
    for what in [
        "process 11: attempt 1 starts",
        "fault: freeze of process 11",
        "the lease of process 12 goes on for 15.00 s",
        "running → queued (attempt 1",
        "recorded: attempt 1 crashed",
        "process 12: attempt 2 ends: return",
    ]:
        assert what in told
