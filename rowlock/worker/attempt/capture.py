"""Collect the lines that a handler logs while its attempt runs, by the standard library or by structlog.

Collecting changes nothing: all lines still go where they went. The standard library's records are collected when they
are made, structlog's events right before they are rendered. Lines below the loggers' levels are never made, and so
not collected.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from rowlock.queue.jobs.results import storable_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict

MOST_LINES: Final = 1000
MOST_BYTES: Final = 256 * 1024
LINE_BYTES: Final = 16 * 1024

_NOT_TEXT: Final = frozenset(
    {
        *("event", "level", "logger", "timestamp", "exception", "exc_info", "stack"),
        *("job_id", "queue", "task", "attempt", "worker"),
    }
)
_LEVELS: Final = {"exception": "error", "warn": "warning", "fatal": "critical", "msg": "info", "log": "info"}
"""The methods of structlog's loggers that are not named after their level."""
_FORMATTER: Final = logging.Formatter("%(message)s")


class Capture:
    """The lines of one attempt: the first and the last ones if there are too many. Any thread may add lines."""

    def __init__(self, level: int) -> None:
        self.level = level
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._first: list[dict[str, Any]] = []
        self._last: deque[tuple[int, dict[str, Any]]] = deque()
        self._first_bytes = self._last_bytes = 0
        self._left_out = 0
        self._is_closed = False

    def add(self, level: str, logger: str | None, text: str) -> None:
        """Collect a line, unless the attempt is over."""
        line = {
            "after": round(time.monotonic() - self._began, 6),
            "level": level,
            "logger": None if logger is None else storable_text(logger, 200),
            "text": storable_text(text, LINE_BYTES),
        }
        size = len(line["text"].encode()) + 50  # type: ignore[attr-defined]  # the text is a str
        with self._lock:
            if self._is_closed:
                return
            if not self._last and len(self._first) < MOST_LINES // 2 and self._first_bytes + size <= MOST_BYTES // 2:
                self._first.append(line)
                self._first_bytes += size
                return
            self._last.append((size, line))
            self._last_bytes += size
            while len(self._last) > MOST_LINES // 2 or self._last_bytes > MOST_BYTES // 2:
                dropped, _ = self._last.popleft()
                self._last_bytes -= dropped
                self._left_out += 1

    def close(self) -> str | None:
        """Stop collecting. Return the lines as JSON text, with a mark where lines were left out; None without lines."""
        with self._lock:
            self._is_closed = True
        lines = list(self._first)
        if self._left_out:
            after = self._last[0][1]["after"]
            lines.append({"after": after, "level": "", "logger": None, "text": f"… {self._left_out} lines left out"})
        lines += [line for _, line in self._last]
        return json.dumps(lines, ensure_ascii=False) if lines else None


CAPTURE: Final[ContextVar[Capture | None]] = ContextVar("rowlock_capture", default=None)
"""The capture that collects the lines of the handler in this context."""


def install() -> None:
    """Collect the lines that handlers log from now on. Calling it again does nothing."""
    factory = logging.getLogRecordFactory()
    if not getattr(factory, "is_rowlock", False):
        logging.setLogRecordFactory(_seeing(factory))
    if not isinstance(structlog.get_config()["logger_factory"], structlog.stdlib.LoggerFactory):
        processors = structlog.get_config()["processors"]
        if not isinstance(processors, list):
            processors = list(processors)
            structlog.configure(processors=processors)
        if _collect not in processors:
            # In place: the loggers that exist already share this list.
            processors.insert(max(len(processors) - 1, 0), _collect)


def _seeing(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    def make_and_see(*args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: ANN401  # as the library passes them
        record = make(*args, **kwargs)
        capture = CAPTURE.get()
        # logging.makeLogRecord, which structlog's formatter calls, copies a record: the copy has no level at first.
        level = cast("int | None", record.levelno)
        if capture is not None and level is not None and level >= capture.level:
            try:
                capture.add(record.levelname.lower(), record.name, _text_of(record))
            except Exception:  # noqa: BLE001  # the record cannot be formatted: logging itself reports that
                capture.add(record.levelname.lower(), record.name, _safe_text(record.msg))
        return record

    make_and_see.is_rowlock = True  # type: ignore[attr-defined]  # a function takes attributes
    return make_and_see


def _text_of(record: logging.LogRecord) -> str:
    if isinstance(record.msg, dict) and "event" in record.msg:  # structlog's, on its way to a ProcessorFormatter
        return _text_of_event(record.msg)
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + _FORMATTER.formatException(record.exc_info)
    return text


def _collect(_logger: object, method: str, event: EventDict) -> EventDict:
    """Collect the event, as a processor of structlog."""
    capture = CAPTURE.get()
    if capture is not None:
        level = str(event.get("level", method))
        level = _LEVELS.get(level, level)
        if logging.getLevelNamesMapping().get(level.upper(), logging.ERROR) >= capture.level:
            try:
                logger, text = event.get("logger"), _text_of_event(event)
                capture.add(level, None if logger is None else str(logger), text)
            except Exception:  # noqa: BLE001  # the renderer reports it; collecting must not break the handler
                capture.add(level, None, _safe_text(event.get("event")))
    return event


def _safe_text(message: object) -> str:
    try:
        return str(message)
    except Exception as error:  # noqa: BLE001  # its own `__str__` may raise anything
        return f"<no text: reading it raised {type(error).__name__}>"


def _text_of_event(event: EventDict) -> str:
    fields = [f"{name}={value}" for name, value in event.items() if name not in _NOT_TEXT and not name.startswith("_")]
    text = " ".join([str(event.get("event", "")), *fields])
    if event.get("exc_info") and "exception" not in event:
        event = structlog.processors.format_exc_info(None, "", dict(event))
    return "\n".join([text, *(str(event[name]) for name in ("exception", "stack") if event.get(name))])


__all__ = ["CAPTURE", "Capture", "install"]
