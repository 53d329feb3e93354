"""The steps of the server's clock are taken out of the database's times, and must not stop anything."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from rowlock.torture.audit import Change
from rowlock.torture.checker import Report
from rowlock.torture.clocks import Clocks, Step
from tests.torture.story import Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def broken(report: Report) -> set[str]:
    return {violation.rule for violation in report.violations}


@pytest.mark.parametrize("offset", [3600, -3600, 2, -2])
def test_work_that_goes_on_after_a_step_is_clean(story: Story, offset: int) -> None:
    holder = story.enqueue(key="k")
    story.step_clock(offset)
    story.enqueue("existing", key="k", holder=holder)
    story.run(holder)
    for _ in range(10):
        story.done()
        story.wait(2)
    story.step_clock(0)
    story.act("cancel", story.enqueue())
    story.wait(15)
    report = story.check()
    assert report.is_clean, report.violations
    assert report.looked["stops by the clock"]


def test_a_queue_that_stands_still_after_a_step_is_found(story: Story) -> None:
    story.step_clock(-3600)
    jobs = [story.enqueue() for _ in range(3)]
    story.wait(20)
    for job in jobs:
        story.run(job)
    assert broken(story.check()) == {"stops by the clock"}


def test_a_rescue_right_after_a_step_ahead_is_justified(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    other = story.new_worker(pid=12)
    story.step_clock(3600)
    story.rescue(job)
    story.end(job, "stopped")
    story.run(job, worker=other)
    report = story.check()
    assert report.is_clean, report.violations


def test_without_a_step_it_is_not(story: Story) -> None:
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    other = story.new_worker(pid=12)
    story.rescue(job)
    story.end(job, "stopped")
    story.run(job, worker=other)
    assert "unjustified rescues" in broken(story.check())


@pytest.mark.parametrize("seconds, is_late", [(20, False), (45, True)])
def test_a_dead_workers_job_is_rescued_within_seconds(
    story: Story, seconds: float, is_late: bool
) -> None:  # a parameter
    job, other = story.enqueue(), story.new_worker(pid=12)
    story.claim(job)
    story.start(job)
    story.kill(story.worker)
    story.wait(seconds)
    story.rescue(job)
    story.run(job, worker=other)
    report = story.check()
    assert broken(report) == ({"late rescues"} if is_late else set())
    assert report.looked["late rescues"] == 1


@pytest.mark.parametrize("seconds", [1, 20])
@pytest.mark.parametrize("offset", [0, -3600])
def test_a_lease_that_a_step_back_made_longer_may_be_renewed(story: Story, offset: int, seconds: int) -> None:
    story.done()
    story.worker.is_renewing = False
    story.wait(seconds)
    if offset:
        story.step_clock(offset)
    story.wait(21 - seconds)
    story.worker.is_renewing = True
    story.renew()
    assert broken(story.check()) == (set() if offset else {"lapsed leases"})


def test_a_transaction_that_saw_a_step_has_one_clock_in_the_end() -> None:
    step = Step(at=1_000_000_000_000, old=-3600, new=0, first_number=10, last_number=10)
    change = Change(
        number=11, xid=1, what="job", id=uuid4(), at=1000.5, began=999.5 - 3600, committed=1000.6, run_at=1003
    )
    righted = Clocks([step]).right(change, epoch=0.0)
    assert (righted.began, righted.at, righted.committed, righted.run_at) == (999.5, 1000.5, 1000.6, 1003)


@pytest.mark.parametrize("began, right", [(-3.0, -3.0), (5.0, 3.0), (9.0, 7.0)])
def test_a_transaction_s_begin_is_by_the_clock_that_was_in_force_then(began: float, right: float) -> None:
    """However long it took: the clock stepped two seconds ahead at zero, and the change came ten seconds later."""
    clocks = Clocks([Step(at=0, old=0, new=2, first_number=1, last_number=1)])
    change = Change(number=2, xid=1, at=1012.0, what="job", id=uuid4(), state="queued", began=1000.0 + began)
    seen = clocks.right(change, 1000.0)
    assert (seen.at, seen.began) == (1010.0, 1000.0 + right)


@pytest.mark.parametrize("steps", [True, False])
def test_a_claim_while_the_clock_steps_needs_no_lease_by_both_clocks(story: Story, *, steps: bool) -> None:
    job = story.enqueue()
    story.worker.is_renewing = False
    story.wait(20)
    if steps:
        story.step_clock(2)
    story.claim(job)
    assert ("claims without a lease" in broken(story.check())) is not steps


def test_of_two_clocks_the_one_near_the_change_is_that_of_its_begin() -> None:
    """It stepped back by a minute in the middle of a transaction, and stayed there for longer than that."""
    clocks = Clocks([Step(at=0, old=30, new=-30, first_number=1, last_number=3)])
    change = Change(number=2, xid=1, at=970.4, what="job", id=uuid4(), state="queued", began=1029.9, run_at=972.0)
    seen = clocks.right(change, 1000.0)
    assert (seen.at, seen.began, seen.run_at) == pytest.approx((1000.4, 999.9, 1002.0))


@pytest.mark.parametrize("offset", [-2, 2])
def test_an_infinite_time_stays_as_it_was_noted(offset: int) -> None:
    """The job whose key another one took ends at `-infinity`, noted as 0."""
    clocks = Clocks([Step(at=0, old=0, new=offset, first_number=1, last_number=1)])
    change = Change(number=2, xid=1, at=1012.0, what="job", id=uuid4(), state="queued", began=1010.0, ends_at=0)
    assert clocks.right(change, 1000.0).ends_at == 0
