"""`rowlock enqueue`: one job, from a shell."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TypedDict

import click
import msgspec

from rowlock.app import Rowlock
from rowlock.cli import running
from rowlock.cli.loading import load
from rowlock.cli.output import print_json
from rowlock.errors import InvalidArguments, InvalidOption
from rowlock.queue.job import JobHandle


class _Options(TypedDict):
    """What `app.enqueue` takes by the same names."""

    queue: str | None
    priority: int | None
    delay: float | None
    run_at: datetime | None
    max_attempts: int | None
    timeout: float | None
    unique: str | None
    expires: float | datetime | None
    deadline: float | datetime | None


@click.command("enqueue")
@click.argument("task")
@click.argument("args_json", default="{}")
@click.option("--app", metavar="APP", help="module:attribute of the application, like tasks:app: checks the arguments.")
@click.option("--queue", help="Another queue than the task's.")
@click.option("--priority", type=int, help="0 (last) to 9 (first).")
@click.option("--delay", type=float, metavar="SECONDS", help="Not before so many seconds from now.")
@click.option("--run-at", metavar="TIME", help="Not before this time: ISO 8601 with a time zone.")
@click.option("--max-attempts", type=int, help="How often it may fail before it is given up.")
@click.option("--timeout", type=float, metavar="SECONDS", help="The most that one attempt may take.")
@click.option("--expires", metavar="LIMIT", help="Not started by then, it never runs: seconds from now, or a time.")
@click.option("--deadline", metavar="LIMIT", help="By then it is over, one way or the other: seconds, or a time.")
@click.option("--unique", metavar="KEY", help="Only one live job of this task may hold the key.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(  # noqa: PLR0917  # click's: a parameter an option
    task: str,
    args_json: str,
    app: str | None,
    queue: str | None,
    priority: int | None,
    delay: float | None,
    run_at: str | None,
    max_attempts: int | None,
    timeout: float | None,
    expires: str | None,
    deadline: str | None,
    unique: str | None,
    as_json: bool,  # noqa: FBT001  # click's
) -> None:
    """Enqueue a job of TASK and print its id.

    ARGS_JSON is an object with an argument a key: '{"recipient": "ada@example.com"}'; - reads it from standard input.
    """
    text = sys.stdin.read() if args_json == "-" else args_json
    args, due = parse_args(text), parse_time("run_at", run_at)
    options = _Options(
        queue=queue,
        priority=priority,
        delay=delay,
        run_at=due,
        max_attempts=max_attempts,
        timeout=timeout,
        unique=unique,
        expires=parse_limit("expires", expires),
        deadline=parse_limit("deadline", deadline),
    )
    handle = running.run(_enqueue(load(app), task, args, options))
    if as_json:
        print_json({"id": handle.id, "task": handle.task, "is_duplicate": handle.is_duplicate})
        return
    click.echo(handle.id)
    if handle.is_duplicate:
        click.echo(f"Nothing new was enqueued: this job holds the key {unique!r} already.", err=True)


def parse_args(text: str) -> dict[str, object]:
    """The arguments, from their JSON. Raises `InvalidArguments` that says where it ends being JSON."""
    try:
        args = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidArguments(
            f'The arguments are not JSON ({error}): write an object, in quotes, as \'{{"name": "value"}}\'.'
        ) from error
    if not isinstance(args, dict):
        raise InvalidArguments('The arguments are not a JSON object: name each one, as in \'{"name": "value"}\'.')
    return args


def parse_limit(option: str, text: str | None) -> float | datetime | None:
    """Seconds, or a time in ISO 8601. Raises `InvalidOption`."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return parse_time(option, text)


def parse_time(option: str, text: str | None) -> datetime | None:
    """The time, from ISO 8601. Raises `InvalidOption`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidOption(f"{option} {text!r} is not a time: write it as 2030-01-31T09:00:00Z.") from error
    if moment.utcoffset() is None:
        raise InvalidOption(f"{option} {text!r} has no time zone: write it as 2030-01-31T09:00:00Z, or with +02:00.")
    return moment


async def _enqueue(app: Rowlock, task: str, args: dict[str, object], options: _Options) -> JobHandle[object]:
    async with app:
        return await app.enqueue(task, args, **options)
