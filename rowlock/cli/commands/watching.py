"""`rowlock jobs watch | result`: follow one job until it ends, or print its result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from rowlock.app import Rowlock
from rowlock.cli.commands.values import NumberRange
from rowlock.cli.run import running
from rowlock.cli.run.running import AWAY
from rowlock.cli.show.output import Exit, complain, escaped_json, note, print_json, with_json
from rowlock.cli.show.tables import attempt_of, pretty, print_text, time_of
from rowlock.errors import ResultTimeout
from rowlock.queue.jobs.job import Job
from rowlock.queue.read.handle import wait_until_finished
from rowlock.queue.read.reader import list_attempts, parse_id
from rowlock.wire.jobs import Succeeded, Unsuccessful

LOOK_EVERY: Final = 1.0
"""Seconds between readings of the progress; the job's end wakes the command at once."""


@click.command("watch", short_help="Follow a job until it ends.")
@click.argument("job_id", metavar="ID")
@click.option("--timeout", type=NumberRange(min=0), metavar="SECONDS", help="The longest wait. [default: unlimited]")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON at each change.")
def watch(job_id: str, timeout: float | None, as_json: bool) -> int:  # noqa: FBT001  # click's
    """Follow a job until it ends: print a line whenever its state, attempt or progress changes.

    Also print a line for each attempt that ends before the job: crashed, released (given back), error and so on.

    Exits with 0 if it succeeded, else with 1.
    """
    return running.run(_watch(job_id, timeout, as_json=as_json))


async def _watch(job_id: str, timeout: float | None, *, as_json: bool) -> int:
    clock = asyncio.get_running_loop().time
    ends = None if timeout is None else clock() + timeout
    told: dict[str, object] = {}
    attempts_told = 0
    async with Rowlock() as app:
        job = await app.get(parse_id(job_id))
        while True:
            if (now := _told(job)) != told:
                told = now
                attempts = await _attempts(app, job)
                if not as_json:
                    for row in attempts[attempts_told:]:
                        if job.is_finished and row["attempt"] == job.attempt:
                            break  # the line of the job's end shows it
                        print_text(f"{time_of(row['finished_at'])}  attempt {row['attempt']} {row['outcome']}")
                attempts_told = max(attempts_told, len(attempts))
                _tell(job, told | {"outcomes": [row["outcome"] for row in attempts]}, as_json=as_json)
            if job.is_finished:
                return Exit.DONE if job.state == "succeeded" else Exit.NO
            left = LOOK_EVERY if ends is None else min(LOOK_EVERY, ends - clock())
            if left <= 0:
                raise ResultTimeout(
                    f"Job {job.id} ({job.task}) is still {job.state} after {timeout:g} s. The job goes on."
                )
            job = await _looked(app, job, left)


async def _looked(app: Rowlock, job: Job, seconds: float) -> Job:
    """Return the job after a wait, or unchanged, with a note, if the database is away."""
    try:
        return await wait_until_finished(app.database, job.id, seconds)
    except AWAY as error:
        note(f"The database does not answer; retrying. ({type(error).__name__})")
        await asyncio.sleep(seconds)
        return job


async def _attempts(app: Rowlock, job: Job) -> list[Mapping[str, Any]]:
    """The job's attempts that are over, but for one that simply succeeded: crashed, released and so on."""
    try:
        return await list_attempts(app.database, job.id)
    except AWAY:
        return []  # the next change prints them


def _told(job: Job) -> dict[str, object]:
    job = job.redacted()
    told = job.last_progress
    progress = None if told is None else {"fraction": told.fraction, "message": told.message}
    return {"id": job.id, "state": job.state, "attempt": job.attempt, "progress": progress, "error": job.error}


def _tell(job: Job, told: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(escaped_json(msgspec.json.encode(told)))
        return
    job = job.redacted()
    at = job.finished_at or (job.last_progress.updated_at if job.last_progress else None)
    at = at or job.started_at or job.created_at
    words = [time_of(at), job.state, f"attempt {attempt_of(job.attempt, job.max_attempts)}"]
    if job.last_progress is not None and not job.is_finished:
        words.append(f"{job.last_progress.fraction:.0%} {job.last_progress.message or ''}".rstrip())
    print_text("  ".join([*words, *([job.error] if job.error else [])]))


@click.command("result", short_help="Print the result of a job.")
@click.argument("job_id", metavar="ID")
@click.option("--wait", type=NumberRange(min=0), default=0.0, metavar="SECONDS", help="How long to wait for its end.")
@with_json
def result(job_id: str, wait: float, as_json: bool) -> int:  # noqa: FBT001  # click's
    """Print the result of a job as JSON. Exits with 1 if it has none: it is unfinished, or did not succeed."""
    job = running.run(_waited(job_id, wait)).redacted()
    if not job.is_finished:
        return complain(f"Job {job.id} ({job.task}) is still {job.state}. Wait longer with --wait.", code=Exit.NO)
    if job.state != "succeeded":
        if as_json:
            print_json(Unsuccessful.of(job))
        return complain(f"Job {job.id} ({job.task}) has {job.state}: {job.error or 'no error'}", code=Exit.NO)
    if as_json:
        print_json(Succeeded.of(job))
    else:
        click.echo(escaped_json(pretty(job.result).encode()))
    return Exit.DONE


async def _waited(job_id: str, seconds: float) -> Job:
    async with Rowlock() as app:
        return await wait_until_finished(app.database, parse_id(job_id), seconds)


__all__ = ["result", "watch"]
