"""Logs: the library's loggers, built on the standard library's, and the logging of Rowlock's own processes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog

from rowlock.errors import ConfigurationError
from rowlock.words import quoted

if TYPE_CHECKING:
    from uuid import UUID

    from asyncpg import Record
    from structlog.typing import EventDict, Processor

JOB: Final[ContextVar[Record | Mapping[str, Any] | None]] = ContextVar("rowlock_job", default=None)
"""The claimed row of the job whose handler runs in this context."""

WORKER: Final[ContextVar[UUID | None]] = ContextVar("rowlock_worker", default=None)
"""The id of the worker that runs jobs in this context."""

trace_ids: Callable[[], Mapping[str, str]] | None = None
"""Returns the trace fields of the active span; `rowlock.integrations.opentelemetry` sets it."""

_OF_JOB: Final = ("job_id", "queue", "task", "attempt", "worker")
_TAKEN: Final = frozenset(
    {*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName", "event"}
)
"""Attributes that every record has already: logging refuses to overwrite them."""

_FRAMES: Final = 4
"""How many frames lie between the standard library's logger and its caller, including the logger's own."""

_FORMATS: Final = ("console", "json")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _Fields:
    """The fields of an event, formatted only if a handler shows the message."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        words = [f"{name}={value}" for name, value in self._fields.items() if name != "stack"]
        return " ".join(words) + (f"\n{self._fields['stack']}" if self._fields.get("stack") else "")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger of the library: `log.info("job_cancelled", job_id=…)` becomes a record of `logging.getLogger(name)`.

    The application's `logging` set-up decides where records go. Each field is an attribute of the record, including
    `event`, and any formatter can show the message: `job_cancelled job_id=…`. All records of an event share one `msg`.
    Below the logger's level, no record is created. The application's structlog set-up has no effect.
    """
    processors: list[Processor] = [
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        add_job,
        add_trace,
        _as_record,
    ]
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name), processors=processors, wrapper_class=structlog.stdlib.BoundLogger
    ).bind()
    return logger


def _as_record(logger: object, _method: str, event: EventDict) -> tuple[tuple[object, ...], dict[str, Any]]:
    """Translate an event to the arguments of the standard library's logger."""
    name = event.pop("event")
    options = {option: event.pop(option) for option in ("exc_info", "stack_info") if option in event}
    fields = {f"{field}_" if field in _TAKEN else field: value for field, value in event.items()}
    message = (f"{name} %s", _Fields(fields)) if fields else (name,)
    depth = _FRAMES if type(logger) is logging.Logger else 1  # structlog's own class skips its frames itself
    return message, {"extra": {"event": name, **fields}, "stacklevel": depth, **options}


class JobContextFilter(logging.Filter):
    """A filter for handlers of the standard library's `logging`: adds `job_id`, `queue`, `task`, `attempt` and `worker`
    to each record that a job's handler logs.

    An application that embeds a worker names it in its own set-up:
    `"filters": {"job": {"()": "rowlock.logs.JobContextFilter"}}`. Other records have None in these attributes.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields, and pass every record."""
        found = add_job(None, "", {})
        for name in _OF_JOB:
            if not hasattr(record, name):
                setattr(record, name, found.get(name))
        return True


def configure(environ: Mapping[str, str] = os.environ, stream: TextIO | None = None, *, level: str = "info") -> None:
    """Set up logging for a process of Rowlock's own. An application that embeds a worker keeps its own set-up.

    `ROWLOCK_LOG_FORMAT` is `console` (the default on a terminal) or `json` (the default elsewhere, one line an event);
    `ROWLOCK_LOG_LEVEL` is `level` by default. Each event includes the fields bound to the context
    (`job_id queue task attempt`), also the standard library's events. Tracebacks omit local variables: they would show
    arguments. Raises `ConfigurationError` for an unknown format or level.
    """
    stream = sys.stderr if stream is None else stream
    is_terminal = stream.isatty()
    has_colours = is_terminal and not environ.get("NO_COLOR")
    form = _chosen(environ, "ROWLOCK_LOG_FORMAT", _FORMATS, "console" if is_terminal else "json")
    least = logging.getLevelNamesMapping()[_chosen(environ, "ROWLOCK_LOG_LEVEL", _LEVELS, level).upper()]
    shared = _shared()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(form, has_colours)],
        )
    )
    logging.basicConfig(handlers=[handler], level=least, force=True)
    logging.captureWarnings(capture=True)


def add_job(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: adds the job (`job_id`, `queue`, `task`, `attempt`) and the worker (`worker`) to each
    event of a handler.

    `rowlock worker` uses it already. An application that embeds a worker adds it to its own processors.
    """
    job = JOB.get()
    if job is not None:
        for name in ("queue", "task", "attempt"):
            event.setdefault(name, job[name])
        event.setdefault("job_id", str(job["id"]))
        if (worker := WORKER.get()) is not None:
            event.setdefault("worker", str(worker))
    return event


def add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: adds the span (`trace_id`, `span_id`) to each event, if jobs are traced.

    `rowlock worker` and `rowlock api` use it already.
    """
    if trace_ids is not None:
        for name, value in trace_ids().items():
            event.setdefault(name, value)
    return event


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        add_job,
        add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _rendering(form: str, has_colours: bool) -> list[Processor]:  # noqa: FBT001  # private
    if form == "json":
        return [
            structlog.processors.format_exc_info,  # plain text: the structured form contains local variables
            structlog.processors.JSONRenderer(default=_text),
        ]
    plain = structlog.dev.plain_traceback  # rich's would show local variables
    return [structlog.dev.ConsoleRenderer(colors=has_colours, exception_formatter=plain)]


def _text(value: Any) -> str:  # noqa: ANN401  # any logged value
    return str(value)


def _chosen(environ: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    given = environ.get(name) or default
    if given.lower() not in {choice.lower() for choice in allowed}:
        raise ConfigurationError(f"{name} must be one of {', '.join(allowed).lower()}; got {quoted(given)}.")
    return given.lower()
