"""`rowlock enqueue-many`: enqueue the jobs of a file, all or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

import click
import msgspec

from rowlock.app import Rowlock
from rowlock.cli.run import running
from rowlock.cli.run.loading import load
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.errors import InvalidArguments, InvalidJob, RowlockError
from rowlock.queue.enqueue.errors import EnqueueUnknown
from rowlock.queue.jobs.json_values import NESTING_LIMIT
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.options import JobOptions
from rowlock.queue.read.handle import JobHandle
from rowlock.wire.jobs import EnqueuedOne, JobRequest


@click.command("enqueue-many", short_help="Enqueue the jobs of a file, all or none.")
@click.argument("file", type=click.File(encoding="utf-8"), default="-")
@click.option("--app", metavar="APP", help="module:attribute of the application, like tasks:app: checks the arguments.")
@with_json
def command(file: TextIO, app: str | None, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Enqueue the jobs of FILE in one transaction, all or none, and print their ids. FILE defaults to standard input.

    FILE is an array of JSON objects, or one object per line, like {"task": "send_email", "args": {"recipient": "ada"}}.
    """
    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise InvalidArguments(f"The file must be UTF-8: {error}") from error
    handles = running.run(_enqueue(load(app), read_jobs(text)))
    if as_json:
        print_json([EnqueuedOne(id=one.id, task=one.task, is_duplicate=one.is_duplicate) for one in handles])
        return
    for handle in handles:
        click.echo(handle.id)
    if duplicates := sum(handle.is_duplicate for handle in handles):
        note(f"{duplicates} of them are not new: these jobs already hold the unique keys.")


def read_jobs(text: str) -> list[JobRequest]:
    """Parse the jobs of a file. Raises `InvalidArguments` with the number of the invalid job."""
    try:
        if text.lstrip().startswith("["):
            given = msgspec.json.decode(text, type=list[msgspec.Raw])
        else:
            given = [msgspec.Raw(line.encode()) for line in text.splitlines() if line.strip()]
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidArguments(f"The file must be an array of JSON objects: {error}") from error
    except RecursionError as error:
        raise InvalidArguments(f"Each job must be nested at most {NESTING_LIMIT} levels deep.") from error
    if not given:
        raise InvalidArguments("The file must have at least one job: an array of objects, or one object per line.")
    return [_read(number, one) for number, one in enumerate(given, 1)]


def _read(number: int, given: msgspec.Raw) -> JobRequest:
    try:
        return msgspec.json.decode(given, type=JobRequest)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidArguments(
            f'Job {number} must be {{"task": …, "args": {{…}}}}, with options of POST /v1/jobs ({error}).'
        ) from error
    except RecursionError as error:
        raise InvalidArguments(f"Job {number} must be nested at most {NESTING_LIMIT} levels deep.") from error


async def _enqueue(app: Rowlock, given: Sequence[JobRequest]) -> list[JobHandle[Any]]:
    usual: dict[str, JobOptions] = {}
    jobs: list[NewJob[Any]] = []
    async with app:
        for number, one in enumerate(given, 1):
            try:
                if one.task not in usual:
                    usual[one.task] = await app.by_name.usual_options(one.task, None)
                jobs.append(
                    app.by_name.make(one.task, one.args, usual[one.task], one.options, args_version=one.args_version)
                )
            except InvalidJob as error:
                raise type(error)(f"Job {number} is invalid, so no job was enqueued: {error}") from error
        try:
            stored, held = await app.store.enqueue_many(jobs)
        except EnqueueUnknown as error:
            raise RowlockError(
                "The connection to the database was lost before it answered: either all jobs of the file are stored "
                f"or none. Run `rowlock jobs show {jobs[0].id}`. If there is no such job, run this command again."
            ) from error
        return await app.by_name.handles(stored, held, None)


__all__ = ["command", "read_jobs"]
