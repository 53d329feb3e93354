"""`rowlock schedules`: list, show, create, edit, pause, resume, run and delete schedules."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import click

from rowlock.app import Rowlock
from rowlock.cli.commands.acts import me
from rowlock.cli.commands.enqueue import parse_args
from rowlock.cli.commands.values import NUMBER
from rowlock.cli.run import running
from rowlock.cli.run.loading import load
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import pretty, print_details, print_table, print_text, text, time_of, whole
from rowlock.queue.operate.schedules import Schedules
from rowlock.queue.schedules.cron import MISFIRES, OVERLAPS
from rowlock.queue.schedules.schedule import StoredSchedule, Tick
from rowlock.wire.schedules import ScheduleDetail, ScheduleForm, StartedJob

R = TypeVar("R")

_TICKS_SHOWN: Final = 10
_COLUMNS: Final = (
    text("NAME", 12),
    text("TASK", 12),
    whole("CRON"),
    text("ZONE", leaves=2),
    whole("NEXT"),
    whole("LAST", leaves=1),
    whole("ORIGIN", leaves=3),
)
_TICKS: Final = (whole("TICK"), whole("JOB"), whole("STATE"))

_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.group("schedules")
def command() -> None:
    """List, show and change schedules."""


def _name(function: _Function) -> _Function:
    return click.argument("name")(function)


def _options(function: _Function) -> _Function:
    """The options of a schedule; None: not given."""
    for option in (
        click.option("--max-attempts", type=int, help="The number of attempts, instead of the task's."),
        click.option("--priority", type=int, help="0 (last) to 9 (first), instead of the task's."),
        click.option("--queue", help="The queue, instead of the task's."),
        click.option("--jitter", type=NUMBER, metavar="SECONDS", help="The largest random delay of each job."),
        click.option(
            "--overlap",
            type=click.Choice(OVERLAPS),
            help="What a tick does while the last job is unfinished. [default: allow]",
        ),
        click.option("--misfire", type=click.Choice(MISFIRES), help="How missed ticks are treated. [default: latest]"),
        click.option("--timezone", metavar="ZONE", help="The time zone of CRON, like Europe/Berlin. [default: UTC]"),
        click.option(
            "--app", metavar="APP", help="module:attribute of the application, like tasks:app: checks the arguments."
        ),
    ):
        function = option(function)
    return function


@command.command("list")
@with_json
def list_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """List all schedules, by name."""
    schedules = _do(None, lambda schedules: schedules.list(), changes=False)
    if as_json:
        print_json([ScheduleForm.of(schedule) for schedule in schedules])
    elif not schedules:
        note("No schedules.")
    else:
        print_table(_COLUMNS, map(_row, schedules))


@command.command("show", short_help="Show one schedule with its ticks.")
@_name
@with_json
def show_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show one schedule, with the last ticks that fired and their jobs."""

    async def read(schedules: Schedules) -> tuple[StoredSchedule, list[Tick]]:
        return await schedules.get(name), await schedules.ticks(name, limit=_TICKS_SHOWN)

    schedule, ticks = _do(None, read, changes=False)
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
@click.option("--paused", is_flag=True, help="Create it paused: no tick fires until it is resumed.")
@with_json
def create_command(name: str, task: str, cron: str, args_json: str, **given: Any) -> None:  # noqa: ANN401  # click's
    """Create the schedule NAME, which enqueues a job of TASK at the times of CRON.

    CRON is five fields, six with the seconds first, or @hourly, @daily and so on, in quotes. ARGS_JSON is an object
    with one key per argument; - reads standard input.
    """
    args, as_json = _args(args_json), given.pop("as_json")
    app, is_paused, options = given.pop("app"), given.pop("paused"), _given(given)
    _done(
        as_json,
        _do(app, lambda of: of.create(name, task, cron, args=args, is_paused=is_paused, **options)),
    )


@command.command("edit", short_help="Change a schedule.")
@_name
@click.option("--task", help="The new task.")
@click.option("--cron", help="The new times: the next tick is computed from now.")
@click.option("--args", "args_json", metavar="JSON", help="The new arguments; - reads standard input.")
@_options
@with_json
def edit_command(name: str, args_json: str | None, **given: Any) -> None:  # noqa: ANN401  # click's
    """Change the schedule NAME; an omitted option stays unchanged.

    Edits of a schedule that the code declares last until the code declares it differently.
    """
    as_json, app = given.pop("as_json"), given.pop("app")
    changes = _given(given) | ({} if args_json is None else {"args": _args(args_json)})
    if not changes:
        raise click.UsageError("At least one option must be given.")
    _done(as_json, _do(app, lambda of: of.edit(name, **changes)))


@command.command("pause")
@_name
@with_json
def pause_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Pause the schedule: no tick fires until it is resumed."""
    _done(as_json, _do(None, lambda of: of.pause(name)))


@command.command("resume")
@_name
@with_json
def resume_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Resume the schedule: ticks fire again from now on. Ticks during the pause do not fire."""
    _done(as_json, _do(None, lambda of: of.resume(name)))


@command.command("run", short_help="Enqueue a job of the schedule now.")
@_name
@with_json
def run_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Enqueue a job of the schedule now, and print its id. Its ticks stay unchanged."""
    handle = _do(None, lambda of: of.run(name))
    if as_json:
        print_json(StartedJob(id=handle.id, task=handle.task))
    else:
        click.echo(handle.id)


@command.command("delete")
@_name
@with_json
def delete_command(name: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Delete the schedule; its jobs stay. The next worker restores a schedule that the code declares."""
    _do(None, lambda of: of.delete(name))
    if as_json:
        print_json({"name": name})
    else:
        click.echo(f"The schedule {name} is deleted.")


@command.command("prune", short_help="Delete schedules that the code no longer declares.")
@with_json
def prune_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """Delete the schedules that the code no longer declares; their jobs stay. Prune once a deploy is over."""
    names = _do(None, lambda of: of.prune())
    if as_json:
        print_json(names)
        return
    for name in names:
        click.echo(f"The schedule {name} is deleted.")
    if not names:
        note("Nothing was deleted: the code declares all of its schedules.")


def _do(app: str | None, act: Callable[[Schedules], Awaitable[R]], *, changes: bool = True) -> R:
    async def main(loaded: Rowlock) -> R:
        async with running.changing(loaded) if changes else loaded:
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


def _row(one: StoredSchedule) -> tuple[object, ...]:
    following = "paused" if one.is_paused else one.next_run_at
    origin = one.origin if one.undeclared_at is None else "code (removed)"
    return one.name, one.task, one.cron, one.timezone, following, one.last_tick_at, origin


def _show(schedule: StoredSchedule, ticks: Sequence[Tick]) -> None:
    members = {name: getattr(schedule, name) for name in schedule.__struct_fields__}
    args = "not shown: its task is sensitive" if schedule.is_sensitive else pretty(schedule.args)
    print_details((members | {"args": args}).items())
    if following := schedule.next_ticks(_TICKS_SHOWN):
        print_text("\nnext ticks:")
        for moment in following:
            print_text(time_of(moment))
    if ticks:
        print_text("\nlast ticks:")
        print_table(_TICKS, ((tick.tick_at, tick.job_id, tick.state or "removed") for tick in ticks))
