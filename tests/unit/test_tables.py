"""How the command line shows values, and what a narrow terminal does to a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from rowlock.cli.show.tables import (
    Column,
    attempt_of,
    duration_of,
    number,
    print_table,
    sparkline,
    table_of,
    text,
    whole,
)

COLUMNS = (whole("ID"), text("TASK", 6), text("QUEUE", 5, leaves=1), number("JOBS"))
ROWS = [("0198a5a0-0000-7000-8000-000000000000", "send_newsletter", "greetings", 12345)]


def drawn(width: int | None, columns: tuple[Column, ...] = COLUMNS) -> list[str]:
    stream = StringIO()
    Console(file=stream, width=width or 1000, color_system=None).print(table_of(columns, ROWS, width=width))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_wide_terminal_shows_everything() -> None:
    assert drawn(100)[1].split() == [str(cell) for cell in ROWS[0][:3]] + ["12,345"]


def test_a_narrow_one_clips_texts_then_leaves_columns_out_and_keeps_ids_whole() -> None:
    assert drawn(65)[0].split() == ["ID", "TASK", "QUEUE", "JOBS"]
    clipped = drawn(65)[1].split()
    assert clipped[0] == ROWS[0][0]
    assert [clipped[1][-1], clipped[2][-1], clipped[3]] == ["…", "…", "12,345"]
    assert drawn(54)[0].split() == ["ID", "TASK", "JOBS"]
    assert drawn(54)[1].split() == [ROWS[0][0], "send_…", "12,345"]


@pytest.mark.parametrize("width", range(52, 90))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(width)
    assert len(lines) == 2, "a row is a line"
    assert max(map(len, lines)) <= width
    assert ROWS[0][0] in lines[1]


def test_in_a_pipe_every_value_is_whole_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2030, 1, 31, 9, tzinfo=UTC)
    said = f"{'x' * 5000}\x1b[31m\nnext\tcell"
    print_table((text("SAID"), number("JOBS"), whole("AT"), whole("STATE")), [(said, 12345, moment, "failed")])
    head, row, end = capsys.readouterr().out.split("\n")
    assert end == ""
    assert head == head.rstrip()
    assert row.startswith("x" * 5000 + "\\x1b[31m\\nnext\\tcell  12345  20")
    assert row.endswith("failed")
    assert moment.astimezone().isoformat(sep=" ") in row


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 ms"),
        (-3, "0 ms"),
        (0.34, "340 ms"),
        (0.9999, "1.0 s"),
        (12.34, "12.3 s"),
        (59.97, "1m 00s"),
        (125, "2m 05s"),
        (3599.9, "1h 00m"),
        (11_520, "3h 12m"),
        (timedelta(days=4, hours=2), "4d 02h"),
    ],
)
def test_durations_are_written_as_people_do(seconds: float | timedelta, text: str) -> None:
    assert duration_of(seconds) == text


def test_a_sparkline_goes_from_nothing_to_the_highest() -> None:
    assert sparkline([0, 1, 2, None, 4], 5) == "▁▃▅ █"
    assert sparkline([0, 0], 5) == "▁▁"
    assert sparkline([], 5) == ""
    assert sparkline([1], 0) == ""


def test_a_sparkline_that_is_too_long_shows_means() -> None:
    assert sparkline([0, 0, 2, 4, None, None, 6], 4) == "▁▅ █"


def test_no_attempt_is_shown_as_one_of_fewer() -> None:
    assert attempt_of(2, 2) == "2/2"
    assert attempt_of(4, 2) == "4", "somebody has retried it"
