"""The checker finds changes that are no step of a job's life."""

from __future__ import annotations

import mmap

import msgspec
import pytest

from rowlock.torture.audit import Last
from rowlock.torture.checker import check
from tests.torture.reports import broken, clean
from tests.torture.story import Story, interrupted


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
