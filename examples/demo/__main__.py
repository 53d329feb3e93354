"""Start a PostgreSQL, the migrations, a worker and the HTTP API; play the scenes; show what happened; clean up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import asyncpg
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from examples.demo.processes import APPLICATION, ProcessEnded, Program, free_port, run
from examples.demo.stage import Stage
from rowlock import Settings
from rowlock.embedded import temporary_server
from rowlock.migrations import upgrade

AUDIT = """\
SELECT queue, task, state, count(*) AS jobs, sum(errors) AS failed_attempts,
       round(1000 * avg(extract(epoch FROM finished_at - started_at)), 1) AS avg_ms
  FROM rowlock.jobs
 GROUP BY queue, task, state
 ORDER BY queue, task, state"""


def main() -> int:
    """Run the demonstration. Returns 0 if all was as expected, 1 if something was not, 130 after Ctrl-C."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is open is closed, as for Ctrl-C
    began = time.monotonic()
    try:
        all_met = demonstrate(console)
    except KeyboardInterrupt:
        console.print("\nInterrupted: everything is stopped and removed.")
        return 130
    except ProcessEnded as error:
        console.print(str(error), markup=False)
        return 1
    outcome = "Everything was as expected" if all_met else "Something was NOT as expected"
    console.print(f"\n{outcome}, in {time.monotonic() - began:.0f} s. All processes and files are gone again.")
    return 0 if all_met else 1


def demonstrate(console: Console) -> bool:
    """Start everything, play, and stop everything. Returns whether all was as expected."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="rowlock-demo-")))
        server = running.enter_context(temporary_server(durable=True))
        console.print(f"PostgreSQL runs (durable, process {server.pid}): {server.psql_command()}", soft_wrap=True)
        upgrade(Settings(database_url=server.url))
        console.print("The schema is migrated.")
        port = free_port()
        commands = {
            "worker": ["worker", APPLICATION, "--concurrency", "50"],
            "api": ["api", APPLICATION, "--port", str(port)],
        }
        programs = []
        for name, command in commands.items():
            programs.append(running.enter_context(run(name, command, database_url=server.url, folder=folder)))
            console.print(f"Started (process {programs[-1].pid}): rowlock {' '.join(command)}")
        os.environ["ROWLOCK_DATABASE_URL"] = server.url  # for this process's own enqueues
        return asyncio.run(_play(console, server.url, port, tuple(programs)))


async def _play(console: Console, database_url: str, port: int, programs: tuple[Program, ...]) -> bool:
    # The application reads the environment when it is imported.
    from examples.article.tasks import app  # noqa: PLC0415
    from examples.demo.scenes import play  # noqa: PLC0415

    database = await asyncpg.connect(database_url)
    try:
        async with app, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            stage = Stage(console=console, database=database, http=http, programs=programs)
            try:
                await stage.wait_for_api()
                await play(stage)
            finally:
                for program in programs:
                    program.check()  # a process that has ended explains more than a timeout
            console.print()
            console.print(stage.table())
            await _audit(console, database)
    finally:
        await database.close()
    return all(check.is_met for check in stage.checks)


async def _audit(console: Console, database: asyncpg.Connection[asyncpg.Record]) -> None:
    """Show that all of it can be read with SQL."""
    console.print("\n[bold]The same, read with SQL[/bold]")
    console.print(Syntax(AUDIT, "sql", background_color="default"))
    rows = await database.fetch(AUDIT)
    table = Table()
    for name in rows[0].keys():  # noqa: SIM118  # a record iterates over its values
        table.add_column(name, justify="left" if name in {"queue", "task", "state"} else "right")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
