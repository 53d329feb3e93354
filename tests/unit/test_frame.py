"""A frame of `rowlock top`: it fits every terminal, and loses the least that it can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID

import pytest
from msgspec import structs
from rich.console import Console
from rich.text import Text

from rowlock.cli.show.frame import RunningJob, Seen, frame_of
from rowlock.queue.read.overview import Overview
from rowlock.queue.read.queues import Queue
from rowlock.queue.read.statistics import Figures, Point, Statistics

AT = datetime(2030, 1, 31, 9, tzinfo=UTC)
JOB = UUID("0198a5a0-0000-7000-8000-000000000000")


def seen(queues: int = 3, running: int = 5) -> Seen:
    known = [
        Queue(
            name=f"queue_{number}",
            paused_at=AT - timedelta(hours=2) if number == 0 else None,
            concurrency=None,
            waiting=1_000_000 - number,
            scheduled=0,
            running=number,
            blocked=0,
            oldest_due_at=AT - timedelta(minutes=5),
            workers=1,
        )
        for number in range(queues)
    ]
    overview = Overview(
        at=AT,
        waiting=1_000_000,
        scheduled=0,
        running=running,
        blocked=0,
        oldest_due_at=AT - timedelta(minutes=5),
        dead_letters=0,
        queues=known,
        workers=0,
        last_minute=Figures(succeeded=600, failed=6, duration_p50=0.012),
        unclaimed=0,
    )
    points = [Point(at=AT - timedelta(minutes=60 - number), succeeded=number) for number in range(60)]
    statistics = Statistics(
        since=AT - timedelta(hours=1), until=AT, step=60, total=Figures(), points=points, queues=[], tasks=[]
    )
    longest = [
        RunningJob(
            id=JOB,
            task=f"a_task_with_quite_a_long_name_{number}",
            queue="queue_0",
            attempt=1,
            max_attempts=5,
            started_at=AT - timedelta(seconds=running - number),
            worker=None,
            fraction=0.5,
            message="\x1b[2Jhalfway",
        )
        for number in range(running)
    ]
    return Seen(overview=overview, statistics=statistics, workers=[], longest=longest, dead_letters=[])


def drawn(what: Seen, width: int | None, height: int | None, says: Text | None = None) -> list[str]:
    stream = StringIO()
    Console(file=stream, width=width or 1000, color_system=None).print(
        frame_of(what, width=width, height=height, says=says)
    )
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 81, 100, 132, 250])
@pytest.mark.parametrize("height", [4, 6, 7, 8, 12, 24, 43, 100])
@pytest.mark.parametrize("rows", [0, 1, 7, 60])
def test_it_fits(width: int, height: int, rows: int) -> None:
    lines = drawn(seen(rows, rows), width, height, Text("The database is away; seen 12.3 s ago", "red"))
    assert len(lines) <= height
    if width >= 80:
        assert max(map(len, lines)) <= width


def test_what_does_not_fit_is_counted() -> None:
    lines = drawn(seen(30, 30), 80, 24)
    assert len(lines) == 24, "there is no room left"
    rest = [line for line in lines if "more" in line]
    shown = [sum(line.startswith(name) for line in lines) for name in ("queue_", "a_task_")]
    assert [line.split()[1] for line in rest] == [str(30 - count) for count in shown]
    assert min(shown) >= 5, "and is shared"


def test_without_a_terminal_everything_is_shown() -> None:
    lines = drawn(seen(30, 60), None, None)
    assert sum(line.startswith("queue_") for line in lines) == 30
    assert sum(line.startswith("a_task_with_quite_a_long_name_") for line in lines) == 60
    assert lines[0].startswith("rowlock ")
    assert "last minute: 10.1 jobs/s  failed 6" in lines[2]
    assert "took 12 ms, p95 –" in lines[2]
    assert "\\x1b[2Jhalfway" in lines[-1], "what a handler says steers no terminal"


def test_queues_with_most_to_do_come_first_and_paused_ones_say_since_when() -> None:
    lines = [line.split() for line in drawn(seen(), 120, 40) if line.startswith("queue_")]
    assert [line[0] for line in lines] == ["queue_0", "queue_1", "queue_2"]
    assert [line[-1] for line in lines] == ["00m", "–", "–"]


def test_no_figure_is_cut_in_a_terminal_of_the_usual_size() -> None:
    plain = seen(5, 5)
    overview = structs.replace(
        plain.overview, waiting=12_345_678, scheduled=1_234_567, running=1000, dead_letters=12_345, unclaimed=1234
    )
    lines = drawn(structs.replace(plain, overview=overview), 80, 24, Text("q quits"))
    told = "\n".join(lines[: lines.index("")])
    for figure in ("waiting 12,345,678", "scheduled 1,234,567", "dead letters 12,345", "unclaimed 1,234", "workers 0"):
        assert figure in told
    assert "…" not in told
    assert len(lines) <= 24
