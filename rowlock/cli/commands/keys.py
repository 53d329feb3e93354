"""`rowlock keys`: create, list and revoke the keys of the HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from rowlock.app import Rowlock
from rowlock.cli.commands.acts import age, me
from rowlock.cli.run import running
from rowlock.cli.show.output import note, print_json, with_json
from rowlock.cli.show.tables import print_table, text, whole
from rowlock.queue.operate.keys import SCOPES, ApiKey, NewApiKey

_COLUMNS: Final = (
    text("NAME", 12),
    whole("STATE"),
    whole("SCOPES"),
    text("QUEUES", leaves=1),
    whole("EXPIRES", leaves=2),
    whole("LAST USED", leaves=3),
    whole("CREATED", leaves=4),
    text("BY", leaves=5),
    whole("ID", leaves=6),
)


@click.group("keys")
def command() -> None:
    """Create, list and revoke the keys of the HTTP API."""


@command.command("create", short_help="Create a key, and print it once.")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="A scope of the key; may be repeated. operate includes read, admin includes all.",
)
@click.option("--queue", "queues", multiple=True, help="Limit the key to this queue; may be repeated.")
@click.option("--expires", metavar="TIME", help="How long it is valid: 12h, 90d. [default: until it is revoked]")
@with_json
def create_command(name: str, scopes: Sequence[Any], queues: Sequence[str], expires: str | None, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Create a key of the HTTP API, and print it once: only its hash is stored.

    NAME names the key's holder in the audit.
    """
    holds = age("expires", expires)

    async def create() -> NewApiKey:
        async with running.changing(Rowlock()) as app:
            return await app.keys.through(me()).create(name, scopes=scopes, queues=queues or None, expires=holds)

    made = running.run(create())
    if as_json:
        print_json(made)
        return
    click.echo(made.text)
    note(f"This is the key {made.name}. It is not shown again.")


@command.command("list")
@with_json
def list_command(as_json: bool) -> None:  # noqa: FBT001  # click's
    """List the keys, newest first, without their texts."""

    async def read() -> list[ApiKey]:
        async with Rowlock() as app:
            return await app.keys.list()

    keys = running.run(read())
    if as_json:
        print_json(keys)
    elif not keys:
        note("No keys. Create one: rowlock keys create.")
    else:
        print_table(_COLUMNS, map(_row, keys))


@command.command("revoke", short_help="Revoke a key and its sessions at once.")
@click.argument("key", metavar="NAME|ID")
@with_json
def revoke_command(key: str, as_json: bool) -> None:  # noqa: FBT001  # click's
    """Revoke a key at once, with all sessions begun with it."""

    async def revoke() -> ApiKey:
        async with running.changing(Rowlock()) as app:
            return await app.keys.through(me()).revoke(key)

    revoked = running.run(revoke())
    if as_json:
        print_json(revoked)
    else:
        click.echo(f"The key {revoked.name} is revoked.")


def _row(key: ApiKey) -> tuple[object, ...]:
    state = "active" if key.is_active else "expired" if key.revoked_at is None else "revoked"
    queues = "all" if key.queues is None else ", ".join(key.queues)
    times = (key.expires_at, key.last_used_at, key.created_at)
    return key.name, state, ", ".join(key.scopes), queues, *times, key.created_by, str(key.id)
