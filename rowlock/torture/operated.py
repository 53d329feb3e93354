"""The tasks of the operating program (rowlock.torture.operator), in queues that it pauses and scales."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal
from uuid import uuid4

from rowlock.errors import StaleAttempt
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.lifecycle import Fail
from rowlock.queue.schedules.schedule import Schedule
from rowlock.torture import testimony
from rowlock.torture.history import End, Note, Start
from rowlock.torture.workload import Answer, app, history

BEAT_SECONDS: Final = 0.1
EXIT_CODE: Final = 78
MEMORY: Final = 1 << 30
"""More memory than a task's process may use in a run (`ROWLOCK_PROCESS_MEMORY_LIMIT`)."""
ALONE: Final = "operate.alone"
"""The schedule with `overlap="skip"`."""
NOW: Final = "operate.now"
"""The schedule that the operating program runs by hand."""


@contextmanager
def written(job: Job, *, worker: int = 0) -> Iterator[Answer]:
    """Log the start and the end of the handler; yield its result."""
    run = uuid4().hex
    how: Literal["return", "error", "fail", "stopped"] = "error"
    history().write(Start(job=job.id, attempt=job.attempt, run=run, task=job.task, worker=worker))
    try:
        with testimony.attempt(job.id, job.attempt, run):
            yield {"run": run}
        how = "return"
    except asyncio.CancelledError:
        how = "stopped"
        raise
    except Fail:
        how = "fail"
        raise
    finally:
        history().write(End(job=job.id, attempt=job.attempt, run=run, how=how))


@app.task(name="operate.answer", queue="operate.answer", max_attempts=2, backoff=0.1)
async def answer(job: Job, how: Literal["return", "late", "error", "fail"], seconds: float) -> Answer:
    """Return or raise with the run's name. `late`: the second attempt returns."""
    with written(job) as given:
        await asyncio.sleep(seconds)
        if how == "error" or (how == "late" and job.errors == 0):
            raise ValueError(f"run {given['run']}")
        if how == "fail":
            raise Fail(f"run {given['run']}")
        return given


@app.task(name="operate.paused", queue="operate.paused")
async def paused(job: Job, seconds: float) -> Answer:
    """Wait in a queue that is paused and resumed."""
    with written(job) as given:
        await asyncio.sleep(seconds)
        return given


@app.task(name="operate.scaled", queue="operate.scaled")
async def scaled(job: Job, seconds: float) -> Answer:
    """Take a while in a queue that is scaled."""
    with written(job) as given:
        await asyncio.sleep(seconds)
        return given


@app.task(name="operate.bulk", queue="operate.bulk", max_attempts=1)
async def bulk(job: Job, *, fails: bool, seconds: float = 0.0, part: str = "a") -> Answer:  # noqa: ARG001  # a filter's
    """Be cancelled, retried or discarded with others, also by the `part`; fail once if `fails`."""
    with written(job) as given:
        await asyncio.sleep(seconds)
        if fails and job.attempt == 1:
            raise ValueError("the first time")
        return given


@app.task(name="operate.bulk_too", queue="operate.bulk", max_attempts=1)
async def bulk_too(job: Job, *, fails: bool, seconds: float = 0.0, part: str = "a") -> Answer:  # noqa: ARG001  # a filter's
    """Be another task in the same queue, which a filter leaves out."""
    with written(job) as given:
        await asyncio.sleep(seconds)
        if fails and job.attempt == 1:
            raise ValueError("the first time")
        return given


@app.task(name="operate.steps", queue="operate.steps", backoff=0.1)
async def steps(job: Job, most: int, errors: int, *, is_silent: bool) -> Answer:
    """Continue from the last checkpoint, report progress, and fail in the middle `errors` times.

    `is_silent`: only the first attempt reports progress.
    """
    with written(job) as given:
        run = given["run"]
        found = await job.load_checkpoint()
        _note(job, run, "found", "" if found is None else found["value"])
        for number in range(0 if found is None else found["number"], most):
            value = f"{run}-{number}"
            if not is_silent or job.attempt == 1:
                _note(job, run, "told", value)
                await job.progress(number / most, value)
            _note(job, run, "saving", value)
            try:
                await job.save_checkpoint({"value": value, "number": number + 1})
            except StaleAttempt:
                _note(job, run, "stale", value)
                raise
            _note(job, run, "saved", value)
            await asyncio.sleep(0.1)
            if number * 2 >= most and job.errors < errors:
                raise ValueError("half-way")
        return given


@app.task(name="operate.again", queue="operate.again")
async def again(job: Job, op: str) -> Answer:  # noqa: ARG001  # the runner reads it from the table
    """Be run again: `op` names the job whose copies they are."""
    with written(job) as given:
        return given


@app.task(name="operate.alone", queue="operate.ticks", schedule=Schedule("*/2 * * * * *", name=ALONE, overlap="skip"))
async def alone(job: Job) -> Answer:
    """Take longer than the schedule's period, while no other job of the schedule may be live."""
    with written(job) as given:
        await asyncio.sleep(2.5)
        return given


@app.task(name="operate.missed", queue="operate.ticks")
async def missed(job: Job) -> Answer:
    """Run for the ticks that schedules have missed."""
    with written(job) as given:
        return given


@app.task(name="operate.now", queue="operate.ticks", schedule=Schedule("0 0 1 1 *", name=NOW))
async def now(job: Job) -> Answer:
    """Run when an operator runs the schedule by hand."""
    with written(job) as given:
        return given


@app.task(name="operate.compute", queue="operate.processes", executor="process")
def compute(job: Job, number: int, seconds: float, *, is_orphan: bool = False) -> dict[str, str]:
    """Compute in a process of its own, which logs that it lives.

    `is_orphan`: the first attempt kills its worker, and must end with it.
    """
    worker = os.getppid()
    with written(job, worker=worker) as given, _beating(job, given["run"]):
        if is_orphan and job.attempt == 1:
            os.kill(worker, signal.SIGKILL)
        threading.Event().wait(seconds)
        return {**given, "square": str(number * number)}


@app.task(name="operate.crash", queue="operate.processes", executor="process", max_attempts=1)
def crash(job: Job, how: Literal["exit", "kill", "memory"]) -> Answer:
    """Crash the task's process, or use more memory than it may. The worker continues."""
    with written(job, worker=os.getppid()) as given:
        if how == "memory":
            bytearray(MEMORY)
            return given
        history().write(End(job=job.id, attempt=job.attempt, run=given["run"], how="error"))  # nothing is written later
        if how == "exit":
            os._exit(EXIT_CODE)
        os.kill(os.getpid(), signal.SIGKILL)
        return given


@contextmanager
def _beating(job: Job, run: str) -> Iterator[None]:
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(BEAT_SECONDS):
            _note(job, run, "beat")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _note(
    job: Job, run: str, what: Literal["found", "saving", "saved", "stale", "told", "beat"], value: str = ""
) -> None:
    history().write(Note(job=job.id, attempt=job.attempt, run=run, what=what, value=value))
