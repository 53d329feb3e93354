"""The checker finds nothing in a clean run, and reports what it finds."""

from __future__ import annotations

from rowlock.torture.checker import MOST_KEPT, RULES
from rowlock.torture.timeline import timelines
from tests.torture.reports import clean
from tests.torture.story import Story, frozen, interrupted, rescued


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
