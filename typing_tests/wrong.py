"""What an application must not write: both type checkers refuse each line that is marked, and nothing else.

The marks are checked both ways: a line that is taken by mistake has a mark too many, which is an error for both.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from rowlock import CallNext, EnqueueOptions, Job, JobHandle, Middleware, NewJob, Rowlock, Task, Worker

app = Rowlock()


@app.task
async def send_email(recipient: str, *, copies: int = 1) -> dict[str, int]:
    """Send an e-mail."""
    return {recipient: copies}


@app.task
def report(month: int) -> str:
    """Write a report."""
    return f"{month}"


@app.task
async def charge(job: Job, amount: int) -> int:
    """Charge a card."""
    return amount


@app.task(batch=10)
async def index(pages: list[str]) -> list[int]:
    """Index pages."""
    return [len(page) for page in pages]


async def calls(job: Job) -> None:
    """A call is one of the function itself."""
    await send_email(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send_email("ada", cpoies=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await send_email()  # type: ignore[call-arg, misc]  # pyright: ignore[reportCallIssue]
    await report(1)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    report("January")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await charge(12)  # type: ignore[arg-type, call-arg, misc]  # pyright: ignore[reportCallIssue]
    await charge(job, "12")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await index("a page")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await send_email("ada"), str)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]


async def enqueues() -> None:
    """An enqueue takes what the jobs take, and no options."""
    await send_email.enqueue(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send_email.enqueue("ada", delay=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await send_email.enqueue("ada", "bob")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    await report.enqueue()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await charge.enqueue("12")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await index.enqueue(["a page"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await send_email.enqueue("ada"), JobHandle[str])  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]


def enqueues_of_synchronous_programs() -> None:
    """As in asynchronous ones."""
    send_email.enqueue_sync(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send_email.enqueue_sync("ada", delay=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    report.enqueue_sync()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send_email.using(delay=60).enqueue_sync(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send_email.using(delay=60).enqueue_sync("ada", copies="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.enqueue_sync("send_email", {"recipient": "ada"}, dleay=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.enqueue_sync("send_email", {"recipient": "ada"}, priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.enqueue_sync("send_email", ["ada"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.enqueue_sync(send_email, {"recipient": "ada"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.enqueue_many_sync(["send_email"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def made_jobs() -> None:
    """A job that is made takes what an enqueue takes."""
    send_email.job(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    report.job(month="January")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send_email.using(delay=60).job(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(report.job(1), NewJob[int])  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
    await app.job("send_email", ["ada"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.job("send_email", {"recipient": "ada"}, dleay=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.job(send_email)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.enqueue_many([await send_email.enqueue("ada")])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def options() -> None:
    """Only the options of a job, each of its type."""
    send_email.using(dleay=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send_email.using(retries=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send_email.using(delay="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send_email.using(run_at=60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send_email.using(priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send_email.using(tags=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    send_email.using(metadata={"customer": 42})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    send_email.using(60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await send_email.using(delay=60).enqueue(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.enqueue("send_email", {"recipient": "ada"}, dleay=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.enqueue("send_email", {"recipient": "ada"}, queue=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.enqueue("send_email", {1: "ada"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    given: EnqueueOptions = {"dleay": 60}  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportAssignmentType]
    given["priority"] = "high"  # type: ignore[typeddict-item]  # pyright: ignore[reportGeneralTypeIssues]


def declared() -> None:
    """Only the options of a task."""

    @app.task(max_retries=3)  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
    def one() -> None: ...

    @app.task(timeout="60")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
    def two() -> None: ...

    @app.task(batch=10)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
    def three(page: str) -> None: ...

    @app.task(executor="coroutine")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
    def four() -> None: ...

    Rowlock(task_defaults={"max_retries": 3})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def taken(task: Task[[str], str], every: Task[[int], str]) -> None:
    """A task is what its annotation says."""
    await task.enqueue(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await taken(report, report)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    function: Callable[[str], str] = report  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    function("January")


async def jobs(handle: JobHandle[int]) -> None:
    """What is read and done of jobs."""
    await app.cancel(handle.id)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await app.jobs()  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    await app.jobs.cancel()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.jobs.cancel(handle)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.jobs.cancel(handle.id, "no more")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.jobs.cancel(handle.id, operator="ada")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.jobs.cancel_many(state="failed")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.jobs.retry(handle.id, args=["ada"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.jobs.reschedule(handle.id, delay="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.jobs.list("failed")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.jobs.list(state="failed")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.jobs.get(handle)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.jobs.delete(handle.id, args={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(await handle.result(), str)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
    await handle.result(timeout="30")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def parts() -> None:
    """What is read and done of everything else."""
    await app.dead_letters()  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    await app.dead_letters.list(limit="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.retention.keep("*", succeeded="a week")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.retention.keep("*", done=timedelta(days=7))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.retention.keep("*", succeeded=datetime(2030, 1, 31, tzinfo=UTC))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.queues.pause()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.queues.drain("email", timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.keys.create("shop", scopes=["write"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await app.workers.stop(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def schedules() -> None:
    """Schedules, of the code and as rows."""
    app.schedule(send_email, 3600)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.schedule(send_email, "@hourly", args=["ada"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.schedule(send_email, "@hourly", misfire="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.create("nightly", send_email, "0 3 * * *")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.create("nightly", "send_email", "0 3 * * *", overlap="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.edit("nightly", corn="0 4 * * *")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.schedules.edit("nightly", jitter="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.delete()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@app.middleware  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
def not_async(job: Job, call_next: CallNext) -> object:
    """Run around every attempt."""
    return call_next()


@app.middleware  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
async def without_next(job: Job) -> object:
    """Run around every attempt."""
    return job.id


@app.middleware  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
async def with_arguments(job: Job, call_next: Callable[[Job], Any]) -> object:
    """Run around every attempt."""
    return await call_next(job)


more: Middleware = without_next  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


@app.on_failure  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
def without_error(job: Job) -> None:
    """Tell of every failure."""


def work(worker: Worker) -> None:
    """Run workers, and stop them."""
    worker.stop(grace="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    worker.stop(grace=datetime(2030, 1, 31, tzinfo=UTC))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    worker.stop(5, 6)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.worker(queues={"email": "20"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    app.worker(concurrency="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.worker(processes=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
