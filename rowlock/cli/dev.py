"""`rowlock dev`: a server, a worker and the API in one process, for development."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import click

from rowlock.api import create_app
from rowlock.api.authentication import OpenUntilFirstKey
from rowlock.api.serving import serving
from rowlock.app import Rowlock
from rowlock.cli import running
from rowlock.cli.loading import load
from rowlock.cli.migrate import migrate
from rowlock.embedded import EmbeddedServer

if TYPE_CHECKING:
    from rowlock.worker.worker import Worker


@click.command("dev", short_help="Run everything for APP in one process, for development.")
@click.argument("app")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The API's.")
@click.option("--data-dir", metavar="FOLDER", help="Where the embedded server keeps its data. [default: .rowlock]")
def command(app: str, port: int, data_dir: str | None) -> None:
    """Run everything for APP (module:attribute, like tasks:app): server, worker and API.

    The server is the embedded one unless ROWLOCK_DATABASE_URL names another; its data is kept between runs. Ctrl-C or
    SIGTERM stops everything.
    """
    signal.signal(signal.SIGTERM, _leave)  # while the server starts; later the event loop has the signals
    if data_dir is not None:
        os.environ["ROWLOCK_DATA_DIR"] = data_dir
    loaded = load(app)
    settings = loaded.settings
    if settings.database_url is not None:
        click.echo(migrate(settings).said)
        _end(running.run(_develop(loaded, port, [f"database  {settings.masked_database_url()}"])))
        return
    with EmbeddedServer(settings.data_dir) as server:
        click.echo(migrate(replace(settings, database_url=server.url)).said)
        places = [f"psql      {server.psql_command()}", f"data      {server.location}"]
        worker = running.run(_develop(loaded, port, places))
    _end(worker)


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _end(worker: Worker) -> None:
    click.echo("Everything has stopped.")
    running.leave(worker)


async def _develop(app: Rowlock, port: int, places: list[str]) -> Worker:
    signals = running.StopSignals()
    worker = app.worker()
    async with app, serving(create_app(app, authenticate=OpenUntilFirstKey()), "127.0.0.1", port) as url:
        for line in (
            f"API       {url}",
            f"dashboard {url}/",
            *places,
            f"tasks     {', '.join(sorted(app.tasks)) or 'none'}",
        ):
            click.echo(line)
        click.echo("Ctrl-C stops everything; the data is kept.")
        await running.work(worker, signals)
    return worker
