"""`rowlock schedules`: lists, shows, creates, edits, pauses, resumes, runs and deletes schedules."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import click
from rich.table import Table

from rowlock.api.wire import ScheduleDetail, ScheduleForm
from rowlock.app import Rowlock
from rowlock.cli import running
from rowlock.cli.acts import me
from rowlock.cli.enqueue import parse_args
from rowlock.cli.jobs import console, pretty, shown, time_of
from rowlock.cli.loading import load
from rowlock.cli.output import print_json
from rowlock.queue.cron import MISFIRES, OVERLAPS
from rowlock.queue.schedule import StoredSchedule, Tick
from rowlock.queue.schedules import Schedules

R = TypeVar("R")

_TICKS_SHOWN: Final = 10

_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.group("schedules")
def command() -> None:
    """Look at schedules, and change them."""


def _name(function: _Function) -> _Function:
    return click.argument("name")(function)


def _json(function: _Function) -> _Function:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def _options(function: _Function) -> _Function:
    """The options of a schedule; None: not given."""
    for option in (
        click.option("--max-attempts", type=int, help="Another number than the task's."),
        click.option("--priority", type=int, help="0 (last) to 9 (first), instead of the task's."),
        click.option("--queue", help="Another queue than the task's."),
        click.option("--jitter", type=float, metavar="SECONDS", help="A random delay of each job, up to this."),
        click.option(
            "--overlap", type=click.Choice(OVERLAPS), help="While the last job is not finished. [default: allow]"
        ),
        click.option("--misfire", type=click.Choice(MISFIRES), help="What missed ticks become. [default: latest]"),
        click.option("--timezone", metavar="ZONE", help="Of the cron text, like Europe/Berlin. [default: UTC]"),
        click.option(
            "--app", metavar="APP", help="module:attribute of the application, like tasks:app: checks the arguments."
        ),
    ):
        function = option(function)
    return function


@command.command("list")
@_json
def list_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """List all schedules, by name."""
    schedules = _do(None, lambda schedules: schedules.list())
    if as_json:
        print_json([ScheduleForm.of(schedule) for schedule in schedules])
    elif not schedules:
        click.echo("No schedules.", err=True)
    else:
        console(is_wide=True).print(_table(schedules))


@command.command("show")
@_name
@_json
def show_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show one schedule, with the last ticks that fired and their jobs."""

    async def read(schedules: Schedules) -> tuple[StoredSchedule, list[Tick]]:
        return await schedules.get(name), await schedules.ticks(name, limit=_TICKS_SHOWN)

    schedule, ticks = _do(None, read)
    if as_json:
        print_json(ScheduleDetail.of_ticks(schedule, ticks))
    else:
        _show(schedule, ticks)


@command.command("create", short_help="Create a schedule.")
@_name
@click.argument("task")
@click.argument("cron")
@click.argument("args_json", default="{}")
@_options
@click.option("--paused", is_flag=True, help="Let no tick fire until it is resumed.")
@_json
def create_command(name: str, task: str, cron: str, args_json: str, **given: Any) -> None:  # noqa: ANN401  # click's
    """Create the schedule NAME, which enqueues a job of TASK at the times of CRON.

    CRON is five fields, six with the seconds first, or @hourly, @daily and so on, in quotes. ARGS_JSON is an object
    with an argument a key; - reads it from standard input.
    """
    args, as_json = _args(args_json), given.pop("as_json")
    app, is_paused, options = given.pop("app"), given.pop("paused"), _given(given)
    _done(
        as_json,
        _do(app, lambda of: of.create(name, task, cron, args=args, is_paused=is_paused, **options)),
    )


@command.command("edit", short_help="Change a schedule.")
@_name
@click.option("--task", help="Another task.")
@click.option("--cron", help="Other times: the next tick is counted from now.")
@click.option("--args", "args_json", metavar="JSON", help="Other arguments; - reads them from standard input.")
@_options
@_json
def edit_command(name: str, args_json: str | None, **given: Any) -> None:  # noqa: ANN401  # click's
    """Change the schedule NAME; what is not given stays.

    Edits of a schedule that the code declares last until the code declares it differently.
    """
    as_json, app = given.pop("as_json"), given.pop("app")
    changes = _given(given) | ({} if args_json is None else {"args": _args(args_json)})
    if not changes:
        raise click.UsageError("There is nothing to change: give an option.")
    _done(as_json, _do(app, lambda of: of.edit(name, **changes)))


@command.command("pause")
@_name
@_json
def pause_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Let no tick of the schedule fire until it is resumed."""
    _done(as_json, _do(None, lambda of: of.pause(name)))


@command.command("resume")
@_name
@_json
def resume_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Let ticks fire again, from now on: those of the pause do not."""
    _done(as_json, _do(None, lambda of: of.resume(name)))


@command.command("run", short_help="Enqueue a job of the schedule now.")
@_name
@_json
def run_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Enqueue a job of the schedule now, and print its id. Its ticks stay as they are."""
    handle = _do(None, lambda of: of.run_now(name))
    if as_json:
        print_json({"id": handle.id, "task": handle.task})
    else:
        click.echo(handle.id)


@command.command("delete")
@_name
def delete_command(name: str) -> None:
    """Delete the schedule; its jobs stay. One that the code declares comes back with the next worker."""
    _do(None, lambda of: of.delete(name))
    click.echo(f"The schedule {name} is deleted.")


def _do(app: str | None, act: Callable[[Schedules], Awaitable[R]]) -> R:
    async def main(loaded: Rowlock) -> R:
        async with loaded:
            return await act(loaded.schedules.through(me()))

    return running.run(main(load(app)))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _args(text: str) -> dict[str, object]:
    return parse_args(sys.stdin.read() if text == "-" else text)


def _done(as_json: bool, schedule: StoredSchedule) -> None:  # noqa: FBT001  # what click gave
    if as_json:
        print_json(ScheduleForm.of(schedule))
        return
    following = "none" if schedule.next_run_at is None else time_of(schedule.next_run_at)
    click.echo(f"{schedule.name} {'is paused' if schedule.is_paused else f'next runs at {following}'}.")


def _table(schedules: Sequence[StoredSchedule]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("NAME", "TASK", "CRON", "ZONE", "NEXT", "LAST", "ORIGIN"):
        table.add_column(name, no_wrap=True)
    for schedule in schedules:
        table.add_row(
            shown(schedule.name),
            shown(schedule.task),
            shown(schedule.cron),
            shown(schedule.timezone),
            shown("paused" if schedule.is_paused else schedule.next_run_at),
            shown(schedule.last_tick_at),
            shown(schedule.origin),
        )
    return table


def _show(schedule: StoredSchedule, ticks: Sequence[Tick]) -> None:
    out = console()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name in schedule.__struct_fields__:
        value = getattr(schedule, name)
        table.add_row(name, shown(pretty(value) if name == "args" else value))
    out.print(table)
    for tick in ticks:
        line = f"tick {time_of(tick.tick_at)}: job {tick.job_id} {tick.state or 'removed'}"
        out.print(shown(line), soft_wrap=True)
