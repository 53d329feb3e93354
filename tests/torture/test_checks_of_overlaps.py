"""The checker finds runs of one job at the same time that nothing excuses."""

from __future__ import annotations

import pytest

from rowlock.torture.evidence import SECOND
from rowlock.torture.history import Began, Process, Stall, Start
from tests.torture.reports import broken, clean
from tests.torture.story import EPOCH, Story, frozen, interrupted, rescued


def test_clocks_of_a_few_processes_may_be_wrong(two_workers: Story) -> None:
    story, job = two_workers, interrupted(two_workers)
    story.tell(Began(clock=EPOCH + story.now - 3600), by="worker-11", pid=11)
    story.tell(Began(clock=EPOCH + story.now), by="worker-12", pid=12)
    story.kill(story.worker)
    story.wait(20)
    rescued(story, job)
    clean(story)


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


@pytest.mark.parametrize("takes", [60.0, 0.2])
def test_a_handler_that_had_long_to_go_when_another_attempt_began_is_counted(two_workers: Story, takes: float) -> None:
    story = two_workers
    job = story.enqueue()
    story.claim(job)
    first = story.start(job, takes=takes)
    story.fault("black_hole", story.worker)
    story.end(job, "stopped" if takes > 1 else "return", run=first, attempt=1)
    story.wait(20)
    story.rescue(job)
    story.run(job, worker=story.workers[1])
    name = "overlaps: handlers that had long to go when another attempt began"
    assert story.check().looked[name] == (takes > 1)


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


@pytest.mark.parametrize("seen_too_long", [False, True])
def test_a_process_of_a_task_ended_after_it_was_seen_for_the_last_time(two_workers: Story, seen_too_long: bool) -> None:
    story, child = two_workers, 77
    job = story.enqueue(task="torture.process")
    story.claim(job)
    started = Start(job=job.id, attempt=1, run="first", task=job.task, worker=story.worker.pid)
    story.tell(started, by=story.worker.name, pid=child)
    story.fault("stop", story.worker)
    seen = story.now
    story.again(job, "released")
    story.run(job, worker=story.workers[1])
    alive_at = int((story.now if seen_too_long else seen) * SECOND)
    story.tell(Process(name=story.worker.name, process=child, what="ended", alive_at=alive_at), by="runner")
    story.ended(story.worker, code=0)
    report = story.check()
    assert report.counts["overlaps"] == sum(report.counts.values()) == seen_too_long
