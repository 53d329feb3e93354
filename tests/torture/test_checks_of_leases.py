"""The checker finds claims, crashes and releases without a reason, and explains rescues by evidence alone."""

from __future__ import annotations

import json

import pytest

from rowlock.torture.history import Stall
from tests.torture.reports import broken, clean
from tests.torture.story import EPOCH, NEMESIS, Job, Story


def claimed(story: Story) -> Job:
    """A job that is claimed, and has not begun."""
    job = story.enqueue()
    story.claim(job)
    return job


def starving(story: Story) -> Job:
    """A job whose worker lost its lease, although its process lives."""
    other = story.new_worker(pid=12)
    job = story.enqueue()
    story.claim(job)
    story.start(job)
    story.end(job, "stopped")
    story.worker.is_renewing = False
    story.wait(20)
    story.rescue(job)
    story.run(job, worker=other)
    return job


def log(story: Story, *lines: dict[str, str]) -> None:
    text = "".join(json.dumps({"level": "warning", **line}) + "\n" for line in lines)
    (story.folder / "worker-11.log").write_text(f"not JSON: lease_lost\n{text}")


@pytest.mark.parametrize("error, is_reason", [("ConnectionDoesNotExistError", True), ("TimeoutError", False)])
def test_a_lost_connection_in_the_log_of_a_worker_explains_its_lost_lease_and_a_timeout_does_not(
    story: Story, error: str, *, is_reason: bool
) -> None:
    starving(story)
    assert broken(story) == {"unjustified rescues"}
    log(story, {"event": "lease_not_renewed", "worker": str(story.worker.id), "error": error})
    report = story.check()
    assert report.is_clean is is_reason
    assert report.looked.get("unjustified rescues: after a lost connection", 0) == is_reason


def test_the_log_of_another_worker_explains_nothing(story: Story) -> None:
    starving(story)
    log(story, {"event": "lease_not_renewed", "worker": str(story.workers[1].id), "error": "DatabaseUnavailable"})
    assert broken(story) == {"unjustified rescues"}


@pytest.mark.parametrize(
    "of, seconds, is_reason", [("machine", 6.0, True), ("server", 6.0, True), ("server", 1.0, False)]
)
def test_a_machine_or_server_that_stood_still_for_long_explains_a_lost_lease(
    story: Story, of: str, seconds: float, *, is_reason: bool
) -> None:
    other = story.new_worker(pid=12)
    job = claimed(story)
    story.start(job)
    story.end(job, "stopped")
    story.worker.is_renewing = False
    story.wait(14)
    story.tell(Stall(seconds=seconds, of=of), by=NEMESIS)  # type: ignore[arg-type]  # one of them
    story.wait(4)
    story.rescue(job)
    story.run(job, worker=other)
    assert story.check().is_clean is is_reason


def test_a_claim_while_the_lease_holds_is_seen(story: Story) -> None:
    story.done()
    assert clean(story).looked["claims without a lease"] == 1


@pytest.mark.parametrize("has_ended_it", [True, False])
def test_a_claim_after_the_lease_is_found(story: Story, *, has_ended_it: bool) -> None:
    story.worker.is_renewing = False
    if has_ended_it:
        story._lease(story.worker, "registered", -EPOCH)
    else:
        story.wait(20)
    story.done()
    assert broken(story) == {"claims without a lease"}


def test_a_crash_of_what_was_claimed_after_the_lease_and_never_began_is_found(story: Story) -> None:
    other = story.new_worker(pid=12)
    story.fault("black_hole", story.worker)
    story.worker.is_renewing = False
    story.wait(20)
    job = claimed(story)
    story.rescue(job)
    story.run(job, worker=other)
    assert broken(story) == {"claims without a lease", "crashes without a crash"}


def test_a_crash_of_what_was_claimed_while_the_lease_held_may_never_have_begun(story: Story) -> None:
    other = story.new_worker(pid=12)
    job = claimed(story)
    story.kill(story.worker)
    story.wait(20)
    story.rescue(job)
    story.run(job, worker=other)
    assert clean(story).looked["crashes without a crash: of attempts that never began"] == 1


# What was given back and never began


def test_a_release_for_no_reason_is_found(story: Story) -> None:
    job = claimed(story)
    story.again(job, "released")
    story.run(job)
    assert broken(story) == {"needless releases"}


@pytest.mark.parametrize("reason", ["it stops", "it waited", "its lease", "its time", "alone", "last chance"])
def test_a_release_with_a_reason_is_none(story: Story, reason: str) -> None:
    job = story.enqueue(row={"deadline": story.now + 1.0 if reason == "its time" else None})
    job.crashes = 2 if reason == "last chance" else 0
    if reason == "last chance":
        story.update(job)
    story.claim(job)
    match reason:
        case "it stops":
            story.fault("stop", story.worker)
        case "it waited":
            story.now += 2
        case "its lease":
            story.worker.is_renewing = False
            story.now = story.worker.until + 0.1
        case "its time":
            story.now += 1
        case "alone":
            started = {"event": "worker_started", "worker": str(story.worker.id)}
            log(story, started, {"event": "claims_paused"})
    story.again(job, "released")
    report = story.check()
    assert report.counts["needless releases"] == 0
    assert report.looked["needless releases"] == 1
