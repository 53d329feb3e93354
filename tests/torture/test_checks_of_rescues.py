"""The checker finds rescues and quarantines without a reason."""

from __future__ import annotations

import pytest

from rowlock.torture.checks.leases import HITS_ALL
from tests.torture.reports import broken, clean
from tests.torture.story import EPOCH, LEASE, Job, Story, interrupted, rescued


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


def test_a_job_that_was_alone_at_its_third_crash_and_goes_on_is_found(story: Story) -> None:
    crash_alone_and_go_on(story, crashes=3)
    report = story.check()
    assert [violation.rule for violation in report.violations] == ["starts past the limit"]
    assert report.looked["starts past the limit: crashes alone"] == 1


def test_two_crashes_alone_are_no_reason_to_set_a_job_aside(story: Story) -> None:
    crash_alone_and_go_on(story, crashes=2)
    clean(story)


def test_a_third_crash_beside_another_job_is_no_reason_to_set_a_job_aside(story: Story) -> None:
    first, second = story.enqueue(), story.enqueue()
    for pid in (21, 22, 23):
        worker = story.new_worker(pid)
        for job in (first, second):
            story.claim(job, worker)
            story.start(job, worker)
        story.kill(worker)
        story.wait(20)
        for job in (first, second):
            story.record(job, "crashed")
            story.update(job, state="queued", worker=None, crashes=job.crashes + 1)
    story.run(first)
    story.run(second)
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
