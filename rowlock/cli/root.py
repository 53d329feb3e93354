"""The command `rowlock`: find subcommands, and turn every error into one line and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

import asyncpg
import click

from rowlock import __version__, logs
from rowlock.cli.show.output import Exit, code_of, complain
from rowlock.errors import RowlockError
from rowlock.words import in_json

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: Final = (
    "migrate",
    "worker",
    "api",
    "dev",
    "enqueue",
    "enqueue-many",
    "top",
    "stats",
    "jobs",
    "dead-letters",
    "unclaimed",
    "queues",
    "workers",
    "tasks",
    "limits",
    "schedules",
    "retention",
    "operations",
    "keys",
    "doctor",
    "audit",
    "torture",
)
"""The subcommands, in the order of the help; each is `command` in the module of the same name."""

_SERVING: Final = ("worker", "api", "dev")
"""Commands that run until they are stopped, and log. The others print their result."""

_OF_ASYNCPG: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class _Commands(click.Group):
    """Import a subcommand's module on use: `rowlock enqueue` does not load the migrations."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"rowlock.cli.commands.{cmd_name.replace('-', '_')}").command
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rowlock")
@click.pass_context
def root(context: click.Context) -> None:
    """A durable job queue for async Python whose only server is PostgreSQL.

    The database is ROWLOCK_DATABASE_URL, else DATABASE_URL, else the server that rowlock dev runs in ./.rowlock.
    """
    if context.invoked_subcommand not in _SERVING:  # in serving commands, errors are for programmers
        context.with_resource(in_json())
    logs.configure(level="info" if context.invoked_subcommand in _SERVING else "warning")


def run(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code, one of `Exit`.

    Every error of Rowlock, of usage and of PostgreSQL becomes one line on standard error, never a traceback.
    """
    try:
        code = _invoke(list(arguments))
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.REMEDY
    except BrokenPipeError:  # `rowlock jobs list | head`
        return _unread()
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):  # rich turns it into SystemExit
            raise
        return _unread()
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except (click.ClickException, RowlockError, *_OF_ASYNCPG, OSError) as error:
        return complain(_message(error), code=code_of(error))
    return code if isinstance(code, int) else Exit.DONE


def _invoke(arguments: list[str]) -> object:
    """Run the command as `root.main` does; that would exit with 1 if the reader closes the pipe."""
    if "_ROWLOCK_COMPLETE" in os.environ:  # a shell asks for completions
        root.main(args=arguments, prog_name="rowlock")
    try:
        with root.make_context("rowlock", arguments) as context:
            return root.invoke(context)
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code


def _unread() -> Exit:
    """The reader closed the pipe: discard the rest of the output silently."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.UNREAD


def _message(error: Exception) -> str:
    match error:
        case click.UsageError():
            return f"{error.format_message()} See: {error.ctx.command_path if error.ctx else 'rowlock'} --help"
        case click.ClickException():
            return error.format_message()
        case RowlockError():
            return str(error)
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return f"PostgreSQL refused: {type(error).__name__}: {error}"
        case _:
            return f"{type(error).__name__}: {error}"
