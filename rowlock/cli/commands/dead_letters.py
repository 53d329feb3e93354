"""`rowlock dead-letters`: list the jobs that failed, or count them by task and error."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import click

from rowlock.app import Rowlock
from rowlock.cli.commands import acts
from rowlock.cli.commands.jobs import print_jobs
from rowlock.cli.run import running
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import number, print_table, text, time_of, whole
from rowlock.queue.jobs.filter import Sight
from rowlock.queue.read.dead_letters import GroupedDeadLetters, group_dead_letters
from rowlock.queue.read.pages import MOST_PER_PAGE, JobPage

NONE: Final = "No dead letters."
_GROUPS: Final = (number("JOBS"), text("TASK", 12), whole("FIRST", leaves=1), whole("LAST"), text("ERROR", 20))


@click.group("dead-letters", short_help="List and count jobs that failed.")
def command() -> None:
    """List and count dead letters: jobs that failed, and were not discarded."""


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
    """List the dead letters, newest first."""
    which = acts.filter_of(given)

    async def read() -> JobPage:
        async with Rowlock() as app:
            return await app.dead_letters.list(which, before=before, limit=limit)

    print_jobs(running.run(read()), as_json=as_json, none=NONE)


@command.command("groups", short_help="Count dead letters by task and error.")
@acts.with_filters
@click.option("--limit", type=click.IntRange(1, MOST_PER_PAGE), default=50, show_default=True)
@with_json
def groups_command(limit: int, as_json: bool, **given: Any) -> None:  # noqa: ANN401, FBT001  # click's options
    """Count the dead letters by task and error, the most frequent first."""
    which = acts.filter_of(given)

    async def read() -> GroupedDeadLetters:
        async with Rowlock() as app:
            sight = Sight(hidden=[row["name"] for row in await app.database.run("list_sensitive")])
            return await group_dead_letters(app.database, which, limit=limit, sight=sight)

    groups = running.run(read())
    if as_json:
        print_json(groups)
    elif not groups:
        note(NONE)
    else:
        print_table(_GROUPS, ((one.jobs, one.task, one.first_at, one.last_at, one.error) for one in groups))
    if groups.searched_until is not None:
        note(f"Searched back to {time_of(groups.searched_until)}: not all older ones are counted. Narrow the filter.")
