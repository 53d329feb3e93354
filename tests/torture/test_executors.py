"""The checker of tasks in processes."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from rowlock.torture.checks import executors, results
from rowlock.torture.history import Fault, Start
from tests.torture.operating import broken, call, clean, note
from tests.torture.story import NEMESIS, Job, Story

COMPUTE = "operate.compute"
CHILD = 99


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def begin(story: Story, task: str) -> Job:
    job = story.enqueue(task=task, max_attempts=1 if task == executors.CRASH else 10)
    story.claim(job)
    job.run = uuid4().hex
    event = Start(job=job.id, attempt=job.attempt, run=job.run, task=task, worker=story.worker.pid)
    story.tell(event, by=story.worker.name, pid=CHILD)
    return job


@pytest.mark.parametrize("square, is_broken", [("49", False), ("50", True)])
def test_the_result_of_a_process_is_what_it_computed(story: Story, square: str, *, is_broken: bool) -> None:
    job = begin(story, COMPUTE)
    story.end(job)
    story.succeed(job)
    said = {"result": {"run": job.run, "square": square}}
    call(story, "result", jobs=[job], about={"timeout": 20, "square": "49"}, said=said)
    assert broken(story) == ({results.RULE} if is_broken else set())


@pytest.mark.parametrize(
    "how, error, is_broken",
    [
        ("kill", "ProcessEnded: The process of the task ended by SIGKILL before the task was done.", False),
        ("kill", "ProcessEnded: The process of the task ended by SIGSEGV before the task was done.", True),
        ("exit", "ProcessEnded: The process of the task ended with exit code 78 before the task was done.", False),
        ("exit", "EOFError", True),
        ("memory", "MemoryError: the process may take 512 MiB", False),
        ("memory", "WorkerGone", True),
    ],
)
def test_a_crash_is_told_as_documented(story: Story, how: str, error: str, *, is_broken: bool) -> None:
    job = begin(story, executors.CRASH)
    story.end(job, "error")
    story.fail(job)
    call(story, "result", jobs=[job], about={"timeout": 20, "how": how}, said={"state": "failed", "error": error})
    report = story.check()
    assert {violation.rule for violation in report.violations} == ({executors.RULE} if is_broken else set())
    assert report.looked[f"{executors.RULE}: {how}"] == 1


@pytest.mark.parametrize(
    "ran, killed, is_broken",
    [(True, CHILD, False), (True, CHILD + 1, True), (False, CHILD, False), (False, None, True)],
)
def test_a_process_that_a_fault_ends_first_is_told_as_killed(
    story: Story, killed: int | None, *, ran: bool, is_broken: bool
) -> None:
    if ran:
        job = begin(story, executors.CRASH)
    else:
        job = story.enqueue(task=executors.CRASH, max_attempts=1)
        story.claim(job)
    story.tell(Fault(kind="kill", process=killed or story.new_worker(12).pid), by=NEMESIS)
    story.fail(job)
    said = {"state": "failed", "error": "ProcessEnded: The process of the task ended by SIGKILL before it was done."}
    call(story, "result", jobs=[job], about={"timeout": 20, "how": "memory"}, said=said)
    assert (executors.RULE in broken(story)) == is_broken


def test_a_crash_that_did_not_happen_is_seen(story: Story) -> None:
    job = begin(story, executors.CRASH)
    story.end(job)
    story.succeed(job)
    call(story, "result", jobs=[job], about={"timeout": 20, "how": "memory"}, said={"result": {"run": job.run}})
    assert broken(story) == {executors.RULE}


def test_a_process_ends_with_its_worker(story: Story) -> None:
    job = begin(story, COMPUTE)
    note(story, job, "beat", pid=CHILD)
    worker, other = story.worker, story.new_worker(12)
    story.kill(worker)
    story.wait(16)
    story.rescue(job)
    story.run(job, worker=other)
    assert clean(story).looked[f"{executors.RULE}: their worker died"] == 1


def test_a_process_that_outlives_its_worker_is_seen(story: Story) -> None:
    job = begin(story, COMPUTE)
    run = job.run
    worker, other = story.worker, story.new_worker(12)
    story.kill(worker)
    story.wait(16)
    note(story, job, "beat", run=run, pid=CHILD)
    story.rescue(job)
    story.run(job, worker=other)
    assert broken(story) == {executors.RULE}
