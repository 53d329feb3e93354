"""Traces: a span for each enqueue, one for each attempt below it, and nothing of the arguments in any."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp.test_utils import TestClient, TestServer
from asyncpg import Connection, Record
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from rowlock import Cancel, DuplicateJob, InvalidOption, Rowlock, Settings, Snooze, Unique, logs
from rowlock.api import create_app
from rowlock.api.access.access import nobody_is_asked
from rowlock.integrations.opentelemetry import instrument
from tests import process_tasks

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()
    logs.trace_ids = None


@pytest.fixture
def tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("tests")


@pytest.fixture
async def app(settings: Settings, provider: TracerProvider) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        instrument(app, tracer_provider=provider)
        yield app


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def one(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = named(exporter, name)
    return span


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    context = parent.context
    return (
        span.parent is not None
        and context is not None
        and (span.parent.trace_id, span.parent.span_id) == (context.trace_id, context.span_id)
    )


async def test_an_attempt_is_a_child_of_the_enqueue_which_is_one_of_the_request(
    app: Rowlock, exporter: InMemorySpanExporter, tracer: Tracer
) -> None:
    @app.task(queue="mail")
    async def send(_to: str) -> None:
        assert trace.get_current_span().get_span_context().is_valid

    with tracer.start_as_current_span("request"):
        handle = await send.enqueue("ada@example.com")
    await app.worker().drain()
    request, enqueue, attempt = one(exporter, "request"), one(exporter, "enqueue send"), one(exporter, "process send")
    assert is_child(enqueue, request)
    assert is_child(attempt, enqueue)
    assert (enqueue.kind, attempt.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert told(enqueue) == {
        "messaging.system": "rowlock",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": str(handle.id),
        "rowlock.task": "send",
    }
    assert told(attempt) == {
        "messaging.system": "rowlock",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "messaging.message.id": str(handle.id),
        "rowlock.task": "send",
        "rowlock.attempt": 1,
        "rowlock.outcome": "succeeded",
    }


async def test_retries_are_spans_of_the_same_trace_and_tell_errors_by_their_type_alone(
    app: Rowlock, exporter: InMemorySpanExporter
) -> None:
    @app.task(max_attempts=3, backoff=[0, 0])
    async def charge(card: str) -> None:
        raise ValueError(f"the card {card} is no good")

    await charge.enqueue("4111-1111")
    await app.worker().drain()
    enqueue, attempts = one(exporter, "enqueue charge"), named(exporter, "process charge")
    assert [told(span)["rowlock.attempt"] for span in attempts] == [1, 2, 3]
    assert all(is_child(span, enqueue) for span in attempts)
    assert {span.status.status_code for span in attempts} == {StatusCode.ERROR}
    assert {(told(span)["error.type"], told(span)["rowlock.outcome"]) for span in attempts} == {("ValueError", "error")}
    assert "4111" not in "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_what_a_handler_decides_is_an_outcome_and_no_error(app: Rowlock, exporter: InMemorySpanExporter) -> None:
    @app.task
    async def decide(how: str) -> Snooze | Cancel:
        return Snooze(3600) if how == "snooze" else Cancel("no need")

    for how in ("snooze", "cancel"):
        await decide.enqueue(how)
    await app.worker().drain()
    spans = named(exporter, "process decide")
    assert {told(span)["rowlock.outcome"] for span in spans} == {"snoozed", "cancelled"}
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}


async def test_many_jobs_have_one_span_of_their_enqueue_and_carry_it(
    app: Rowlock, exporter: InMemorySpanExporter, connection: Connection[Record]
) -> None:
    @app.task
    async def count(_n: int) -> None: ...

    await app.enqueue_many(count.job(n) for n in range(5))
    keyed = [count.using(unique=f"key-{n}").job(n) for n in range(2)]
    async with connection.transaction():
        await app.enqueue_many([*keyed, count.using(delay=1).job(9)], connection=connection)
    spans = named(exporter, "enqueue count")
    assert [told(span)["messaging.batch.message_count"] for span in spans] == [5, 3]
    stored = await connection.fetch("SELECT trace, count(*) AS jobs FROM rowlock.job GROUP BY trace ORDER BY jobs DESC")
    assert [row["jobs"] for row in stored] == [5, 3]
    for row, span in zip(stored, spans, strict=True):
        assert span.context is not None
        assert row["trace"].split("-")[1] == trace.format_trace_id(span.context.trace_id)


async def test_an_enqueue_that_is_refused_is_a_span_with_an_error(app: Rowlock, exporter: InMemorySpanExporter) -> None:
    @app.task(unique=Unique("always", on_duplicate="raise"))
    async def once() -> None: ...

    await once.enqueue()
    with pytest.raises(DuplicateJob):
        await once.enqueue()
    first, second = named(exporter, "enqueue once")
    assert (first.status.status_code, second.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)


async def test_threads_batches_and_what_handlers_enqueue_are_in_the_trace(
    app: Rowlock, exporter: InMemorySpanExporter, tracer: Tracer
) -> None:
    @app.task
    def in_a_thread() -> None:
        with tracer.start_as_current_span("in the thread"):
            pass

    @app.task
    async def follow() -> None: ...

    @app.task
    async def lead() -> None:
        await follow.enqueue()

    @app.task(batch=10, batch_wait=0.01)
    async def gather(items: list[int]) -> None: ...

    await in_a_thread.enqueue()
    await lead.enqueue()
    await app.enqueue_many([gather.job(1), gather.job(2)])
    await app.worker().drain()
    assert is_child(one(exporter, "in the thread"), one(exporter, "process in_a_thread"))
    assert is_child(one(exporter, "enqueue follow"), one(exporter, "process lead"))
    assert is_child(one(exporter, "process follow"), one(exporter, "enqueue follow"))
    assert len(named(exporter, "process gather")) == 2
    assert all(is_child(span, one(exporter, "enqueue gather")) for span in named(exporter, "process gather"))


async def test_attempts_in_processes_have_their_spans_here_and_tell_what_happened_there(
    app: Rowlock, exporter: InMemorySpanExporter, tmp_path: Path
) -> None:
    rules: dict[str, Any] = {"executor": "process", "max_attempts": 1}
    add, decide, leave, sell = (
        app.task(**rules)(function)
        for function in (process_tasks.add, process_tasks.decide, process_tasks.leave, process_tasks.sell)
    )
    hang = app.task(**rules, timeout=0.1)(process_tasks.hang)
    await add.enqueue(1, 2)
    await sell.enqueue("oolong")
    await leave.enqueue("exit")
    await hang.enqueue(str(tmp_path / "pids"))
    for what in ("snooze", "cancel", "fail"):
        await decide.enqueue(what)
    await app.worker(task_processes=1).drain()
    spans = [span for span in exporter.get_finished_spans() if span.name.startswith("process ")]
    enqueues = {told(span)["messaging.message.id"]: span for span in exporter.get_finished_spans() if span not in spans}
    assert all(is_child(span, enqueues[told(span)["messaging.message.id"]]) for span in spans)
    ended = sorted((told(span)["rowlock.task"], told(span)["rowlock.outcome"], error_of(span)) for span in spans)
    assert ended == [
        ("add", "succeeded", ""),
        ("decide", "cancelled", ""),
        ("decide", "failed", "rowlock.queue.jobs.lifecycle.Fail"),
        ("decide", "snoozed", ""),
        ("decide", "succeeded", ""),
        ("hang", "timeout", "rowlock.queue.jobs.lifecycle.AttemptTimeout"),
        ("leave", "error", "rowlock.errors.ProcessEnded"),
        ("sell", "error", "tests.process_tasks.OutOfStockError"),
    ]
    assert "oolong" not in "".join(span.to_json() for span in spans)


def error_of(span: ReadableSpan) -> str:
    name: str = told(span).get("error.type", "")
    expected = (StatusCode.ERROR, name) if name else (StatusCode.UNSET, None)
    assert (span.status.status_code, span.status.description) == expected
    return name


async def test_synchronous_callers_are_in_the_trace(
    app: Rowlock, exporter: InMemorySpanExporter, tracer: Tracer
) -> None:
    @app.task
    async def count() -> None: ...

    def call() -> None:
        with tracer.start_as_current_span("request"):
            count.enqueue_sync()
        app.close_sync()

    await asyncio.to_thread(call)
    assert is_child(one(exporter, "enqueue count"), one(exporter, "request"))


async def test_a_retry_by_an_operator_stays_in_the_trace(app: Rowlock, exporter: InMemorySpanExporter) -> None:
    @app.task(max_attempts=1)
    async def explode() -> None:
        raise ValueError

    handle = await explode.enqueue()
    await app.worker().drain()
    await app.jobs.retry(handle.id)
    await app.worker().drain()
    attempts = named(exporter, "process explode")
    assert len(attempts) == 2
    assert all(is_child(span, one(exporter, "enqueue explode")) for span in attempts)


async def test_the_context_of_an_http_request_is_the_jobs(settings: Settings, connection: Connection[Record]) -> None:
    async with Rowlock(settings=settings) as app:
        app.task(name="echo")(lambda: None)
        async with TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as http:
            for header in (TRACEPARENT, "nonsense"):
                body = {"task": "echo", "tags": ["import", "customer-42"]}
                async with http.post("/v1/jobs", json=body, headers={"traceparent": header}) as response:
                    assert response.status == 201
    stored = await connection.fetch("SELECT trace, tags FROM rowlock.job ORDER BY id")
    assert [row["trace"] for row in stored] == [TRACEPARENT, None]
    assert stored[0]["tags"] == ["import", "customer-42"]


async def test_an_instrumented_api_has_its_span_below_the_clients(app: Rowlock, exporter: InMemorySpanExporter) -> None:
    app.task(name="echo")(lambda: None)
    async with (
        TestClient(TestServer(create_app(app, authenticate=nobody_is_asked))) as http,
        http.post("/v1/jobs", json={"task": "echo"}, headers={"traceparent": TRACEPARENT}) as response,
    ):
        assert response.status == 201
    span = one(exporter, "enqueue echo")
    assert span.parent is not None
    assert trace.format_span_id(span.parent.span_id) == "b7ad6b7169203331"


async def test_log_lines_have_the_ids_of_the_span(
    app: Rowlock, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    logs.configure({"ROWLOCK_LOG_FORMAT": "json"}, stream)
    try:

        @app.task
        async def speak() -> None:
            structlog.get_logger("tests").info("spoken")
            logging.getLogger("tests").info("plainly spoken")

        await speak.enqueue()
        worker = app.worker()
        await worker.drain()
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(capture=False)
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    context = one(exporter, "process speak").context
    assert context is not None
    for event in ("spoken", "plainly spoken"):
        line = next(line for line in lines if line["event"] == event)
        assert line["trace_id"] == trace.format_trace_id(context.trace_id)
        assert line["span_id"] == trace.format_span_id(context.span_id)
        assert (line["task"], line["queue"], line["attempt"]) == ("speak", "default", 1)
        assert line["worker"] == str(worker.id)
    assert "trace_id" not in next(line for line in lines if line["event"] == "worker_started")


async def test_without_instrument_no_job_has_a_context(settings: Settings, connection: Connection[Record]) -> None:
    async with Rowlock(settings=settings) as app:
        app.task(name="echo")(lambda: None)
        await app.enqueue("echo")
        await app.enqueue_many([app.tasks["echo"].using(delay=1).job()])
    assert {row["trace"] for row in await connection.fetch("SELECT trace FROM rowlock.job")} == {None}


async def test_to_instrument_twice_changes_nothing(app: Rowlock, exporter: InMemorySpanExporter) -> None:
    instrument(app)

    @app.task
    async def count() -> None: ...

    await count.enqueue()
    await app.worker().drain()
    assert len(exporter.get_finished_spans()) == 2


async def test_a_trace_that_is_none_is_refused(settings: Settings) -> None:
    async with Rowlock(settings=settings) as app:
        app.task(name="echo")(lambda: None)
        with pytest.raises(InvalidOption, match="traceparent"):
            await app.enqueue("echo", trace="00-1-2-3")
