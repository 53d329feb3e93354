"""`rowlock api`: serve the HTTP API."""

from __future__ import annotations

import click

from rowlock.api import create_app
from rowlock.api.access.access import Authenticate
from rowlock.api.access.authentication import OpenUntilFirstKey, is_loopback, keys_are_demanded
from rowlock.api.serving import serving
from rowlock.app import Rowlock
from rowlock.cli.run import running
from rowlock.cli.run.loading import load
from rowlock.cli.show.output import note
from rowlock.errors import ConfigurationError


@click.command("api")
@click.argument("app", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 selects a free port.")
@click.option("--behind-proxy", is_flag=True, help="A trusted proxy terminates TLS, and reports the client's address.")
def command(app: str | None, host: str, port: int, behind_proxy: bool) -> None:  # noqa: FBT001  # click's
    """Serve the HTTP API, until SIGTERM or Ctrl-C.

    With APP (module:attribute, like tasks:app) arguments are checked against its tasks; without it, the tasks are those
    that workers have registered. Requests must show a key (rowlock keys create); until the first key is created, only
    this machine is served, without a key.
    """
    running.run(_serve(load(app), host, port, behind_proxy=behind_proxy))


async def _serve(app: Rowlock, host: str, port: int, *, behind_proxy: bool) -> None:
    signals = running.StopSignals()
    async with app:
        await app.database.check_schema()
        authenticate: Authenticate = OpenUntilFirstKey()
        if behind_proxy or not is_loopback(host):
            authenticate = keys_are_demanded
            await _require_key(app, "--behind-proxy" if behind_proxy else f"--host {host}")
        served = create_app(app, authenticate=authenticate, behind_proxy=behind_proxy)
        async with serving(served, host, port) as url:
            click.echo(f"The API is at {url}")
            if authenticate is not keys_are_demanded and not await app.keys.had_any():
                note("No key is required, because none exists: rowlock keys create NAME --scope admin")
            await signals.asked.wait()


async def _require_key(app: Rowlock, option: str) -> None:
    if not await app.keys.is_any_active():
        raise ConfigurationError(
            f"{option} needs a valid key, because other machines can reach the API. Create one: "
            "rowlock keys create NAME --scope admin. Or listen on 127.0.0.1."
        )
