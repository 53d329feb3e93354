"""The library's loggers: records of the standard library, with their fields."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest
import structlog

import rowlock
from rowlock import logs
from tests.logged import capture_logs

EVENTS = ("debug", "info", "warning", "error", "critical", "exception")


def test_an_event_is_a_record_with_its_fields_and_a_message_for_any_formatter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "rowlock.tests"):
        logs.get_logger("rowlock.tests").info("job_done", job_id="42", count=3)
    [record] = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == (
        "rowlock.tests",
        "INFO",
        "job_done job_id=42 count=3",
    )
    assert (record.msg, record.__dict__["event"], record.__dict__["job_id"]) == ("job_done %s", "job_done", "42")
    assert record.pathname == __file__


def test_the_job_and_what_is_bound_to_the_context_are_fields() -> None:
    token = logs.JOB.set({"id": 7, "queue": "email", "task": "send", "attempt": 2})
    try:
        with capture_logs() as entries, structlog.contextvars.bound_contextvars(request_id="r", name="taken"):
            logs.get_logger("rowlock.tests").warning("went_wrong")
    finally:
        logs.JOB.reset(token)
    [entry] = entries
    assert (entry["job_id"], entry["queue"], entry["task"], entry["attempt"]) == ("7", "email", "send", 2)
    assert (entry["request_id"], entry["name_"]) == ("r", "taken")


def test_below_the_level_nothing_is_made(caplog: pytest.LogCaptureFixture) -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise AssertionError("asked for nothing")

    with caplog.at_level(logging.WARNING, "rowlock.tests"):
        logs.get_logger("rowlock.tests").info("job_done", what=Unspeakable())
    assert caplog.records == []


def test_no_field_of_an_event_is_a_name_that_records_have_already() -> None:
    taken = []
    for path in Path(rowlock.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method)) if method in EVENTS:
                    names = {keyword.arg for keyword in node.keywords} - {"exc_info", "stack_info", None}
                    taken += [(path.name, name) for name in names if name in logs._TAKEN]
    assert taken == []


def test_no_line_of_the_log_has_the_whole_text_of_an_error_of_the_database() -> None:
    for file in Path(rowlock.__file__).parent.rglob("*.py"):
        if "torture" not in file.parts:
            assert "detail=str(error)" not in file.read_text(encoding="utf-8"), f"{file}: its detail shows rows"
