"""Traces by OpenTelemetry (the extra `opentelemetry`): from the enqueue to each attempt, in any process.

The spans follow the conventions for messaging. Without `instrument()` OpenTelemetry is not imported, and no job
carries a context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rowlock import logs
from rowlock.errors import RemoteError
from rowlock.queue.jobs.lifecycle import AttemptTimeout, Cancel, Directive, Fail, Retry, Snooze

if TYPE_CHECKING:
    from rowlock.app import Rowlock
    from rowlock.queue.enqueue.task import CallNext
    from rowlock.queue.jobs.job import Job
    from rowlock.queue.jobs.new_job import NewJob

SYSTEM: Final = "rowlock"

_W3C: Final = TraceContextTextMapPropagator()
_OUTCOMES: Final[Sequence[tuple[type[BaseException], str]]] = (
    (Snooze, "snoozed"),
    (Retry, "retried"),
    (Cancel, "cancelled"),
    (Fail, "failed"),
    (AttemptTimeout, "timeout"),
)
_NO_ERRORS: Final = frozenset({"snoozed", "cancelled", "released"})


def instrument(app: Rowlock, *, tracer_provider: TracerProvider | None = None) -> None:
    """Trace this application's jobs, by the global tracer provider unless another one is given.

    Each enqueue (also `enqueue_many`) has a span of kind PRODUCER, and each attempt a child span of kind CONSUMER, so
    that retries are in the same trace. Spans name errors by type only: messages may contain arguments. Log lines get
    the ids of trace and span. Call it before a worker starts; further calls do nothing.

    >>> from rowlock.integrations.opentelemetry import instrument
    >>> instrument(app)
    """
    if app.store.tracer is not None:
        return
    tracing = _Tracing(trace.get_tracer(SYSTEM, version("rowlock"), tracer_provider))
    app.store.tracer = tracing.enqueuing
    app.middlewares.insert(0, tracing.attempt)  # around the others: the attempt includes their time
    logs.trace_ids = _ids


class _Tracing:
    """The spans of one application."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def enqueuing(self, jobs: Sequence[NewJob[Any]]) -> Iterator[str | None]:
        """Open a span around an enqueue; return the context that its jobs carry."""
        tasks, queues = {job.task for job in jobs}, {job.options.queue for job in jobs}
        attributes: dict[str, str | int] = {
            "messaging.system": SYSTEM,
            "messaging.operation.name": "enqueue",
            "messaging.operation.type": "send",
        }
        if len(queues) == 1:
            attributes["messaging.destination.name"] = next(iter(queues))
        if len(tasks) == 1:
            attributes["rowlock.task"] = next(iter(tasks))
        if len(jobs) == 1:
            attributes["messaging.message.id"] = str(jobs[0].id)
        else:
            attributes["messaging.batch.message_count"] = len(jobs)
        name = f"enqueue {attributes['rowlock.task']}" if len(tasks) == 1 else "enqueue"
        with self._span(name, SpanKind.PRODUCER, _parent_of(jobs), attributes) as span:
            try:
                yield _traceparent(span)
            except BaseException as error:
                _set_error(span, error)
                raise

    async def attempt(self, job: Job, call_next: CallNext) -> object:
        """Run an attempt in a span, a child of the enqueue's: a middleware."""
        attributes: dict[str, str | int] = {
            "messaging.system": SYSTEM,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": job.queue,
            "messaging.message.id": str(job.id),
            "rowlock.task": job.task,
            "rowlock.attempt": job.attempt,
        }
        with self._span(f"process {job.task}", SpanKind.CONSUMER, _context(job.trace), attributes) as span:
            try:
                value = await call_next()
            except BaseException as error:
                _set_outcome(span, job, error)
                raise
            _set_outcome(span, job, value if isinstance(value, Directive) else None)
            return value

    @contextmanager
    def _span(
        self, name: str, kind: SpanKind, context: Context | None, attributes: Mapping[str, str | int]
    ) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=kind,
            attributes=attributes,
            record_exception=False,  # it would record the message and the traceback
            set_status_on_exception=False,
        ) as span:
            yield span


def _parent_of(jobs: Sequence[NewJob[Any]]) -> Context | None:
    """The context that came with the jobs, for example over HTTP, if no span is active here."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    given = {job.options.trace for job in jobs}
    return _context(next(iter(given))) if len(given) == 1 else None


def _context(traceparent: str | None) -> Context:
    """The context of a job; without one, the attempt begins a new trace."""
    return _W3C.extract({} if traceparent is None else {"traceparent": traceparent}, context=Context())


def _traceparent(span: Span) -> str | None:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent")


def _set_outcome(span: Span, job: Job, error: BaseException | None) -> None:
    """Set the attempt's outcome on the span. Whether its job is retried is not known yet."""
    if error is None:
        outcome = "succeeded"
    elif isinstance(error, asyncio.CancelledError):
        outcome = "cancelled" if job.is_cancelled else "released"
    else:
        outcome = next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "error")
    span.set_attribute("rowlock.outcome", outcome)
    if error is not None and outcome not in _NO_ERRORS:
        _set_error(span, error)


def _set_error(span: Span, error: BaseException) -> None:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, RemoteError):  # the class is in another process; the name is here
        name = error.type
    span.set_attribute("error.type", name)
    span.set_status(Status(StatusCode.ERROR, name))


def _ids() -> Mapping[str, str]:
    """The fields of log lines for the active span."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


__all__ = ["instrument"]
