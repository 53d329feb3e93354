"""`rowlock tasks`: list the tasks that workers have registered."""

from __future__ import annotations

from typing import Final

import click

from rowlock.app import Rowlock
from rowlock.cli.run import running
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import number, print_table, text
from rowlock.wire.queues import KnownTask

_COLUMNS: Final = (text("TASK", 12), text("QUEUE"), number("PRIORITY"), number("MAX ATTEMPTS"), number("VERSION"))


@click.group("tasks")
def command() -> None:
    """List the tasks that workers have registered."""


@command.command("list")
@with_json
def list_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """List the tasks by name, as the workers' code last declared them."""

    async def read() -> list[KnownTask]:
        async with Rowlock() as app:
            return [KnownTask(**row) for row in await app.database.run("list_tasks")]

    tasks = running.run(read())
    if as_json:
        print_json(tasks)
    elif not tasks:
        note("No tasks: no worker has registered any.")
    else:
        print_table(
            _COLUMNS, ((one.name, one.queue, one.priority, one.max_attempts, one.args_version) for one in tasks)
        )
