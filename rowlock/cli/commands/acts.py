"""The acts of `rowlock jobs`: on jobs by id, or in bulk on all jobs that match a filter."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Final, TypeAlias, TypeVar

import click

from rowlock.app import Rowlock
from rowlock.cli.commands.enqueue import parse_args
from rowlock.cli.commands.values import MOMENT
from rowlock.cli.run import running
from rowlock.cli.run.loading import load
from rowlock.cli.show.output import Exit, code_of, complain, confirm, counted, note, print_json, with_json
from rowlock.errors import InvalidOption, RowlockError
from rowlock.queue.jobs.actor import LONGEST_NAME, Origin
from rowlock.queue.jobs.checks import metadata_pairs
from rowlock.queue.jobs.filter import JobFilter
from rowlock.queue.jobs.lifecycle import SHOWN
from rowlock.queue.jobs.rescheduling import Change
from rowlock.queue.operate.bulk import BulkResult
from rowlock.queue.operate.jobs import Jobs
from rowlock.words import quoted

F = TypeVar("F", bound=Callable[..., Any])
One: TypeAlias = Callable[[Jobs, str], Awaitable[str]]
Many: TypeAlias = Callable[[Jobs, JobFilter, bool], Awaitable[BulkResult]]


_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FILTERS: Final = (
    click.option("--state", type=click.Choice(SHOWN), help="Only jobs in this state."),
    click.option("--queue", help="Only jobs of this queue."),
    click.option("--task", help="Only jobs of this task."),
    click.option("--after", type=click.UUID, metavar="ID", help="Only jobs with ids above this one: enqueued later."),
    click.option("--older-than", metavar="AGE", help="Only jobs created longer ago: 90s, 15m, 2h, 7d."),
    click.option("--newer-than", metavar="AGE", help="Only jobs created not longer ago than this."),
    click.option("--error", metavar="TEXT", help="Only jobs whose error contains this text."),
    click.option(
        "--error-kind", metavar="TEXT", help="Only jobs with an error of this kind, as in dead-letters groups."
    ),
    click.option("--tag", help="Only jobs with this tag."),
    click.option(
        "--metadata",
        metavar="KEY=TEXT",
        multiple=True,
        help="Only jobs with this metadata; may be repeated.",
    ),
    click.option("--text", metavar="TEXT", help="Only jobs with this text somewhere in their arguments."),
    click.option("--created-after", type=MOMENT, metavar="TIME", help="Only jobs created at this time or later."),
    click.option("--created-before", type=MOMENT, metavar="TIME", help="Only jobs created earlier."),
    click.option("--args-contain", metavar="JSON", help="Only jobs with these arguments: '{\"account\": 7}'."),
)
_ACT_ON_MANY: Final = (
    *_FILTERS,
    click.option("--before", type=click.UUID, metavar="ID", help="Only jobs with ids below this one."),
    click.option("--everything", is_flag=True, help="All jobs: required without a filter."),
    click.option("--dry-run", is_flag=True, help="Change nothing; print how many jobs match."),
    click.option("--yes", is_flag=True, help="Do not ask."),
    with_json,
)


def with_filters(command: F) -> F:
    """Add the options of a filter to the command; `filter_of` makes the filter of their values."""
    return reduce(lambda done, option: option(done), reversed(_FILTERS), command)


def filter_of(given: Mapping[str, Any]) -> JobFilter:
    """Make the filter of a command's options. Raises `InvalidOption`."""
    contained = given["args_contain"]
    return JobFilter(
        **{
            name: given.get(name)
            for name in ("state", "queue", "task", "after", "before", "error", "error_kind", "tag", "text")
        },
        created_after=given["created_after"],
        created_before=given["created_before"],
        older_than=age("older_than", given["older_than"]),
        newer_than=age("newer_than", given["newer_than"]),
        args=None if contained is None else parse_args(contained),
        metadata=metadata_pairs("metadata", given["metadata"], "=") or None,
    )


def me() -> Origin:
    """Return the user of this terminal, for the audit."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = ""
    return Origin(by=name if name.isprintable() and 1 <= len(name) <= LONGEST_NAME else None, source="cli")


def _on_one_or_many(command: F) -> F:
    with_options = reduce(lambda done, option: option(done), reversed(_ACT_ON_MANY), command)
    return click.argument("job_ids", metavar="[ID]...", nargs=-1)(with_options)


@click.command("cancel", short_help="Cancel jobs: waiting ones at once, running ones by notifying them.")
@_on_one_or_many
@click.option("--reason", metavar="TEXT", help="Kept with the job and in the audit.")
def cancel(job_ids: Sequence[str], reason: str | None, **given: Any) -> int:  # noqa: ANN401  # click's options
    """Cancel the jobs with these IDs, or all that match the options.

    A waiting job never starts; a running job is notified to stop.
    """

    async def one(jobs: Jobs, job_id: str) -> str:
        return await jobs.cancel(job_id, reason=reason)

    async def many(jobs: Jobs, which: JobFilter, dry_run: bool) -> BulkResult:  # noqa: FBT001
        return await jobs.cancel_many(which, reason=reason, dry_run=dry_run, everything=True)

    return _run("cancel", job_ids, given, one, many)


@click.command("reschedule", short_help="Change the due time, priority or queue of waiting jobs.")
@_on_one_or_many
@click.option("--delay", metavar="TIME", help="The delay from now: 90s, 15m, 2h, 7d.")
@click.option("--run-at", type=MOMENT, metavar="TIME", help="The due time.")
@click.option("--priority", type=int, help="0 (last) to 9 (first).")
@click.option("--to-queue", metavar="QUEUE", help="The new queue; --queue is a filter.")
def reschedule(
    job_ids: Sequence[str],
    delay: str | None,
    run_at: datetime | None,
    priority: int | None,
    to_queue: str | None,
    **given: Any,  # noqa: ANN401  # click's options
) -> int:
    """Change the due time, priority or queue of the waiting jobs with these IDs, or of all that match the options.

    An omitted option stays unchanged.
    """
    new = {"delay": age("delay", delay), "run_at": run_at, "priority": priority, "queue": to_queue}
    return _reschedule("reschedule", job_ids, given, new)


@click.command("run-now", short_help="Make waiting jobs due now.")
@_on_one_or_many
def run_now(job_ids: Sequence[str], **given: Any) -> int:  # noqa: ANN401  # click's options
    """Make the waiting jobs with these IDs due now, or all that match the options."""
    return _reschedule("run now", job_ids, given, {"delay": 0, "run_at": None, "priority": None, "queue": None})


def _reschedule(verb: str, job_ids: Sequence[str], given: Mapping[str, Any], new: Mapping[str, Any]) -> int:
    Change.of(**new)  # check before connecting

    async def one(jobs: Jobs, job_id: str) -> str:
        return (await jobs.reschedule(job_id, **new)).state

    async def many(jobs: Jobs, which: JobFilter, dry_run: bool) -> BulkResult:  # noqa: FBT001
        return await jobs.reschedule_many(which, **new, dry_run=dry_run, everything=True)

    why = "they would be due after they expire or after their deadline"
    return _run(verb, job_ids, given, one, many, why_skipped=why)


@click.command("delete", short_help="Delete finished jobs for good.")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_json
def delete(job_ids: Sequence[str], yes: bool, as_json: bool) -> int:  # noqa: FBT001  # click's
    """Delete the finished jobs with these IDs for good, with their attempts, logs, results and checkpoints."""
    if not yes and not confirm(
        f"Delete {counted(len(job_ids), 'job')} for good?", otherwise="To delete them without confirmation, use --yes."
    ):
        note("Nothing was changed.")
        return Exit.NO

    async def one(jobs: Jobs, job_id: str) -> str:
        await jobs.delete(job_id)
        return "deleted"

    return running.run(_one_by_one(load(None), job_ids, one, as_json=as_json))


@click.command("retry", short_help="Retry failed, cancelled or expired jobs.")
@_on_one_or_many
@click.option("--args", "args_json", metavar="JSON", help="Arguments that replace the job's; for one ID.")
@click.option("--app", "app_name", metavar="APP", help="module:attribute of the application: checks the arguments.")
def retry(
    job_ids: Sequence[str],
    args_json: str | None,
    app_name: str | None,
    **given: Any,  # noqa: ANN401  # click's options
) -> int:
    """Retry the finished jobs with these IDs, or all dead letters that match the options."""
    if args_json is not None and len(job_ids) != 1:
        raise click.UsageError("--args must be used with exactly one ID.", click.get_current_context())
    args = None if args_json is None else parse_args(args_json)

    async def one(jobs: Jobs, job_id: str) -> str:
        await jobs.retry(job_id, args=args)
        return "queued"

    async def many(jobs: Jobs, which: JobFilter, dry_run: bool) -> BulkResult:  # noqa: FBT001
        return await jobs.retry_many(which, dry_run=dry_run, everything=True)

    return _run("retry", job_ids, given, one, many, app_name)


@click.command("run-again", short_help="Enqueue copies of finished jobs.")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--args", "args_json", metavar="JSON", help="Arguments that replace the job's; for one ID.")
@click.option("--app", "app_name", metavar="APP", help="module:attribute of the application: checks the arguments.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the new job's id by the old one's.")
def run_again(job_ids: Sequence[str], args_json: str | None, app_name: str | None, as_json: bool) -> int:  # noqa: FBT001  # click's
    """Enqueue a copy of each finished job with these IDs, whatever its outcome, and print the new IDs."""
    if args_json is not None and len(job_ids) != 1:
        raise click.UsageError("--args must be used with exactly one ID.", click.get_current_context())
    args = None if args_json is None else parse_args(args_json)

    async def one(jobs: Jobs, job_id: str) -> str:
        return str((await jobs.run_again(job_id, args=args)).id)

    return running.run(_one_by_one(load(app_name), job_ids, one, as_json=as_json))


@click.command("discard", short_help="Discard dead letters.")
@_on_one_or_many
def discard(job_ids: Sequence[str], **given: Any) -> int:  # noqa: ANN401  # click's options
    """Discard the dead letters with these IDs, or all that match the options. They stay failed, for the audit."""

    async def one(jobs: Jobs, job_id: str) -> str:
        await jobs.discard(job_id)
        return "discarded"

    async def many(jobs: Jobs, which: JobFilter, dry_run: bool) -> BulkResult:  # noqa: FBT001
        return await jobs.discard_many(which, dry_run=dry_run, everything=True)

    return _run("discard", job_ids, given, one, many)


def _run(  # noqa: PLR0917  # both forms of one act, and its options
    verb: str,
    job_ids: Sequence[str],
    given: Mapping[str, Any],
    one: One,
    many: Many,
    app_name: str | None = None,
    *,
    why_skipped: str = "another job holds their unique key",
) -> int:
    everything, dry_run, yes, as_json = (bool(given[name]) for name in ("everything", "dry_run", "yes", "as_json"))
    which = filter_of(given)
    if job_ids:
        if dry_run or everything or not which.is_empty:
            raise click.UsageError("Jobs must be named by IDs or by a filter, not both.", click.get_current_context())
        return running.run(_one_by_one(load(app_name), job_ids, one, as_json=as_json))
    if which.is_empty and not everything:
        raise InvalidOption(f"Jobs must be named: by IDs, by a filter, or by --everything to {verb} all.")
    acting = _all(load(app_name), verb, which, many, dry_run=dry_run, yes=yes, as_json=as_json, why_skipped=why_skipped)
    return running.run(acting)


async def _one_by_one(app: Rowlock, job_ids: Sequence[str], act: One, *, as_json: bool) -> int:
    """Act on each job, also after an error; return the worst exit code."""
    done: dict[str, str] = {}
    code: int = Exit.DONE
    async with running.changing(app):
        jobs = app.jobs.through(me())
        for job_id in job_ids:
            try:
                done[job_id] = await act(jobs, job_id)
            except RowlockError as error:
                code = max(code, complain(error, code=code_of(error)))
            else:
                if not as_json:
                    click.echo(f"{job_id} {done[job_id]}")
    if as_json:
        print_json(done)
    return code


async def _all(
    app: Rowlock,
    verb: str,
    which: JobFilter,
    act: Many,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    why_skipped: str,
) -> int:
    async with running.changing(app):
        jobs = app.jobs.through(me())
        if not dry_run and not yes:
            would = await act(jobs, which, True)  # noqa: FBT003  # the dry run
            if not would.count:
                if as_json:
                    print_json(would)
                else:
                    note("No such jobs.")
                return Exit.DONE
            if not confirm(
                f"{verb.capitalize()} {counted(would.count, 'job')}?",
                otherwise=f"To {verb} them without confirmation, use --yes.",
            ):
                note("Nothing was changed.")
                return Exit.NO
        result = await act(jobs, which, dry_run)
    if as_json:
        print_json(result)
        return Exit.DONE
    count = counted(result.count, "job")
    click.echo(f"Would {verb} {count}" if dry_run else f"{verb}: {count}")
    if result.requested:
        click.echo(f"{result.requested} of them run, and were notified to stop.")
    if result.skipped:
        click.echo(f"{result.skipped} others were skipped: {why_skipped}.")
    for job_id in result.first_ids if dry_run else ():
        click.echo(f"  {job_id}")
    return Exit.DONE


def age(name: str, text: str | None) -> timedelta | None:
    """Parse a duration like 90s, 15m, 2h or 7d. Raises `InvalidOption`."""
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    try:
        return timedelta(seconds=float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise InvalidOption(f"{name} must be a duration like 90s, 15m, 2h or 7d; got {quoted(text)}.") from None


__all__ = [
    "age",
    "cancel",
    "delete",
    "discard",
    "filter_of",
    "me",
    "reschedule",
    "retry",
    "run_again",
    "run_now",
    "with_filters",
]
