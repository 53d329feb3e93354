"""The checker finds claims out of order, and calls that were stored by halves, and nothing else."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
import pytest

from rowlock.torture.history import Enqueue, Enqueued, Wanted
from tests.torture.reports import broken, clean
from tests.torture.story import ENQUEUER, Job, Story

if TYPE_CHECKING:
    from collections.abc import Sequence

DELAY = 1.0


def burst(story: Story, priorities: list[int], *, delay: float = DELAY, tasks: Sequence[str] = ()) -> list[Job]:
    """Jobs that fall due together, the first one first."""
    run_at = story.now + 0.11 * len(priorities) + delay
    jobs = [
        story.enqueue(task=task, row={"priority": priority, "run_at": run_at + number / 1000})
        for number, (priority, task) in enumerate(zip_longest(priorities, tasks, fillvalue="torture.quick"))
    ]
    story.wait(0.2 * len(priorities) + delay)
    return jobs


def test_the_most_urgent_go_first_and_of_one_priority_the_oldest(story: Story) -> None:
    jobs = burst(story, [0, 9, 5, 5, 9, 0, 1, 2])
    for job in sorted(jobs, key=lambda job: (-job.priority, job.run_at)):
        story.run(job)
    report = clean(story)
    assert report.looked["out of order"] == 7
    assert report.looked["out of order: beside other priorities"] == 6


@pytest.mark.parametrize("priorities", [[9, 0, 1, 2, 3, 4], [5, 5, 5, 5, 5, 5]])
def test_a_job_that_is_overtaken_again_and_again_is_found(story: Story, priorities: list[int]) -> None:
    first, *rest = burst(story, priorities)
    for job in [*rest, first]:
        story.run(job)
    assert broken(story) == {"out of order"}
    assert [violation.subject for violation in story.check().violations] == [str(first.id)]


def test_a_job_may_be_overtaken_once_or_twice_while_somebody_holds_its_row(story: Story) -> None:
    first, *rest = burst(story, [9, 0, 1, 2, 3])
    for job in [*rest, first]:
        story.run(job)
    clean(story)


def test_a_claim_that_takes_many_counts_once(story: Story) -> None:
    first, *rest = burst(story, [9, 0, 1, 2, 3, 4, 4])
    story.xid += 1
    for job in rest:
        story.claim(job, xid=story.xid)
    for job in rest:
        story.start(job)
        story.end(job)
        story.succeed(job)
    story.run(first)
    clean(story)


def test_a_job_that_was_stored_when_it_was_due_may_be_overlooked_for_a_while(story: Story) -> None:
    first = story.enqueue(row={"priority": 9})
    for job in burst(story, [0] * 6):
        story.run(job)
    story.run(first)
    clean(story)


def test_a_job_of_another_queue_overtakes_nobody(story: Story) -> None:
    jobs = burst(story, [9, 0, 1, 2, 3, 4])
    first = jobs[0]
    other = story.enqueue(row={"queue": "other", "priority": 9, "run_at": story.now + DELAY})
    story.wait(2 * DELAY)
    for job in [first, *jobs[1:], other]:
        story.run(job)
    clean(story)


@pytest.mark.parametrize("task", ["torture.thread", "torture.process"])
def test_what_waits_for_an_executor_is_judged_by_itself(story: Story, task: str) -> None:
    first, *rest = burst(story, [9, 0, 1, 2, 3, 4], tasks=[task])
    for job in [*rest, first]:
        story.run(job)
    clean(story)
    first, *rest = burst(story, [9, 0, 1, 2, 3, 4], tasks=[task] * 6)
    for job in [*rest, first]:
        story.run(job)
    assert broken(story) == {"out of order"}


@pytest.mark.parametrize("kind, is_reason", [("server", True), ("pin", False)])
def test_a_crash_of_the_server_may_leave_a_row_locked_and_an_old_transaction_does_not(
    story: Story, kind: str, is_reason: bool
) -> None:
    first, *rest = burst(story, [9, 0, 1, 2, 3, 4])
    story.fault(kind)
    story.fault(kind, is_over=True)
    for job in [*rest, first]:
        story.run(job)
    assert story.check().is_clean is is_reason


@pytest.mark.parametrize("kind, is_reason", [("black_hole", True), ("delay", False)])
def test_a_claim_whose_answer_does_not_leave_the_server_holds_its_rows(
    story: Story, kind: str, *, is_reason: bool
) -> None:
    other = story.new_worker(12)
    first, *rest = burst(story, [9, 0, 1, 2, 3, 4])
    story.fault(kind, other)
    for job in rest:
        story.run(job)
    story.fault(kind, other, is_over=True)
    story.run(first)
    assert story.check().counts["out of order"] == (not is_reason)


def test_a_job_on_its_last_chance_runs_apart(story: Story) -> None:
    first, *rest = burst(story, [9, 0, 1, 2, 3, 4])
    story.changes = [
        msgspec.structs.replace(change, crashes=2) if change.id == first.id else change for change in story.changes
    ]
    for job in [*rest, first]:
        story.run(job)
    assert story.check().counts["out of order"] == 0


# All or none


def call(story: Story, outcome: str = "stored", *, jobs: int = 3, of: int = 0) -> tuple[list[Job], str]:
    """A call with several jobs, which stores nothing yet."""
    made = [Job(uuid4(), "torture.quick", None) for _ in range(jobs)]
    story.op += 1
    op = str(story.op)
    wanted = [Wanted(id=job.id, task=job.task) for job in made]
    story.tell(Enqueue(op=op, how="many", jobs=wanted, of=of), by=ENQUEUER)
    if outcome != "killed":
        story.tell(Enqueued(op=op, outcome=outcome), by=ENQUEUER)  # type: ignore[arg-type]  # one of them
    return made, op


@pytest.mark.parametrize("outcome", ["stored", "unknown", "killed"])
def test_all_jobs_of_a_call_are_stored_by_one_transaction(story: Story, outcome: str) -> None:
    jobs, _ = call(story, outcome)
    story.insert_many(jobs)
    for job in jobs:
        story.run(job)
    report = clean(story)
    assert report.looked["half stored"] == 1
    assert report.looked.get("half stored: unknown calls, stored", 0) == (outcome != "stored")


@pytest.mark.parametrize("outcome", ["unknown", "killed", "nothing"])
def test_none_of_the_jobs_of_a_call_may_be_stored(story: Story, outcome: str) -> None:
    call(story, outcome)
    clean(story)


@pytest.mark.parametrize("outcome", ["unknown", "killed"])
def test_a_call_of_which_a_part_is_stored_is_found(story: Story, outcome: str) -> None:
    jobs, op = call(story, outcome)
    story.insert_many(jobs[:2])
    for job in jobs[:2]:
        story.run(job)
    assert broken(story) == {"half stored"}
    assert story.check().violations[0].subject == op


def test_a_call_that_is_stored_by_two_transactions_is_found_although_nothing_is_missing(story: Story) -> None:
    jobs, _ = call(story)
    story.insert_many(jobs[:2])
    story.insert_many(jobs[2:])
    for job in jobs:
        story.run(job)
    assert broken(story) == {"half stored"}


def test_a_request_of_which_fewer_jobs_were_found_than_it_asked_for_is_found(story: Story) -> None:
    jobs, _ = call(story, "unknown", jobs=1, of=2)
    story.insert_many(jobs)
    story.run(jobs[0])
    assert broken(story) == {"half stored"}
