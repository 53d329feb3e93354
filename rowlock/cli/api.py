"""`rowlock api`: serves the HTTP API."""

from __future__ import annotations

from ipaddress import ip_address

import click

from rowlock.api import create_app
from rowlock.api.serving import serving
from rowlock.app import Rowlock
from rowlock.cli import running
from rowlock.cli.loading import load
from rowlock.errors import ConfigurationError


@click.command("api")
@click.argument("app", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--allow-remote", is_flag=True, help="Listen beyond this machine, although nobody has to log in.")
def command(app: str | None, host: str, port: int, allow_remote: bool) -> None:  # noqa: FBT001  # click's
    """Serve the HTTP API, until SIGTERM or Ctrl-C.

    With APP (module:attribute, like tasks:app) arguments are checked against its tasks; without, the tasks are those
    that workers have registered.
    """
    if not allow_remote and not is_loopback(host):
        raise ConfigurationError(
            f"--host {host} can be reached from other machines, and the API has no authentication: listen on 127.0.0.1 "
            "behind a proxy that has, or say --allow-remote."
        )
    running.run(_serve(load(app), host, port))


def is_loopback(host: str) -> bool:
    """Whether this address can be reached from the same machine alone. Any name but localhost may mean anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


async def _serve(app: Rowlock, host: str, port: int) -> None:
    signals = running.StopSignals()
    async with app:
        await app.client.check_schema()
        async with serving(create_app(app), host, port) as url:
            click.echo(f"The API is at {url}")
            await signals.asked.wait()
