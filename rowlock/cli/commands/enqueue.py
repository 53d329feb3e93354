"""`rowlock enqueue`: enqueue one job."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TypedDict, get_args

import click
import msgspec

from rowlock.app import Rowlock
from rowlock.cli.commands.values import NUMBER
from rowlock.cli.run import running
from rowlock.cli.run.loading import load
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.errors import InvalidArguments, InvalidOption, UnknownTask
from rowlock.queue.jobs.checks import metadata_pairs
from rowlock.queue.jobs.json_values import NESTING_LIMIT
from rowlock.queue.jobs.unique import OnDuplicate, Unique, Until
from rowlock.queue.read.handle import JobHandle
from rowlock.wire.jobs import EnqueuedOne
from rowlock.words import quoted


class _Options(TypedDict):
    """The options of `app.enqueue`, by the same names."""

    queue: str | None
    priority: int | None
    delay: float | None
    run_at: datetime | None
    max_attempts: int | None
    timeout: float | None
    unique: Unique | None
    expires: float | datetime | None
    deadline: float | datetime | None
    tags: tuple[str, ...]
    metadata: dict[str, str]
    args_version: int | None


@click.command("enqueue")
@click.argument("task")
@click.argument("args_json", default="{}")
@click.option("--app", metavar="APP", help="module:attribute of the application, like tasks:app: checks the arguments.")
@click.option("--queue", help="The queue, instead of the task's.")
@click.option("--priority", type=int, help="0 (last) to 9 (first).")
@click.option("--delay", type=NUMBER, metavar="SECONDS", help="The delay from now.")
@click.option("--run-at", metavar="TIME", help="The due time: ISO 8601 with a time zone.")
@click.option("--max-attempts", type=int, help="How many attempts may fail before the job fails.")
@click.option("--timeout", type=NUMBER, metavar="SECONDS", help="The most that one attempt may take.")
@click.option("--expires", metavar="LIMIT", help="If not started by then, it never runs: seconds, or a time.")
@click.option("--deadline", metavar="LIMIT", help="It ends by then, whatever its outcome: seconds, or a time.")
@click.option("--unique", "key", metavar="KEY", help="Only one live job of this task may hold the key.")
@click.option("--unique-by", metavar="NAMES", help="The same, with a key of these arguments: recipient,subject.")
@click.option(
    "--unique-until", type=click.Choice(get_args(Until)), help="The key is held until the job's finish, or its start."
)
@click.option(
    "--unique-period", type=NUMBER, metavar="SECONDS", help="The key is held for so long, whatever the job's outcome."
)
@click.option("--unique-across-tasks", is_flag=True, help="Jobs of other tasks cannot hold the key either.")
@click.option("--on-duplicate", type=click.Choice(get_args(OnDuplicate)), help="How to treat a duplicate.")
@click.option("--tag", "tags", multiple=True, help="A word to find the job by; may be repeated.")
@click.option("--metadata", metavar="KEY=TEXT", multiple=True, help="A text to find the job by; may be repeated.")
@click.option("--args-version", type=int, metavar="N", help="The task's version for which the arguments are written.")
@with_json
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
    key: str | None,
    unique_by: str | None,
    unique_until: Until | None,
    unique_period: float | None,
    unique_across_tasks: bool,  # noqa: FBT001  # click's
    on_duplicate: OnDuplicate | None,
    tags: tuple[str, ...],
    metadata: tuple[str, ...],
    args_version: int | None,
    as_json: bool,  # noqa: FBT001  # click's
) -> None:
    """Enqueue a job of TASK and print its id.

    ARGS_JSON is an object with one key per argument: '{"recipient": "ada@example.com"}'; - reads standard input.
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
        unique=make_unique(
            key,
            unique_by,
            until=unique_until,
            period=unique_period,
            across_tasks=unique_across_tasks,
            on_duplicate=on_duplicate,
        ),
        expires=parse_limit("expires", expires),
        deadline=parse_limit("deadline", deadline),
        tags=tags,
        metadata=metadata_pairs("metadata", metadata, "="),
        args_version=args_version,
    )
    try:
        handle = running.run(_enqueue(load(app), task, args, options))
    except UnknownTask as error:
        if app is None:
            raise UnknownTask(f"{error} Or name its application: --app shop:queue") from error
        raise
    if as_json:
        print_json(EnqueuedOne(id=handle.id, task=handle.task, is_duplicate=handle.is_duplicate))
        return
    click.echo(handle.id)
    if handle.is_duplicate:
        held = "made of its arguments" if key is None else quoted(key)
        note(f"No new job was enqueued: this one already holds the key {held}.")


def parse_args(text: str) -> dict[str, object]:
    """Parse the arguments from JSON. Raises `InvalidArguments` with the position of a JSON error."""
    try:
        args = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidArguments(
            f'The arguments must be a JSON object in quotes, like \'{{"name": "value"}}\' ({error}).'
        ) from error
    except RecursionError as error:
        raise InvalidArguments(f"The arguments must be nested at most {NESTING_LIMIT} levels deep.") from error
    if not isinstance(args, dict):
        raise InvalidArguments('The arguments must be a JSON object that names each one, like \'{"name": "value"}\'.')
    return args


def make_unique(
    key: str | None,
    by: str | None,
    *,
    until: Until | None,
    period: float | None,
    across_tasks: bool,
    on_duplicate: OnDuplicate | None,
) -> Unique | None:
    """Make the rules of uniqueness from the options. Raises `InvalidOption`, also for options without a key."""
    if key is None and by is None:
        if until or period is not None or across_tasks or on_duplicate:
            raise InvalidOption(
                "--unique-until, --unique-period, --unique-across-tasks and --on-duplicate need a key: "
                "add --unique or --unique-by."
            )
        return None
    return Unique(
        key,
        by=None if by is None else "arguments" if by == "arguments" else by.split(","),
        until=until or "finish",
        period=period,
        across_tasks=across_tasks,
        on_duplicate=on_duplicate or "return",
    )


def parse_limit(option: str, text: str | None) -> float | datetime | None:
    """Parse seconds, or a time in ISO 8601. Raises `InvalidOption`."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return parse_time(option, text)


def parse_time(option: str, text: str | None) -> datetime | None:
    """Parse a time in ISO 8601. Raises `InvalidOption`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidOption(f"{option} must be a time like 2030-01-31T09:00:00Z; got {quoted(text)}.") from error
    if moment.utcoffset() is None:
        raise InvalidOption(f"{option} must have a time zone, like 2030-01-31T09:00:00Z or +02:00; got {quoted(text)}.")
    return moment


async def _enqueue(app: Rowlock, task: str, args: dict[str, object], options: _Options) -> JobHandle[object]:
    async with app:
        return await app.enqueue(task, args, **options)
