"""`rowlock dev`: a server, a worker and the API in one process, for development, and a program beside it."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from rowlock.api import create_app
from rowlock.api.authentication import OpenUntilFirstKey
from rowlock.api.serving import serving
from rowlock.cli import running
from rowlock.cli.loading import load
from rowlock.cli.migrate import migrate
from rowlock.cli.output import note
from rowlock.cli.program import Program
from rowlock.cli.reloading import run_and_reload
from rowlock.cli.supervisor import command_of
from rowlock.embedded import EmbeddedServer
from rowlock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rowlock.app import Rowlock
    from rowlock.worker.worker import Worker

URL = "ROWLOCK_DATABASE_URL"


@click.command("dev", short_help="Run everything for APP in one process, for development.")
@click.argument("app")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The API's.")
@click.option("--data-dir", metavar="FOLDER", help="Where the development server keeps its data. [default: .rowlock]")
@click.option("--run", "program", metavar="COMMAND", help='Run this beside it, like "uvicorn shop:app --reload".')
@click.option("--reload", is_flag=True, help="Start worker and API anew when a Python file here changes.")
def command(app: str, *, port: int, data_dir: str | None, program: str | None, reload: bool) -> int:
    """Run everything for APP (module:attribute, like tasks:app): server, worker and API.

    The server is a PostgreSQL of its own unless ROWLOCK_DATABASE_URL names another; its data is kept between runs. APP
    and the program of --run find its URL in ROWLOCK_DATABASE_URL. Ctrl-C or SIGTERM stops everything.
    """
    signal.signal(signal.SIGTERM, _leave)  # while the server starts; later the event loop has the signals
    if data_dir is not None:
        os.environ["ROWLOCK_DATA_DIR"] = data_dir
    with _database() as places:
        if reload:
            for line in places:
                click.echo(line)
            return running.run(_reload(["dev", app, f"--port={port}"], program))
        code, worker = running.run(_develop(load(app), port, places, program))
    click.echo("Everything has stopped.")
    running.leave(worker)
    return code


@contextmanager
def _database() -> Iterator[list[str]]:
    """The server, for the time of the block; `ROWLOCK_DATABASE_URL` leads there, here and in programs started here."""
    settings = Settings.from_environment()
    if settings.database_url is not None:
        yield [f"database  {settings.masked_database_url()}"]
        return
    with EmbeddedServer(settings.data_dir) as server:
        os.environ[URL] = server.url
        yield [f"database  {server.url}", f"psql      {server.psql_command()}", f"data      {server.location}"]


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


async def _reload(arguments: list[str], program: str | None) -> int:
    signals = running.StopSignals()
    async with _beside(program, signals) as ended:
        await run_and_reload(command_of(arguments), signals)
    return ended.code


async def _develop(app: Rowlock, port: int, places: list[str], program: str | None) -> tuple[int, Worker]:
    signals = running.StopSignals()
    click.echo((await asyncio.to_thread(migrate, app.settings)).said)
    worker = app.worker()
    if app.settings.database_url not in {None, Settings.from_environment().database_url}:
        places = [f"database  {app.settings.masked_database_url()}"]  # the application's own
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app)
        url = await stack.enter_async_context(
            serving(create_app(app, authenticate=OpenUntilFirstKey()), "127.0.0.1", port)
        )
        for line in (
            f"API       {url}",
            f"dashboard {url}/",
            *places,
            f"tasks     {', '.join(sorted(app.tasks)) or 'none'}",
        ):
            click.echo(line)
        click.echo("Ctrl-C stops everything; the data is kept.")
        ended = await stack.enter_async_context(_beside(program, signals))
        await running.work(worker, signals)
    return ended.code, worker


class _Ended:
    """The exit code of the program: that of a program which has ended by itself, else 0."""

    code = 0


@asynccontextmanager
async def _beside(program: str | None, signals: running.StopSignals) -> AsyncIterator[_Ended]:
    """Run the program for the time of the block; if it ends by itself, so does everything."""
    ended = _Ended()
    if program is None:
        yield ended
        return
    started = await Program.start(shlex.split(program))

    async def watch() -> None:
        code = await started.wait()
        if not signals.asked.is_set():
            note(f"{program} has ended by itself ({code}): everything stops.")
            ended.code = code if code >= 0 else 128 - code
            signals.asked.set()

    watching = asyncio.create_task(watch())
    try:
        yield ended
    finally:
        watching.cancel()
        await started.stop()


__all__ = ["command"]
