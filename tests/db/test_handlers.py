"""What may be a handler: whatever its form its body runs, and a result whose body did not run is an error."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from rowlock import CallNext, Cancel, Fail, InvalidOption, Job, Rowlock, Settings, Snooze
from tests import process_tasks

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    async with Rowlock(database_url) as opened:
        yield opened


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain wrapper, as many decorators make it."""

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


def bridged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper that runs the coroutine itself, which works only in a thread."""

    @functools.wraps(function)
    def wrapper(*args: object) -> object:
        return asyncio.run(function(*args))

    return wrapper


class Handler:
    def __init__(self, ran: list[int]) -> None:
        self.ran = ran

    async def __call__(self, number: int) -> int:
        await asyncio.sleep(0)
        self.ran.append(number)
        return number


class Generating:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize("options", [{"result_ttl": 0}, {}], ids=["no result kept", "result kept"])
@pytest.mark.parametrize("form", ["wrapped", "bridged", "object", "partial"])
async def test_the_body_of_an_async_handler_runs_whatever_its_form(
    app: Rowlock, form: str, options: dict[str, Any]
) -> None:
    ran: list[int] = []

    async def handle(number: int) -> int:
        await asyncio.sleep(0)
        ran.append(number)
        return number

    forms = {
        "wrapped": wrapped(handle),
        "bridged": bridged(handle),
        "object": Handler(ran),
        "partial": functools.partial(handle),
    }
    task = app.task(name="handle", max_attempts=1, **options)(forms[form])
    handle_of_job = await task.enqueue(7)
    await app.worker().drain()
    assert ran == [7]
    assert await handle_of_job.result(timeout=5) == (7 if not options else None)


async def test_a_wrapped_async_handler_of_a_process_runs(app: Rowlock) -> None:
    handle = await app.task(executor="process")(process_tasks.wrapped_sum).enqueue(2, 3)
    await app.worker().drain()
    assert await handle.result(timeout=5) == 5


async def test_a_wrapped_async_handler_of_a_batch_runs(app: Rowlock) -> None:
    async def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    handle = await app.task(batch=2)(wrapped(double)).enqueue(4)
    await app.worker().drain()
    assert await handle.result(timeout=5) == 8


async def test_a_wrapped_async_handler_that_takes_too_long_is_stopped(app: Rowlock) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    handle = await app.task(max_attempts=1, timeout=0.05)(wrapped(forever)).enqueue()
    await app.worker().drain()
    assert "timeout of 0.05 s" in str((await app.get(handle.id)).error)


@pytest.mark.parametrize("executor", ["loop", "thread"])
@pytest.mark.parametrize("result_ttl", [0, None])
async def test_a_generator_or_coroutine_as_a_result_fails_the_attempt(
    app: Rowlock, executor: str, result_ttl: int | None
) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def forgets() -> object:
        return numbers() if executor == "loop" else None

    def plain() -> object:
        return numbers()

    task = app.task(name="numbers", max_attempts=1, result_ttl=result_ttl)(forgets if executor == "loop" else plain)
    handle = await task.enqueue()
    await app.worker().drain()
    found = await app.get(handle.id)
    assert (found.state, "generator" in str(found.error)) == ("failed", True)


async def test_a_coroutine_that_an_async_handler_forgot_to_await_fails_the_attempt(app: Rowlock) -> None:
    async def inner() -> None: ...

    @app.task(max_attempts=1, result_ttl=0)
    async def forgets() -> object:
        return inner()

    handle = await forgets.enqueue()
    await app.worker().drain()
    assert "`coroutine`, whose body has not run" in str((await app.get(handle.id)).error)


@pytest.mark.parametrize("result_ttl", [None, 0])
@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.parametrize("form", ["context manager", "async context manager", "partial", "map", "object", "large"])
async def test_a_result_that_cannot_be_stored_fails_the_attempt_though_it_is_not_to_be_stored(
    form: str, *, is_wrapped: bool, result_ttl: int | None, settings: Settings
) -> None:
    ran: list[str] = []

    @contextmanager
    def manager() -> Iterator[None]:
        ran.append(form)
        yield

    @asynccontextmanager
    async def async_manager() -> AsyncIterator[None]:
        ran.append(form)
        yield

    forms: dict[str, Callable[[], object]] = {
        "context manager": manager,
        "async context manager": async_manager,
        "partial": lambda: partial(ran.append, form),
        "map": lambda: map(ran.append, [form]),
        "object": object,
        "large": lambda: "x" * (settings.max_result_bytes + 1),
    }
    async with Rowlock(settings=settings) as app:
        if is_wrapped:
            app.middleware(call_on)
        task = app.task(name="forgets", max_attempts=1, result_ttl=result_ttl)(forms[form])
        handle = await task.enqueue()
        await app.worker().drain()
        found = await app.get(handle.id)
        assert (found.state, "The result" in str(found.error), ran) == ("failed", True, [])


async def call_on(_: Job, call_next: CallNext) -> object:
    return await call_next()


async def test_a_wrapped_async_failure_handler_is_awaited(app: Rowlock) -> None:
    told: list[str] = []

    @app.task(max_attempts=1)
    async def fails() -> None:
        raise ValueError("no")

    async def tell(job: Job, error: BaseException) -> None:
        told.append(f"{job.task}: {error}")

    class Teller:
        async def __call__(self, job: Job, error: BaseException) -> None:
            await tell(job, error)

    app.on_failure(wrapped(tell))
    app.on_failure(Teller())
    await fails.enqueue()
    await app.worker().drain()
    assert told == ["fails: no"] * 2


async def test_an_object_with_an_async_call_is_a_middleware(app: Rowlock) -> None:
    class Counting:
        seen = 0

        async def __call__(self, _job: Job, call_next: Callable[[], Awaitable[Any]]) -> object:
            self.seen += 1
            return await call_next()

    counting = app.middleware(Counting())

    @app.task
    async def nothing() -> None: ...

    await nothing.enqueue()
    await app.worker().drain()
    assert counting.seen == 1


def generates() -> Iterator[int]:
    yield 1


async def generates_asynchronously() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generates, generates_asynchronously, Generating(), functools.partial(generates)])
def test_a_generator_is_refused_when_the_task_is_defined(function: Callable[[], object]) -> None:
    app = Rowlock("postgresql://nowhere")
    with pytest.raises(InvalidOption, match=r"A task must be a function that returns; got the generator .*yield"):
        app.task(name="task")(function)
    assert not app.tasks


def test_a_generator_is_no_failure_handler() -> None:
    def tells(_job: Job, _error: BaseException) -> Iterator[int]:
        yield 1

    with pytest.raises(InvalidOption, match=r"on_failure must be a function that returns; got the generator .*tells"):
        Rowlock("postgresql://nowhere").on_failure(tells)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_that_took_longer_than_its_timeout_has_timed_out_although_it_returned(
    app: Rowlock, is_async: bool
) -> None:
    def blocks() -> str:
        began = time.monotonic()
        while time.monotonic() - began < 0.06:
            pass
        return "done"

    async def blocks_the_loop() -> str:
        return blocks()

    task = app.task(name="blocks", timeout=0.05, max_attempts=1)(blocks_the_loop if is_async else blocks)
    handle = await task.enqueue()
    await app.worker().drain()
    found = await app.get(handle.id)
    assert (found.state, "timeout of 0.05 s" in str(found.error)) == ("failed", True)


async def raise_in_finally() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ConnectionError("the other side has closed already")


async def raise_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(raise_in_finally())


async def raise_instead() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise TimeoutError("cut off") from None


@pytest.mark.parametrize("why", ["shutdown", "lease"])
@pytest.mark.parametrize("body", [raise_in_finally, raise_in_a_group, raise_instead])
async def test_whatever_a_handler_raises_while_it_is_stopped_its_job_is_given_back(
    body: Callable[[], Awaitable[None]], why: str, app: Rowlock, connection: Connection
) -> None:
    began = asyncio.Event()

    @app.task(max_attempts=1)
    async def work() -> None:
        began.set()
        await body()

    async with app.worker() as worker:
        handle = await work.enqueue()
        await began.wait()
        (attempt,) = worker._shift.slots.running
        if why == "lease":
            worker.stop()  # it does not take its job up again
            attempt.lease.is_cut_off = True
            worker._shift.slots.stop("lease")
        else:
            worker.stop(0)
    row = await connection.fetchrow("SELECT state, errors, crashes FROM rowlock.job WHERE id = $1", handle.id)
    assert row is not None
    assert tuple(row) == ("queued", 0, 0)


@pytest.mark.parametrize(
    "said, state, errors",
    [("done", "succeeded", 0), (Cancel("no"), "cancelled", 0), (Fail("no"), "failed", 1), (Snooze(60), "queued", 0)],
)
async def test_what_a_handler_says_or_decides_while_it_is_stopped_stands(
    said: object, state: str, errors: int, app: Rowlock
) -> None:
    began = asyncio.Event()

    @app.task(max_attempts=2)
    async def work() -> object:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if isinstance(said, Exception):
                raise said from None
        return said

    async with app.worker() as worker:
        handle = await work.enqueue()
        await began.wait()
        worker.stop(0)
    job = await handle.get()
    assert (job.state.replace("scheduled", "queued"), job.errors) == (state, errors)
