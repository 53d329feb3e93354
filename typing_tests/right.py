"""What an application writes, with its annotations: both type checkers take all of it in strict mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack, assert_type
from uuid import UUID

from rowlock import (
    BoundTask,
    BulkResult,
    CallNext,
    DeadLetterGroup,
    EnqueueOptions,
    Exponential,
    GroupedDeadLetters,
    Job,
    JobFilter,
    JobHandle,
    JobPage,
    LiveWorker,
    LogLine,
    Middleware,
    NewApiKey,
    NewJob,
    Operation,
    Overview,
    Queue,
    QueueRetention,
    RetentionStatus,
    Retry,
    Rowlock,
    Schedule,
    ScheduleChanged,
    Statistics,
    StoredSchedule,
    Task,
    Tasks,
    Tick,
    Unclaimed,
    Unique,
    Worker,
)
from rowlock.testing import assert_enqueued, perform

app = Rowlock(task_defaults={"timeout": 60, "tags": ["shop"]})
library = Tasks(task_defaults={"queue": "library"})
app.include(library)


@dataclass
class Receipt:
    """What a task takes and returns."""

    number: int


# Tasks: an async function, a plain one, one with its job, a batch, with options and without.


@app.task
async def send_email(recipient: str, *, copies: int = 1) -> dict[str, int]:
    """Send an e-mail."""
    return {recipient: copies}


@app.task(queue="reports", max_attempts=3, backoff=Exponential(first=1), expires=timedelta(hours=1), unique="report")
def report(month: int) -> str:
    """Write a report."""
    return f"{month}"


@app.task
async def charge(job: Job, amount: int) -> Receipt:
    """Charge a card."""
    if job.attempt > 3:
        raise Retry(60)
    await job.progress(0.5, "half")
    return Receipt(amount)


@app.task(executor="thread", capture_logs="warning")
def charge_plainly(job: Job, amount: int) -> Receipt:
    """Charge a card, in a thread."""
    return Receipt(job.attempt + amount)


@app.task(batch=100, batch_wait=0.1)
async def index(pages: list[str]) -> list[int] | None:
    """Index pages."""
    return [len(page) for page in pages]


@app.task(batch=10)
def index_with_jobs(jobs: list[Job], pages: list[str]) -> None:
    """Index pages, in a thread, with their jobs."""
    jobs[0].redacted()


@library.task(schedule=["0 3 * * *", timedelta(hours=6), Schedule("@daily", timezone="Europe/Oslo")])
async def clean_up() -> None:
    """Clean up."""


async def calls() -> None:
    """A call is one of the function itself."""
    assert_type(await send_email("ada@example.com", copies=2), dict[str, int])
    assert_type(report(1), str)
    job = await app.get("0199aa5e-7c00-7000-8000-000000000001")
    assert_type(await charge(job, 12), Receipt)
    assert_type(charge_plainly(job, 12), Receipt)
    assert_type(await index(["a", "b"]), list[int] | None)
    index_with_jobs([job], ["a"])
    await clean_up()


def called_by_a_synchronous_test() -> dict[str, int]:
    """A coroutine is a coroutine, and no mere awaitable."""
    return asyncio.run(send_email("ada@example.com"))


async def enqueues() -> None:
    """An enqueue takes what the jobs take, without the job itself, and an item of a batch."""
    assert_type(await send_email.enqueue("ada@example.com", copies=2), JobHandle[dict[str, int]])
    assert_type(await report.enqueue(1), JobHandle[str])
    assert_type(await charge.enqueue(12), JobHandle[Receipt])
    assert_type(await charge_plainly.enqueue(amount=12), JobHandle[Receipt])
    assert_type(await index.enqueue("a"), JobHandle[int])
    assert_type(await index_with_jobs.enqueue("a"), JobHandle[None])
    assert_type(send_email.enqueue_sync("ada@example.com", copies=2), JobHandle[dict[str, int]])
    assert_type(charge.job(12), NewJob[Receipt])

    handle = await charge.enqueue(12)
    assert_type(handle.id, UUID)
    assert_type(await handle.result(timeout=30), Receipt)
    assert_type(handle.result_sync(timedelta(seconds=30)), Receipt)
    assert_type(await handle.get(), Job)
    assert_type(await handle.logs(), list[LogLine])


async def options(connection: object) -> None:
    """Options of one job, for each way of storing it."""
    bound = send_email.using(
        queue="email",
        priority=9,
        delay=60,
        max_attempts=2,
        timeout=timedelta(seconds=5),
        expires=datetime.now(UTC),
        deadline=3600.5,
        unique=Unique(by=["recipient"], on_duplicate="replace", period=60),
        tags=["welcome"],
        metadata={"customer": "42"},
        connection=connection,
    )
    assert_type(await bound.enqueue("ada@example.com"), JobHandle[dict[str, int]])
    assert_type(bound.enqueue_sync("ada@example.com", copies=3), JobHandle[dict[str, int]])
    assert_type(bound.job("ada@example.com"), NewJob[dict[str, int]])
    await send_email.using(run_at=datetime.now(UTC), unique=None).enqueue("ada@example.com")

    assert_type(await app.enqueue("send_email", {"recipient": "ada"}, delay=60, tags=["a"]), JobHandle[Any])
    assert_type(app.enqueue_sync("send_email", {"recipient": "ada"}, queue="email"), JobHandle[Any])
    assert_type(await app.job("send_email", {"recipient": "ada"}, priority=1), NewJob[Any])
    assert_type(await app.enqueue_many(charge.job(n) for n in range(3)), list[JobHandle[Receipt]])
    assert_type(app.enqueue_many_sync([report.using(delay=5).job(1)]), list[JobHandle[str]])


async def enqueue_late(task: Task[[str], dict[str, int]], /, **options: Unpack[EnqueueOptions]) -> JobHandle[Any]:
    """An application's own function with the options of a job."""
    given: EnqueueOptions = {"delay": 3600, **options}
    return await task.using(**given).enqueue("ada@example.com")


async def take_function(
    function: Callable[[int], str], job: Callable[[Job, int], Coroutine[Any, Any, Receipt]]
) -> None:
    """Functions as parameters."""


async def take_tasks(every: Task[..., Any], one: Task[[int], str], some: BoundTask[[int], Receipt]) -> None:
    """Tasks as parameters; `Task[..., Any]` is any."""
    await every.enqueue(1, "two", three=3)
    assert_type(await one.enqueue(1), JobHandle[str])
    assert_type(await some.enqueue(1), JobHandle[Receipt])


async def give_tasks() -> None:
    """Tasks where they, or functions like theirs, are wanted."""
    await take_tasks(send_email, report, charge.using(delay=5))
    await take_function(report, charge)
    known: dict[str, Task[..., Any]] = {"report": report, "charge": charge, "index": index}
    await known["report"].enqueue(1)


async def test_tasks() -> None:
    """Tasks in tests of applications."""
    assert_type(await perform(app, charge, 12), Receipt)
    assert_type(await perform(app, report.using(priority=9), 1), str)
    await assert_enqueued(app, send_email, args={"recipient": "ada@example.com"}, delay=60)


# Parts of the application.


async def jobs() -> None:
    """What is read and done of jobs."""
    page = await app.jobs.list(JobFilter(state="failed", older_than=60), before=None, limit=10)
    assert_type(page, JobPage)
    assert_type(page.following, UUID | None)
    job = await app.jobs.get(page[0].id)
    assert_type(job, Job)
    assert_type(await app.get(str(job.id)), Job)
    assert_type(await app.jobs.logs(job.id), list[LogLine])
    if await app.jobs.cancel(job.id, reason="no more", by="ada") == "requested":
        assert_type(await app.jobs.reschedule(job.id, delay=60, priority=3, queue="bulk", by="ada"), Job)
    await app.jobs.run_now(job.id, by="ada")
    assert_type(await app.jobs.retry(job.id, args={"amount": 12}, by="ada"), Job)
    assert_type(await app.jobs.run_again(job.id, by="ada"), Job)
    assert_type(await app.jobs.discard(job.id, by="ada"), Job)
    await app.jobs.delete(job.id, by="ada")
    which = JobFilter(tag="spring")
    assert_type(await app.jobs.cancel_many(which, reason="over", dry_run=True, by="ada"), BulkResult)
    await app.jobs.reschedule_many(which, run_at=datetime.now(UTC), everything=False)
    await app.jobs.retry_many(which, by="ada")
    await app.jobs.discard_many(which, by="ada")
    assert_type(await app.handle(job.id).result(), Any)
    app.run_sync(app.jobs.cancel(job.id))


async def parts() -> None:
    """What is read and done of everything else."""
    assert_type(await app.dead_letters.list(JobFilter(task="send_email"), limit=5), JobPage)
    groups = await app.dead_letters.groups()
    assert_type(groups, GroupedDeadLetters)
    assert_type(groups[0], DeadLetterGroup)
    assert_type(await app.retention.keep("*", succeeded=timedelta(days=7), failed="forever", by="ada"), QueueRetention)
    assert_type(await app.retention.show(), RetentionStatus)
    assert_type(await app.queues.drain("email", timeout=5, by="ada"), Queue)
    assert_type(await app.queues.list(), list[Queue])
    assert_type(await app.workers.list(), list[LiveWorker])
    await app.workers.quiet("0199aa5e-7c00-7000-8000-000000000001", by="ada")
    assert_type(await app.keys.create("shop", scopes=["read", "enqueue"], expires=3600), NewApiKey)
    assert_type(await app.operations(verb="cancel"), list[Operation])
    assert_type(await app.statistics("24h", queue="email"), Statistics)
    assert_type(await app.overview(), Overview)
    assert_type(await app.unclaimed(), list[Unclaimed])


async def schedules() -> None:
    """Schedules, of the code and as rows."""
    app.schedule(send_email, timedelta(hours=1), name="hourly", args={"recipient": "ada"}, jitter=30)
    made = await app.schedules.create(
        "nightly", "clean_up", "0 3 * * *", timezone="Europe/Oslo", misfire="all", overlap="skip", by="ada"
    )
    assert_type(made, StoredSchedule)
    try:
        await app.schedules.edit("nightly", cron="0 4 * * *", jitter=timedelta(minutes=1), by="ada")
    except ScheduleChanged:
        await app.schedules.pause("nightly")
    assert_type(await app.schedules.run("nightly", by="ada"), JobHandle[Any])
    assert_type(await app.schedules.ticks("nightly"), list[Tick])
    assert_type(await app.schedules.prune(by="ada"), list[str])


# What runs around handlers, and workers.


@app.middleware
async def timing(job: Job, call_next: CallNext) -> object:
    """Run around every attempt."""
    return await call_next()


async def tell(job: Job, call_next: Callable[[], Awaitable[Any]]) -> None:
    """Run around every attempt, with the annotation that `CallNext` stands for."""
    await call_next()


more: Middleware = timing
app.middleware(tell)


@app.lifespan
async def numbers() -> AsyncIterator[int]:
    """Open a number for all handlers."""
    yield 7


@app.on_failure
async def on_any_failure(job: Job, error: BaseException) -> None:
    """Tell of every failure."""


@send_email.on_failure
def on_its_failure(job: Job, error: BaseException) -> None:
    """Tell of a failure of one task."""


async def work(worker: Worker) -> None:
    """Run workers, and stop them."""
    assert_type(numbers.value, int)
    assert_type(app.worker(queues={"email": 20, "tenant-*": None}, concurrency=5), Worker)
    worker.stop()
    worker.stop(grace=5)
    worker.stop(0.5)
    worker.stop(timedelta(seconds=5))
    async with app.worker(queues=["email", "reports:2"]) as running:
        assert_type(running, Worker)
        assert_type(running.id, UUID)
    assert_type(await worker.drain(), int)
