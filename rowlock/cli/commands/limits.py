"""`rowlock limits`: show the limits of how many jobs run at once."""

from __future__ import annotations

from typing import Final

import click

from rowlock.app import Rowlock
from rowlock.cli.run import running
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import number, print_table, text, whole
from rowlock.wire.queues import Limits, QueueLimit, WorkerLimit

_COLUMNS: Final = (whole("LIMIT OF"), text("NAME", 36), text("HOST"), number("CONCURRENCY"))


@click.command("limits", short_help="Show the limits of how many jobs run at once.")
@with_json
def command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """Show the limits of how many jobs run at once: of queues, and of each live worker."""

    async def read() -> Limits:
        async with Rowlock() as app:
            queues, workers = await app.queues.list(), await app.workers.list()
        said = [QueueLimit(name=one.name, concurrency=one.concurrency) for one in queues if one.concurrency is not None]
        having = [
            WorkerLimit(id=one.id, hostname=one.hostname, pid=one.pid, concurrency=one.concurrency) for one in workers
        ]
        return Limits(queues=said, workers=having)

    limits = running.run(read())
    if as_json:
        print_json(limits)
    elif not limits.queues and not limits.workers:
        note("No limits: no queue has one, and no worker is alive.")
    else:
        of_queues = [("queue", one.name, "each worker", one.concurrency) for one in limits.queues]
        of_workers = [("worker", str(one.id), one.hostname, one.concurrency) for one in limits.workers]
        print_table(_COLUMNS, [*of_queues, *of_workers])
