"""The checker of checkpoints and of progress."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rowlock.torture.checks import progress
from rowlock.torture.closing import Shown
from tests.torture.operating import broken, clean, close, note
from tests.torture.story import Job, Story, Worker


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def begin(story: Story, job: Job, found: str = "") -> str:
    story.claim(job)
    run = story.start(job)
    note(story, job, "found", found)
    return run


def save(story: Story, job: Job, value: str, answer: str = "saved", **which: object) -> None:
    note(story, job, "saving", value, **which)  # type: ignore[arg-type]  # attempt and run
    if answer:
        note(story, job, answer, value, **which)  # type: ignore[arg-type]  # attempt and run


def finish(story: Story, job: Job) -> None:
    story.end(job)
    story.succeed(job)


def overtaken(story: Story, job: Job) -> Worker:
    """Freeze the worker in its attempt, and let another one begin the next. Returns the other one."""
    story.fault("freeze", story.worker)
    story.wait(16)
    story.rescue(job)
    other = story.new_worker(12)
    story.claim(job, other)
    story.start(job, other)
    return other


@pytest.mark.parametrize("found, is_broken", [("a", True), ("b", False), ("c", False), ("", True), ("d", True)])
def test_an_attempt_finds_the_last_checkpoint_or_one_without_an_answer(
    story: Story, found: str, *, is_broken: bool
) -> None:
    job = story.enqueue(task="operate.steps")
    begin(story, job)
    save(story, job, "a")
    save(story, job, "b")
    save(story, job, "c", "")
    story.end(job, "error")
    story.again(job, "error")
    begin(story, job, found)
    finish(story, job)
    assert broken(story) == ({progress.CHECKPOINTS} if is_broken else set())


def test_a_process_that_was_frozen_after_it_had_found_a_checkpoint_writes_it_down_late(story: Story) -> None:
    job = story.enqueue(task="operate.steps")
    story.claim(job)
    run = story.start(job)
    other = overtaken(story, job)
    note(story, job, "found", "")
    save(story, job, "b")
    story.fault("freeze", story.workers[0], is_over=True)
    note(story, job, "found", "", attempt=1, run=run)
    story.end(job, "stopped", run=run, attempt=1, worker=story.workers[0])
    story.end(job, worker=other)
    story.succeed(job)
    assert progress.CHECKPOINTS not in broken(story)


def test_a_process_that_was_frozen_after_its_save_writes_it_down_late(story: Story) -> None:
    job = story.enqueue(task="operate.steps")
    run = begin(story, job)
    note(story, job, "saving", "a")
    other = overtaken(story, job)
    note(story, job, "found", "a")
    save(story, job, "b")
    note(story, job, "saved", "a", attempt=1, run=run)
    story.fault("freeze", story.workers[0], is_over=True)
    story.end(job, "stopped", run=run, attempt=1, worker=story.workers[0])
    story.end(job, "error", worker=other)
    story.again(job, "error")
    story.claim(job, other)
    story.start(job, other)
    note(story, job, "found", "b")
    story.end(job, worker=other)
    story.succeed(job)
    assert progress.CHECKPOINTS not in broken(story)


def test_a_stale_attempt_saves_nothing(story: Story) -> None:
    job = story.enqueue(task="operate.steps")
    run = begin(story, job)
    other = overtaken(story, job)
    note(story, job, "found")
    story.fault("freeze", story.worker, is_over=True)
    save(story, job, "a", "stale", attempt=1, run=run)
    story.end(job, "stopped", run=run, attempt=1)
    story.end(job, worker=other)
    story.succeed(job)
    assert clean(story).looked[f"{progress.CHECKPOINTS}: refused to a stale attempt"] == 1
    save(story, job, "b", "saved", attempt=1, run=run)
    assert broken(story) == {progress.CHECKPOINTS}


def told_twice(story: Story) -> Job:
    job = story.enqueue(task="operate.steps")
    for number in range(2):
        begin(story, job)
        note(story, job, "told", f"{number}-first")
        note(story, job, "told", f"{number}-last")
        story.end(job, "return" if number else "error")
        if not number:
            story.again(job, "error")
    story.succeed(job)
    return job


@pytest.mark.parametrize(
    "message, attempt, is_broken",
    [
        ("1-last", 2, False),
        ("1-first", 2, True),  # not the last word
        ("0-last", 1, True),  # an older attempt's
        ("1-last", 1, True),  # under another number
        ("nobody's", 2, True),
    ],
)
def test_the_last_progress_is_the_last_that_the_last_attempt_told(
    story: Story, message: str, attempt: int, *, is_broken: bool
) -> None:
    job = told_twice(story)
    close(story, shown=[Shown(job=job.id, attempt=attempt, message=message)])
    assert broken(story) - {"statistics"} == ({progress.PROGRESS} if is_broken else set())


def test_progress_may_be_lost_with_the_server(story: Story) -> None:
    story.fault("server")
    job = told_twice(story)
    story.fault("server", is_over=True)
    close(story, shown=[Shown(job=job.id, attempt=1, message="0-last")])
    assert broken(story) - {"statistics"} == set()


def test_progress_may_be_lost_with_its_worker(story: Story) -> None:
    job = told_twice(story)
    story.ended(story.worker)
    close(story, shown=[Shown(job=job.id, attempt=2, message="1-first")])
    assert broken(story) - {"statistics"} == set()


def test_progress_that_its_worker_says_it_could_not_write_may_be_lost(story: Story) -> None:
    job = told_twice(story)
    line = {"event": "end_of_attempt_not_written", "worker": str(story.worker.id), "job_id": str(job.id)}
    (story.folder / "worker-11.log").write_text(json.dumps(line) + "\n")
    close(story, shown=[Shown(job=job.id, attempt=2, message="1-first")])
    assert broken(story) - {"statistics"} == set()
