"""The application under test: tasks of every kind, whose handlers log when they start and end.

`rowlock worker rowlock.torture.workload:app` runs them, with the history's folder in ROWLOCK_TORTURE_FOLDER and the
process's name in the run in ROWLOCK_TORTURE_NAME.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NoReturn
from uuid import uuid4

from rowlock.app import Rowlock
from rowlock.queue.enqueue.errors import EnqueueUnknown
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.lifecycle import Cancel, Fail, Retry, Snooze
from rowlock.queue.schedules.schedule import Schedule
from rowlock.torture import process_tasks, testimony
from rowlock.torture.evidence import TIMED, TIMEOUT
from rowlock.torture.history import End, Enqueue, Enqueued, History, Stall, Start, Wanted

TICK_SECONDS: Final = 2
POISON_EXIT: Final = 77
POISON_QUEUE: Final = "poison"
"""The queue of jobs that harm their worker: a worker that lives for the whole run does not serve it."""
POISONED: Final = (POISON_EXIT, -signal.SIGSEGV, -signal.SIGKILL, -signal.SIGABRT)
"""How a process may end that ran a poison job."""
STALL_SECONDS: Final = 0.5
"""The shortest stall of a process that counts."""
FLAKY_BACKOFF: Final = 0.2
LEAST_JITTER: Final = 0.89
"""The share of a backoff that its jitter leaves, and a little less."""
ORDERED: Final = "ordered"
"""The queue in which bursts of jobs of mixed priority wait for few slots."""
ORDERED_SLOTS: Final = 2

Answer = dict[str, str]
app = Rowlock()
_effects: Final = testimony.Effects()


@lru_cache
def history() -> History:
    """The history of this process."""
    opened = History(Path(os.environ["ROWLOCK_TORTURE_FOLDER"]), os.environ["ROWLOCK_TORTURE_NAME"])
    threading.Thread(target=_watch_the_time, args=(opened,), name="torture-stalls", daemon=True).start()
    return opened


def queues(*, but: Collection[str] = ()) -> str:
    """Return the queues of all tasks but these, in the form of `--queues`, with the limit of the ordered one."""
    names = sorted({task.queue for task in app.tasks.values()} - {ORDERED, *but})
    return ",".join([*names, f"{ORDERED}:{ORDERED_SLOTS}"])


def _block(seconds: float) -> None:
    """Block the thread. Not with time.sleep(): with a wrong clock by libfaketime, it fails."""
    threading.Event().wait(seconds)


def _watch_the_time(opened: History) -> None:
    """Log stalls of this process."""
    last = time.monotonic()
    while True:
        _block(0.1)
        now = time.monotonic()
        if now - last > STALL_SECONDS:
            opened.write(Stall(seconds=now - last))
        last = now


@contextmanager
def _written(
    job: Job, *, is_stubborn: bool = False, backoff: float = 0.0, content: int | None = None, takes: float = 0.0
) -> Iterator[Answer]:
    """Log the start and the end of the handler; yield its result.

    `backoff` is how many seconds the job waits after an error, without its jitter; `content` is the handler's argument.
    """
    run = uuid4().hex
    how: Literal["return", "error", "snooze", "fail", "cancel", "stopped"] = "error"
    delay, longest = LEAST_JITTER * backoff, backoff
    history().write(
        Start(
            job=job.id,
            attempt=job.attempt,
            run=run,
            task=job.task,
            is_stubborn=is_stubborn,
            content=content,
            takes=takes,
        )
    )
    try:
        with testimony.attempt(job.id, job.attempt, run):
            yield {"run": run}
        how = "return"
    except asyncio.CancelledError:
        how = "stopped"
        raise
    except Retry as directive:
        delay = longest = directive.delay.total_seconds()
        raise
    except Snooze as directive:
        how, delay = "snooze", directive.delay.total_seconds()
        longest = delay
        raise
    except Fail:
        how = "fail"
        raise
    except Cancel:
        how = "cancel"
        raise
    finally:
        history().write(End(job=job.id, attempt=job.attempt, run=run, how=how, delay=delay, longest=longest))


async def _insert_effect(job: Job, answer: Answer) -> None:
    """Insert the effect of some jobs of some tasks, for the witness."""
    dsn = os.environ["ROWLOCK_DATABASE_URL"]
    await _effects.insert(dsn, job.task, job.id, job.attempt, answer["run"])


@app.task(name="torture.quick")
async def quick(job: Job) -> Answer:
    """Return at once."""
    with _written(job) as answer:
        await _insert_effect(job, answer)
        return answer


@app.task(name="torture.slow", queue="slow")
async def slow(job: Job, seconds: float) -> Answer:
    """Take a while; it can be cancelled."""
    with _written(job, takes=seconds) as answer:
        await asyncio.sleep(seconds)
        return answer


@app.task(name="torture.ordered", queue=ORDERED)
async def ordered(job: Job, seconds: float) -> Answer:
    """Wait with many others for a slot, in the order of their priorities."""
    with _written(job) as answer:
        await asyncio.sleep(seconds)
        return answer


@app.task(name="torture.flaky", backoff=FLAKY_BACKOFF)
async def flaky(job: Job, errors: int, nasty: str = "") -> Answer:
    """Raise so many errors, of the `nasty` kind if given, and then succeed."""
    with _written(job, backoff=FLAKY_BACKOFF * 2**job.errors) as answer:
        if job.errors < errors:
            raise _nasty(nasty)
        await _insert_effect(job, answer)
        return answer


@app.task(name="torture.batch", batch=20, batch_wait=0.05, backoff=0.2)
async def batch(jobs: list[Job], errors: list[int]) -> list[Answer | BaseException]:
    """Handle many jobs in one call; each raises so many errors, and then succeeds."""

    async def each(job: Job, most: int) -> Answer:
        with _written(job) as answer:
            await asyncio.sleep(0.02)
            if job.errors < most:
                raise ValueError("not yet")
            await _insert_effect(job, answer)
            return answer

    pairs = zip(jobs, errors, strict=True)
    return await asyncio.gather(*(each(job, most) for job, most in pairs), return_exceptions=True)


@app.task(name="torture.versioned", version=2)
async def versioned(job: Job, new: int) -> Answer:  # noqa: ARG001  # the second version of the arguments has it
    """Have arguments of the second version."""
    with _written(job) as answer:
        return answer


@app.task(name=TIMED, queue="slow", timeout=TIMEOUT, backoff=0.1)
async def timed(job: Job, seconds: float) -> Answer:
    """Take so many seconds at the first attempt, perhaps more than the task's timeout."""
    with _written(job) as answer:
        await asyncio.sleep(seconds if job.errors == 0 else 0.0)
        return answer


@app.task(name="torture.latest", queue="slow")
async def latest(job: Job, content: int) -> Answer:
    """Get the last content: enqueued with a key until its start, it replaces its waiting job."""
    with _written(job, content=content) as answer:
        return answer


@app.task(name="torture.doomed", max_attempts=2, backoff=0.1)
async def doomed(job: Job) -> Answer:
    """Never succeed: become a dead letter, which operators may retry."""
    with _written(job):
        raise ValueError("as always")


@app.task(name="torture.directed")
async def directed(job: Job, by: Literal["snooze", "retry", "fail", "cancel"]) -> Answer:
    """Decide its own outcome."""
    with _written(job) as answer:
        if by == "fail":
            raise Fail("on purpose")
        if by == "cancel":
            raise Cancel("on purpose")
        if by == "snooze" and job.attempt == 1:
            raise Snooze(0.3)
        if by == "retry" and job.errors == 0:
            raise Retry(0.3)
        return answer


@app.task(name="torture.thread")
def in_a_thread(job: Job, seconds: float) -> Answer:
    """Be a plain function, which cannot be stopped."""
    with _written(job, is_stubborn=True) as answer:
        _block(seconds)
        return answer


@app.task(name="torture.blocks", queue=POISON_QUEUE)
async def blocks(job: Job, seconds: float) -> Answer:
    """Block the event loop of the whole worker."""
    with _written(job, is_stubborn=True) as answer:
        _block(seconds)
        return answer


@app.task(name="torture.exactly_once")
async def exactly_once(job: Job) -> None:
    """Insert an effect, and enqueue a job, in the transaction that records the success."""
    with _written(job) as answer:
        child = quick.job()
        op = f"{answer['run']}-child"
        async with job.transaction() as connection:
            await connection.execute(
                "INSERT INTO rowlock_audit.effect VALUES ($1, $2, $3)", job.id, job.attempt, answer["run"]
            )
            await connection.execute(testimony.EFFECT, job.id, job.attempt, answer["run"])
            testimony.note("asked", [child.id])
            history().write(Enqueue(op=op, how="handler", jobs=[Wanted(id=child.id, task=child.task)]))
            await app.enqueue_many([child], connection=connection)
            job.set_result(answer)
        history().write(Enqueued(op=op, outcome="stored"))
        testimony.note("stored", [child.id])


@app.task(name="torture.parent")
async def parent(job: Job) -> Answer:
    """Enqueue a job from a handler, like any client."""
    with _written(job) as answer:
        child = quick.job()
        history().write(Enqueue(op=answer["run"], how="handler", jobs=[Wanted(id=child.id, task=child.task)]))
        testimony.note("asked", [child.id])
        try:
            await app.enqueue_many([child])
        except EnqueueUnknown:
            history().write(Enqueued(op=answer["run"], outcome="unknown"))
            raise
        history().write(Enqueued(op=answer["run"], outcome="stored"))
        testimony.note("stored", [child.id])
        return answer


@app.task(name="torture.http")
async def over_http(job: Job, op: str) -> Answer:  # noqa: ARG001  # the runner reads it from the table
    """Be enqueued by HTTP requests that are repeated until they are answered: `op` names the request."""
    with _written(job) as answer:
        return answer


@app.task(name="torture.http_many")
async def many_over_http(job: Job, op: str, of: int) -> Answer:  # noqa: ARG001  # the runner reads them from the table
    """Be enqueued with others by one HTTP request: `op` is the request, `of` its number of jobs."""
    with _written(job) as answer:
        return answer


@app.task(name="torture.poison", queue=POISON_QUEUE)
async def poison(job: Job, how: Literal["exit", "segfault", "kill", "abort"]) -> NoReturn:
    """Take the whole process down."""
    with _written(job):
        match how:
            case "exit":
                os._exit(POISON_EXIT)
            case "segfault":
                ctypes.string_at(0)
            case "kill":  # as the kernel does when memory runs out
                os.kill(os.getpid(), signal.SIGKILL)
            case "abort":
                os.abort()
        raise AssertionError("still alive")


@app.task(name="torture.tick", schedule=Schedule(f"*/{TICK_SECONDS} * * * * *", name="torture.tick", misfire="all"))
async def tick(job: Job) -> Answer:
    """Run for a schedule, once a tick."""
    with _written(job) as answer:
        return answer


process = process_tasks.declare(app)


class Unprintable(Exception):
    """An error that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("not even its text")


NASTY: Final = ("", "nul", "surrogate", "huge", "unprintable")


def _nasty(kind: str) -> Exception:
    match kind:
        case "nul":
            return ValueError("a \x00 in the text")
        case "surrogate":
            return ValueError("a lone \ud800 in the text")
        case "huge":
            return ValueError("x" * 300_000)
        case "unprintable":
            return Unprintable()
        case _:
            return ValueError("not yet")


if os.environ.get("ROWLOCK_TORTURE_NAME", "").startswith("worker"):
    history()  # a worker logs stalls from its first moment on
