"""`rowlock dev`: run a server, a worker and the API in one process, for development, and a program beside it."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from rowlock.api import create_app
from rowlock.api.access.authentication import OpenUntilFirstKey
from rowlock.api.serving import serving
from rowlock.app import Rowlock
from rowlock.cli.commands.migrate import migrate
from rowlock.cli.run import running
from rowlock.cli.run.loading import load
from rowlock.cli.run.program import Program
from rowlock.cli.run.reloading import check_reload, run_and_reload
from rowlock.cli.run.supervisor import command_of
from rowlock.cli.show.output import note
from rowlock.embedded import EmbeddedServer
from rowlock.errors import RowlockError
from rowlock.settings import Settings
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rowlock.worker.worker import Worker

URL = "ROWLOCK_DATABASE_URL"
LOOK_EVERY: Final = 2.0
"""Seconds between checks for a worker in the program of --run."""


@click.command("dev", short_help="Run everything for APP in one process, for development.")
@click.argument("app")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The API's.")
@click.option("--data-dir", metavar="FOLDER", help="Where the development server keeps its data. [default: .rowlock]")
@click.option("--run", "program", metavar="COMMAND", help='The program to run beside it: "uvicorn shop:app --reload".')
@click.option("--reload", is_flag=True, help="Restart worker and API when a Python file here changes.")
@click.option("--part", type=click.Choice(["first", "again"]), hidden=True)  # of a command with --reload
def command(app: str, *, port: int, data_dir: str | None, program: str | None, reload: bool, part: str | None) -> int:
    """Run everything for APP (module:attribute, like tasks:app): server, worker and API.

    The server is a PostgreSQL of its own, unless ROWLOCK_DATABASE_URL names another; its data is kept between runs. APP
    and the program of --run read its URL from ROWLOCK_DATABASE_URL. Ctrl-C or SIGTERM stops everything.
    """
    if program is not None:
        _words(program)  # check before starting anything
    signal.signal(signal.SIGTERM, _leave)  # while the server starts; later the event loop handles signals
    if data_dir is not None:
        os.environ["ROWLOCK_DATA_DIR"] = data_dir
    if reload:
        check_reload()
    elif program is not None and "--reload" in program:
        note(f"{program} restarts when the code changes, but the worker here does not. Use rowlock dev --reload, too.")
    worker: Worker | None = None
    with _database() as places:
        if reload:
            for line in places:
                click.echo(line)
            code = running.run(_reload(["dev", app, f"--port={port}"], program))
        else:
            code, worker = running.run(
                _develop(load(app), port, [] if part else places, program, is_again=part == "again")
            )
    if part is None:
        click.echo("Everything has stopped.")
    if worker is not None:
        running.leave(worker)
    return code


@contextmanager
def _database() -> Iterator[list[str]]:
    """Run the server during the block; `ROWLOCK_DATABASE_URL` names it, here and in programs started here."""
    settings = Settings.from_environment()
    if settings.database_url is not None:
        yield [f"database  {settings.masked_database_url()}"]
        return
    with EmbeddedServer(settings.data_dir) as server:
        os.environ[URL] = server.url
        yield [f"database  {server.url}", f"psql      {server.psql_command()}", f"data      {server.location}"]


def _words(program: str) -> list[str]:
    """Split the command into its name and arguments, as a shell does. Raises `UsageError`."""
    try:
        words, why = shlex.split(program), "it names no program"
    except ValueError as error:
        words, why = [], f"{error}".rstrip(".")
    if not words or not words[0]:
        raise click.UsageError(
            f'--run must be a command, like "uvicorn shop:app --reload"; got {quoted(program)} ({why}).',
            click.get_current_context(silent=True),
        )
    return words


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


async def _reload(arguments: list[str], program: str | None) -> int:
    signals = running.StopSignals()
    async with _beside(program, signals) as ended:
        await run_and_reload(
            command_of([*arguments, "--part=first"]), signals, again=command_of([*arguments, "--part=again"])
        )
    return ended.code


async def _develop(
    app: Rowlock, port: int, places: list[str], program: str | None, *, is_again: bool
) -> tuple[int, Worker]:
    signals = running.StopSignals()
    said = (await asyncio.to_thread(migrate, app.settings)).said
    worker = app.worker()
    if app.settings.database_url not in {None, Settings.from_environment().database_url}:
        places = [f"database  {app.settings.masked_database_url()}"]  # the application has a database of its own
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app)
        url = await stack.enter_async_context(
            serving(create_app(app, authenticate=OpenUntilFirstKey()), "127.0.0.1", port)
        )
        lines = [f"API       {url}"] if port == 0 or not is_again else []
        lines += [f"tasks     {', '.join(sorted(app.tasks)) or 'none'}"]
        if not is_again:
            lines = [said, *lines, f"dashboard {url}/", *places, "Ctrl-C stops everything; the data is kept."]
        for line in lines:
            click.echo(line)
        ended = await stack.enter_async_context(_beside(program, signals))
        await running.work(worker, signals)
    return ended.code, worker


class _Ended:
    """The exit code of a program that ended by itself, else 0."""

    code = 0


@asynccontextmanager
async def _beside(program: str | None, signals: running.StopSignals) -> AsyncIterator[_Ended]:
    """Run the program during the block; if it ends by itself, everything stops."""
    ended = _Ended()
    if program is None:
        yield ended
        return
    started = await Program.start(_words(program))

    async def look_for_its_worker() -> None:
        async with Rowlock() as queue:
            while True:
                if await _has_worker(queue, started):
                    break
                await asyncio.sleep(LOOK_EVERY)
        note(
            f"{program} runs a worker of its own beside this one: either may run a job, each with its own code. "
            "Use lifespan(queue, worker=False) under rowlock dev."
        )

    async def watch() -> None:
        code = await started.wait()
        if not signals.asked.is_set():
            note(f"{program} ended by itself ({code}): everything stops.")
            ended.code = code if code >= 0 else 128 - code
            signals.asked.set()

    beside = [asyncio.create_task(watch()), asyncio.create_task(look_for_its_worker())]
    try:
        yield ended
    finally:
        for task in beside:
            task.cancel()
        await started.stop()


async def _has_worker(queue: Rowlock, program: Program) -> bool:
    """Whether a live worker is a process of the program. False while the database is away."""
    try:
        workers = await queue.workers.list()
    except (RowlockError, *running.AWAY):
        return False
    for worker in workers:
        with suppress(OSError):  # it has ended, or is on another machine
            if worker.hostname == socket.gethostname() and os.getsid(worker.pid) == program.pid:
                return True
    return False


__all__ = ["command"]
