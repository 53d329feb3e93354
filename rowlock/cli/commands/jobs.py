"""`rowlock jobs`: list jobs, show one with its attempts, and act on jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

import click
from rich.text import Text

from rowlock.app import Rowlock
from rowlock.cli.commands import acts, watching
from rowlock.cli.run import running
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import (
    NOTHING,
    attempt_of,
    in_one_line,
    number,
    pretty,
    print_details,
    print_table,
    print_text,
    shown,
    state,
    text,
    time_of,
    whole,
)
from rowlock.queue.jobs.job import Job, LogLine
from rowlock.queue.read.operations import Operation
from rowlock.queue.read.pages import MOST_PER_PAGE, JobPage
from rowlock.queue.read.reader import list_attempts, parse_id
from rowlock.wire.jobs import JobDetail, JobLogs, JobSummary

Row: TypeAlias = Mapping[str, Any]

_ALWAYS: Final = (
    *("id", "task", "args_version", "queue", "priority", "attempt", "max_attempts", "errors", "crashes", "unique_key"),
    *("timeout", "created_at", "run_at", "started_at", "finished_at", "worker", "error"),
)
"""The fields shown of each job; the other fields of a list are shown if they have a value."""
_HIDDEN: Final = "not shown: its task is sensitive"

_COLUMNS: Final = (
    whole("ID"),
    whole("STATE"),
    text("TASK", 12),
    text("QUEUE", 6, leaves=2),
    whole("ATTEMPT", leaves=3),
    whole("CREATED", leaves=1),
    text("ERROR", 8, leaves=4),
)
_ATTEMPTS: Final = (
    number("ATTEMPT"),
    whole("OUTCOME"),
    whole("STARTED", leaves=2),
    whole("ENDED"),
    whole("TOOK"),
    whole("WORKER", leaves=1),
    text("ERROR"),
)
_ACTS: Final = (whole("AT"), whole("VERB"), text("BY"), whole("FROM"), text("DETAILS"))


@click.group("jobs", short_help="List jobs, wait for them, act on them.")
def command() -> None:
    """List and show jobs, live and finished; wait for them; cancel, reschedule, retry, repeat, discard, delete them."""


command.add_command(acts.cancel)
command.add_command(acts.reschedule)
command.add_command(acts.run_now)
command.add_command(acts.retry)
command.add_command(acts.run_again)
command.add_command(acts.discard)
command.add_command(acts.delete)
command.add_command(watching.watch)
command.add_command(watching.result)


@command.command("list")
@acts.with_filters
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=50, show_default=True)
@click.option("--before", type=click.UUID, metavar="ID", help="The next page: the last job's id of this one.")
@with_json
def list_command(
    limit: int,
    before: UUID | None,
    as_json: bool,  # noqa: FBT001  # click's
    **given: Any,  # noqa: ANN401  # click's options
) -> None:
    """List jobs, newest first."""
    which = acts.filter_of(given)

    async def read() -> JobPage:
        async with Rowlock() as app:
            return await app.jobs.list(which, before=before, limit=limit)

    print_jobs(running.run(read()), as_json=as_json, none="No jobs.")


def print_jobs(jobs: JobPage, *, as_json: bool, none: str) -> None:
    """Print a page of jobs, and the option of the next page."""
    if as_json:
        print_json([JobSummary.of(job) for job in jobs])
        return
    if jobs:
        print_table(_COLUMNS, map(_row, jobs))
    elif jobs.following is None:
        note(none)
    if jobs.following is not None:
        so_far = "More" if jobs.searched_until is None else f"Searched back to {time_of(jobs.searched_until)}; further"
        note(f"{so_far}: --before {jobs.following}")


def _row(job: Job) -> Sequence[object]:
    job, attempt = job.redacted(), attempt_of(job.attempt, job.max_attempts)
    return job.id, state(job.state), job.task, job.queue, attempt, job.created_at, job.error or ""


@command.command("show", short_help="Show one job with its attempts.")
@click.argument("job_id", metavar="ID")
@click.option("--logs", is_flag=True, help="Also show its log lines.")
@with_json
def show_command(job_id: str, logs: bool, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show one job: its arguments and result, its attempts, and its audit."""

    async def read() -> tuple[Job, list[Row], list[Operation], list[LogLine]]:
        async with Rowlock() as app:
            job = await app.get(parse_id(job_id))
            attempts = await list_attempts(app.database, job.id)
            if job.is_sensitive:
                attempts = [row | {"message": None, "traceback": None} for row in map(dict, attempts)]
            done = await app.operations(target_kind="job", target=str(job.id), limit=MOST_PER_PAGE)
            return job, attempts, done, await app.jobs.logs(job.id) if logs and not job.is_sensitive else []

    job, attempts, done, lines = running.run(read())
    if as_json:
        detail = JobDetail.with_attempts(job, attempts)
        members: dict[str, object] = {name: getattr(detail, name) for name in detail.__struct_fields__}
        print_json(members | {"operations": done} | ({"logs": lines} if logs else {}))
        return
    print_details(_fields(job))
    _print_attempts(job, attempts)
    if done:
        print_text("\naudit:")
        print_table(_ACTS, ((one.at, one.verb, one.by, one.source, in_one_line(one.details)) for one in done))
    if logs:
        print_text("\nlogs:" if lines else "\nlogs: none")
        print_lines(lines)


@command.command("logs", short_help="Show the log lines of a job.")
@click.argument("job_id", metavar="ID")
@with_json
def logs_command(job_id: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show the log lines of a job's ended attempts, if its task has capture_logs."""

    async def read() -> tuple[Job, list[LogLine]]:
        async with Rowlock() as app:
            job = await app.get(parse_id(job_id))
            return job, [] if job.is_sensitive else await app.jobs.logs(job.id)

    job, lines = running.run(read())
    if as_json:
        print_json(JobLogs(id=job.id, lines=lines))
    elif job.is_sensitive:
        note(f"The task {job.task} is sensitive: the log lines of its jobs are not shown.")
    elif not lines:
        note(f"Nothing was logged, or task {job.task} has no capture_logs.")
    else:
        print_lines(lines)


def print_lines(lines: Sequence[LogLine]) -> None:
    """Print log lines: attempt, time, level and text."""
    for line in lines:
        at = line.at.astimezone().isoformat(sep=" ", timespec="milliseconds")
        print_text(f"{line.attempt}  {at}  {line.level:8} {line.text}")


def _fields(job: Job) -> Iterator[tuple[str, object]]:
    job = job.redacted()
    yield "state", state(job.state)
    for name in _ALWAYS:
        yield name, getattr(job, name)
    for name in JobSummary.__struct_fields__:
        if name not in {"state", *_ALWAYS, "unique", "is_sensitive"} and (value := getattr(job, name)):
            yield name, _joined(value)
    yield "progress", _progress(job)
    yield "args", _HIDDEN if job.is_sensitive else pretty(job.args)
    yield "result", None if job.result_json is None else pretty(job.result)


def _joined(value: object) -> object:
    """Join several texts, or texts by key, in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={text}" for key, text in sorted(value.items()))
    return ", ".join(value) if isinstance(value, list) else value


def _print_attempts(job: Job, attempts: Sequence[Row]) -> None:
    rows = [*map(_ended, attempts), *_last(job, attempts)]
    if not rows:
        return
    print_text("\nattempts:")
    print_table(_ATTEMPTS, rows)
    for attempt in attempts:
        if attempt["traceback"]:
            print_text(f"\nattempt {attempt['attempt']}:\n{attempt['traceback'].rstrip()}")


def _ended(row: Row) -> Sequence[object]:
    error = ": ".join(str(part) for part in (row["error_type"], row["message"]) if part)
    began, ended = row["started_at"], row["finished_at"]
    took = NOTHING if began is None else ended - began
    return row["attempt"], state(row["outcome"]), began, ended, took, row["worker"], error


def _last(job: Job, attempts: Sequence[Row]) -> Iterator[Sequence[object]]:
    """The running or successful attempt, which has no row of its own."""
    if job.state not in {"running", "succeeded"} or any(row["attempt"] == job.attempt for row in attempts):
        return
    took = NOTHING if job.finished_at is None or job.started_at is None else job.finished_at - job.started_at
    yield job.attempt, state(job.state), job.started_at, job.finished_at, took, job.worker, ""


def _progress(job: Job) -> Text:
    told = job.last_progress
    if told is None:
        return shown(None)
    what = f" {told.message}" if told.message else ""
    return shown(f"{told.fraction:.0%}{what} (attempt {told.attempt}, {time_of(told.updated_at)})")
