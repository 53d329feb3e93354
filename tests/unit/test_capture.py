"""Collecting a handler's log lines, whichever way structlog is set up."""

from __future__ import annotations

import contextvars
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from rowlock import InvalidOption, Rowlock, logs
from rowlock.worker.attempt.capture import CAPTURE, Capture, _collect, install


@pytest.fixture
def _configured() -> Iterator[None]:
    """The set-up of `rowlock worker`, undone afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.configure({"ROWLOCK_LOG_FORMAT": "json"}, io.StringIO())
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("_configured")
def test_lines_come_once_under_the_set_up_of_rowlocks_own_processes() -> None:
    def handler() -> str | None:
        CAPTURE.set(capture)
        structlog.get_logger("shop").info("bought", amount=3)
        logging.getLogger("shop").warning("plain %s", "text")
        return capture.close()

    capture = Capture(logging.NOTSET)
    install()
    install()
    text = contextvars.copy_context().run(handler)
    assert text is not None
    assert [(line["level"], line["text"]) for line in json.loads(text)] == [
        ("info", "bought amount=3"),
        ("warning", "plain text"),
    ]


def test_what_cannot_be_told_does_not_fail_the_handler_that_logs_it() -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    def handler() -> str | None:
        CAPTURE.set(capture)
        logging.getLogRecordFactory()("shop", logging.INFO, "shop.py", 1, Unspeakable(), (), None)
        event = {"event": Unspeakable(), "amount": Unspeakable()}
        assert _collect(None, "info", event) is event
        return capture.close()

    capture = Capture(logging.NOTSET)
    install()
    text = contextvars.copy_context().run(handler)
    assert text is not None
    assert [line["text"] for line in json.loads(text)] == ["<no text: reading it raised RuntimeError>"] * 2


def test_nothing_is_collected_outside_of_a_handler_or_after_its_end() -> None:
    capture = Capture(logging.NOTSET)
    install()
    logging.getLogger("shop").error("outside")
    assert capture.close() is None
    capture.add("error", "shop", "late")
    assert capture.close() is None


def test_log_lines_of_a_process_cannot_be_captured() -> None:
    with pytest.raises(InvalidOption, match="cannot capture in a process"):
        Rowlock("postgresql://nowhere").task(executor="process", capture_logs=True)(json.dumps)
