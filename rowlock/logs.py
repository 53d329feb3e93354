"""Logs: the library's loggers, which are the standard library's, and the set-up of Rowlock's own processes."""

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
"""Gives what log lines say of the active span, once `rowlock.integrations.opentelemetry` has set it."""

_OF_JOB: Final = ("job_id", "queue", "task", "attempt", "worker")
_TAKEN: Final = frozenset(
    {*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName", "event"}
)
"""What a record has already, and logging refuses to overwrite."""

_FRAMES: Final = 4
"""How many frames lie between the standard library's logger and whoever logs, with that one's."""

_FORMATS: Final = ("console", "json")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _Fields:
    """The fields of an event, written out only if a handler shows the message."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        words = [f"{name}={value}" for name, value in self._fields.items() if name != "stack"]
        return " ".join(words) + (f"\n{self._fields['stack']}" if self._fields.get("stack") else "")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger of the library: `log.info("job_cancelled", job_id=…)` becomes a record of `logging.getLogger(name)`.

    The application's set-up of `logging` decides what becomes of it. The record has each field as an attribute, `event`
    among them, and a message that any formatter can show: `job_cancelled job_id=…`. Its `msg` is the same for all
    records of an event. Below the logger's level nothing is made. How the application has set up structlog does not
    matter.
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
    """The arguments of the standard library's logger for an event."""
    name = event.pop("event")
    options = {option: event.pop(option) for option in ("exc_info", "stack_info") if option in event}
    fields = {f"{field}_" if field in _TAKEN else field: value for field, value in event.items()}
    message = (f"{name} %s", _Fields(fields)) if fields else (name,)
    depth = _FRAMES if type(logger) is logging.Logger else 1  # structlog's own class leaves its frames out by itself
    return message, {"extra": {"event": name, **fields}, "stacklevel": depth, **options}


class JobContextFilter(logging.Filter):
    """A filter for handlers of the standard library's `logging`: gives each record that a handler of a job makes its
    `job_id`, `queue`, `task`, `attempt` and `worker`.

    An application that embeds a worker names it in its own set-up:
    `"filters": {"job": {"()": "rowlock.logs.JobContextFilter"}}`. Other records have None in these places.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through."""
        found = add_job(None, "", {})
        for name in _OF_JOB:
            if not hasattr(record, name):
                setattr(record, name, found.get(name))
        return True


def configure(environ: Mapping[str, str] = os.environ, stream: TextIO | None = None, *, level: str = "info") -> None:
    """Set up logging for a process of Rowlock's own. An application that embeds a worker keeps its own set-up.

    `ROWLOCK_LOG_FORMAT` is `console` (the default on a terminal) or `json` (the default elsewhere, a line an event);
    `ROWLOCK_LOG_LEVEL` is `level` by default. What is bound to the context (`job_id queue task attempt`) is in each
    event, also in those of the standard library. Tracebacks come without local variables: these would be arguments.
    Raises `ConfigurationError` for a format or a level that there is not.
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
    """A structlog processor: says in each event of a handler which job it runs (`job_id`, `queue`, `task`, `attempt`),
    and in which worker (`worker`).

    `rowlock worker` has it in place. An application that embeds a worker puts it into its own processors.
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
    """A structlog processor: says in which span an event took place (`trace_id`, `span_id`), if jobs are traced.

    `rowlock worker` and `rowlock api` have it in place.
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
            structlog.processors.format_exc_info,  # plain text: the structured form holds local variables
            structlog.processors.JSONRenderer(default=_text),
        ]
    plain = structlog.dev.plain_traceback  # rich's would show local variables
    return [structlog.dev.ConsoleRenderer(colors=has_colours, exception_formatter=plain)]


def _text(value: Any) -> str:  # noqa: ANN401  # whatever was logged
    return str(value)


def _chosen(environ: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    given = environ.get(name) or default
    if given.lower() not in {choice.lower() for choice in allowed}:
        raise ConfigurationError(f"{name} is {quoted(given)}: use one of {', '.join(allowed).lower()}.")
    return given.lower()
