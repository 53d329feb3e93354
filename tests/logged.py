"""What the library logs, as its tests see it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

_PLAIN: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None)))


class _Collecting(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.entries: list[MutableMapping[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = {name: value for name, value in vars(record).items() if name not in _PLAIN}
        error = record.exc_info[1] if record.exc_info else None
        self.entries.append(fields | {"log_level": record.levelname.lower(), "exc_info": error})


@contextmanager
def capture_logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """The events of the library during the block, of every level: their fields, `log_level` and `exc_info`."""
    logger, handler = logging.getLogger("rowlock"), _Collecting()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.entries
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
