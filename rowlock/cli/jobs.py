"""`rowlock jobs`: lists jobs and dead letters, shows one with its attempts, and has the acts on them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rowlock.api.wire import Attempt, JobDetail, JobLogs, JobSummary, UnclaimedKind, raw_result
from rowlock.app import Rowlock
from rowlock.cli import acts, running
from rowlock.cli.findings import WHY_UNCLAIMED
from rowlock.cli.output import clean, print_json
from rowlock.queue.client import MOST_PER_PAGE, parse_id
from rowlock.queue.job import Job, LogLine
from rowlock.queue.operators import DeadLetterGroup, Unclaimed

_COLOURS: Final = {"running": "cyan", "succeeded": "green", "failed": "red", "retrying": "yellow"}
_WIDE: Final = 1000
_ERROR_LENGTH: Final = 60


@click.group("jobs")
def command() -> None:
    """Look at jobs, live and finished; cancel, retry and discard them."""


command.add_command(acts.cancel)
command.add_command(acts.retry)
command.add_command(acts.discard)


@command.command("list")
@acts.with_filters
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=50, show_default=True)
@click.option("--before", type=click.UUID, metavar="ID", help="The page after this one: its last job's id.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of jobs.")
def list_command(
    limit: int,
    before: UUID | None,
    as_json: bool,  # noqa: FBT001  # click's
    **given: Any,  # noqa: ANN401  # click's options
) -> None:
    """List jobs, newest first."""
    which = acts.filter_of(given)

    async def read() -> list[Job]:
        async with Rowlock() as app:
            return await app.jobs(which, before=before, limit=limit)

    _print(running.run(read()), limit, as_json=as_json, none="No jobs.")


@command.command("dead", short_help="List the dead letters.")
@acts.with_filters
@click.option("--groups", is_flag=True, help="Count them by task and error instead.")
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=50, show_default=True)
@click.option("--before", type=click.UUID, metavar="ID", help="The page after this one: its last job's id.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of jobs, or of groups.")
def dead_command(
    groups: bool,  # noqa: FBT001  # click's
    limit: int,
    before: UUID | None,
    as_json: bool,  # noqa: FBT001  # click's
    **given: Any,  # noqa: ANN401  # click's options
) -> None:
    """List the dead letters, newest first: jobs that have failed, and were not discarded."""
    which = acts.filter_of(given)

    async def read() -> tuple[list[Job], list[DeadLetterGroup]]:
        async with Rowlock() as app:
            if groups:
                return [], await app.dead_letter_groups(which, limit=limit)
            return await app.dead_letters(which, before=before, limit=limit), []

    jobs, grouped = running.run(read())
    if not grouped:
        _print(jobs, limit, as_json=as_json, none="No dead letters.")
    elif as_json:
        print_json(grouped)
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("JOBS", "TASK", "LAST", "ERROR"):
            table.add_column(name, no_wrap=True, justify="right" if name == "JOBS" else "left")
        for group in grouped:
            table.add_row(str(group.jobs), shown(group.task), time_of(group.last_at), shown(_short(group.error)))
        console(is_wide=True).print(table)


@command.command("unclaimed", short_help="List the due jobs that no live worker takes.")
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of kinds of jobs.")
def unclaimed_command(limit: int, as_json: bool) -> None:  # noqa: FBT001  # click's
    """List the due jobs that no live worker takes, by task, version of the arguments and queue; and why."""

    async def read() -> list[Unclaimed]:
        async with Rowlock() as app:
            return await app.unclaimed(limit=limit)

    kinds = running.run(read())
    if as_json:
        print_json([UnclaimedKind.of(kind) for kind in kinds])
    elif not kinds:
        click.echo("None.", err=True)
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("JOBS", "TASK", "VERSION", "QUEUE", "DUE FOR", "WHY"):
            table.add_column(name, no_wrap=True, justify="right" if name in {"JOBS", "VERSION"} else "left")
        for kind in kinds:
            row = (
                kind.jobs,
                kind.task,
                kind.args_version,
                kind.queue,
                timedelta(seconds=round(kind.waiting.total_seconds())),
            )
            table.add_row(*map(shown, row), shown(WHY_UNCLAIMED[kind.why]))
        console(is_wide=True).print(table)


@command.command("show", short_help="Show one job with its attempts.")
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the job, with its attempts.")
def show_command(job_id: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show one job: its arguments, its result, and every attempt that did not simply succeed."""

    async def read() -> tuple[Job, list[Mapping[str, Any]]]:
        async with Rowlock() as app:
            job = await app.get(parse_id(job_id))
            return job, await app.client.attempts(job.id)

    job, attempts = running.run(read())
    if as_json:
        told = [Attempt.of(row) for row in attempts]
        print_json(JobDetail.of(job, args=job.args, progress=job.last_progress, result=raw_result(job), attempts=told))
    else:
        _show(job, attempts)


def _print(jobs: Sequence[Job], limit: int, *, as_json: bool, none: str) -> None:
    if as_json:
        print_json([JobSummary.of(job) for job in jobs])
    elif not jobs:
        click.echo(none, err=True)
    else:
        console(is_wide=True).print(_table(jobs))
        if len(jobs) == limit:
            click.echo(f"More: --before {jobs[-1].id}", err=True)


@command.command("logs", short_help="Show what a job has logged.")
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the job's id, and its lines.")
def logs_command(job_id: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show the lines that the ended attempts of a job have logged, if its task has capture_logs."""

    async def read() -> tuple[Job, list[LogLine]]:
        async with Rowlock() as app:
            job = await app.get(parse_id(job_id))
            return job, await app.logs(job.id)

    job, lines = running.run(read())
    if as_json:
        print_json(JobLogs(id=job.id, lines=lines))
    elif not lines:
        click.echo(f"Nothing was logged, or task {job.task} has no capture_logs.", err=True)
    for line in lines if not as_json else ():
        at = line.at.astimezone().isoformat(sep=" ", timespec="milliseconds")
        console().print(shown(f"{line.attempt}  {at}  {line.level:8} {line.text}"), soft_wrap=True)


def console(*, is_wide: bool = False) -> Console:
    """A console that takes data as it is: no markup, no colours of its own; wide, nothing is wrapped or cut."""
    width = _WIDE if is_wide or not sys.stdout.isatty() else None
    return Console(markup=False, highlight=False, emoji=False, width=width)


def _table(jobs: Sequence[Job]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("ID", "STATE", "TASK", "QUEUE", "ATTEMPT", "CREATED", "ERROR"):
        table.add_column(name, no_wrap=True, justify="right" if name == "ATTEMPT" else "left")
    for job in jobs:
        table.add_row(
            str(job.id),
            _state(job.state),
            shown(job.task),
            shown(job.queue),
            f"{job.attempt}/{job.max_attempts}",
            time_of(job.created_at),
            shown(_short(job.error or "")),
        )
    return table


def _short(error: str) -> str:
    line = error.partition("\n")[0]
    return line if len(line) <= _ERROR_LENGTH else f"{line[: _ERROR_LENGTH - 1]}…"


def _show(job: Job, attempts: Sequence[Mapping[str, Any]]) -> None:
    out = console()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("state", _state(job.state))
    for name in (
        "id",
        "task",
        "args_version",
        "queue",
        "priority",
        "attempt",
        "max_attempts",
        "errors",
        "crashes",
        "unique_key",
    ):
        table.add_row(name, shown(getattr(job, name)))
    for name in ("timeout", "created_at", "run_at", "started_at", "finished_at", "worker", "error"):
        table.add_row(name, shown(getattr(job, name)))
    for name in ("expires_at", "deadline", "cancel_requested_at", "discarded_at"):
        if getattr(job, name) is not None:
            table.add_row(name, shown(getattr(job, name)))
    table.add_row("progress", shown(_progress(job)))
    table.add_row("args", shown(pretty(job.args)))
    table.add_row("result", shown(None if job.result_json is None else pretty(job.result)))
    out.print(table)
    for attempt in attempts:
        what = ": ".join(str(part) for part in (attempt["error_type"], attempt["message"]) if part)
        head = f"\nattempt {attempt['attempt']}: {attempt['outcome']} at {time_of(attempt['finished_at'])} {what}"
        out.print(shown(head), soft_wrap=True)
        if attempt["traceback"]:
            out.print(shown(attempt["traceback"].rstrip()), soft_wrap=True)


def _progress(job: Job) -> str | None:
    told = job.last_progress
    if told is None:
        return None
    what = f" {told.message}" if told.message else ""
    return f"{told.fraction:.0%}{what} (attempt {told.attempt}, {time_of(told.updated_at)})"


def pretty(value: object) -> str:
    """JSON data, a member a line."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _state(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state, ""))


def shown(value: object) -> Text:
    """The value as text that is printed as it is: nothing in it is markup."""
    if isinstance(value, datetime):
        return Text(time_of(value))
    return Text("–" if value is None else clean(str(value)))


def time_of(moment: datetime) -> str:
    """The time as people here write it."""
    return moment.astimezone().isoformat(sep=" ", timespec="seconds")
