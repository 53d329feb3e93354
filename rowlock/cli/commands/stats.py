"""`rowlock stats`: throughput, failures, durations and waits over a window of time, by queue and by task."""

from __future__ import annotations

from typing import Final, get_args

import click

from rowlock.app import Rowlock
from rowlock.cli.run import running
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import (
    NOTHING,
    Column,
    brief_time_of,
    duration_of,
    number,
    print_details,
    print_table,
    print_text,
    sparkline,
    text,
)
from rowlock.queue.read.statistics import Figures, Statistics, Window

_BARS: Final = 60


def _columns(name: str) -> tuple[Column, ...]:
    return (
        text(name, 12),
        number("JOBS"),
        number("PER SECOND", leaves=3),
        number("FAILED"),
        number("FAILED %", leaves=4),
        number("ERRORS", leaves=2),
        number("TOOK P50"),
        number("P95"),
        number("P99", leaves=1),
        number("WAITED P95", leaves=5),
    )


@click.command("stats", short_help="Show throughput, failures and latency over a window of time.")
@click.option(
    "--window", type=click.Choice(get_args(Window)), default="1h", show_default=True, help="The window, which ends now."
)
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--task", help="Only jobs of this task.")
@with_json
def command(window: str, queue: str | None, task: str | None, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show the jobs that ended in the window: how many, how many failed, how long they took, by queue and by task."""

    async def read() -> Statistics:
        async with Rowlock() as app:
            return await app.statistics(window, queue=queue, task=task)

    found = running.run(read())
    if as_json:
        print_json(found)
        return
    seconds = (found.until - found.since).total_seconds()
    done = [float(one.succeeded + one.failed + one.cancelled + one.expired) for one in found.points]
    print_details(
        [
            ("from", f"{brief_time_of(found.since)}, {window} in steps of {duration_of(found.step)}"),
            ("jobs", sparkline(done, _BARS)),
            ("errors", sparkline([float(one.errors) for one in found.points], _BARS)),
            (
                "waiting",
                sparkline([None if one.waiting is None else float(one.waiting) for one in found.points], _BARS),
            ),
        ]
    )
    if not sum(done):
        note("No job ended in this window. Jobs are counted ten seconds to a minute after their end.")
    for name, rows in (
        ("ALL", [("all", found.total)]),
        ("QUEUE", [(one.queue, one) for one in found.queues]),
        ("TASK", [(one.task, one) for one in found.tasks]),
    ):
        if rows:
            print_text("")
            print_table(_columns(name), [(what, *_cells(figures, seconds)) for what, figures in rows])


def _cells(of: Figures, seconds: float) -> tuple[object, ...]:
    jobs = of.succeeded + of.failed + of.cancelled + of.expired
    rate = f"{jobs / seconds:,.2f}" if seconds else NOTHING
    failed = f"{of.failed / jobs:.1%}" if jobs else NOTHING
    times = (of.duration_p50, of.duration_p95, of.duration_p99, of.wait_p95)
    return jobs, rate, of.failed, failed, of.errors, *(NOTHING if one is None else duration_of(one) for one in times)
