"""Serving the API on an address of its own, and cutting off the clients that would hold it up.

A request's head must arrive within the time after which idle connections end, its body within `exchange.BODY_WITHIN`;
both are aiohttp's. What aiohttp lacks is here: an end for responses that nobody reads, and a limit on connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from rowlock import logs
from rowlock.errors import ConfigurationError

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

log = logs.get_logger("rowlock.api")

HEAD_WITHIN: Final = 20.0
"""Seconds that a request's head may take, and a connection without requests stays open."""
READ_WITHIN: Final = 60.0
"""Seconds for which a response may wait for a client to read on."""
MOST_CONNECTIONS: Final = 1000
"""How many connections are served; those that come later are closed."""
REQUESTS_SECONDS: Final = 5.0
"""How long open requests (a wait for a result, a stream) may go on after the signal."""
LOOK_EVERY: Final = 1.0


class _Unreadable(logging.Filter):
    """Has a line in place of what aiohttp logs of a request that is no HTTP: a traceback that quotes the request.

    Anybody can send one, and what it quotes can be a key.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        log.info("request_unreadable", error=type(error).__name__, status=error.code)
        return False


SERVER_LOG: Final = logging.getLogger("rowlock.api.server")
"""What aiohttp's server is to log by."""
SERVER_LOG.addFilter(_Unreadable())


@asynccontextmanager
async def serving(
    application: web.Application, host: str, port: int, *, what: str = "The API", option: str = "--port"
) -> AsyncIterator[str]:
    """Serve the application for the time of the block, and give its URL. Port 0 takes a free one.

    `what` cannot listen, and which `option` would help, is said by the error if the address cannot be used.

    Raises `ConfigurationError` if the address cannot be used.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=SERVER_LOG,
        shutdown_timeout=REQUESTS_SECONDS,
        keepalive_timeout=HEAD_WITHIN,
    )
    await runner.setup()
    watching = asyncio.create_task(_cut_off(runner), name="rowlock-api-connections")
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(
                f"{what} cannot listen on {host} port {port}: {error.strerror or error}. "
                f"End what listens there, or choose another {option}."
            ) from error
        name, bound = runner.addresses[0][:2]
        yield f"http://[{name}]:{bound}" if ":" in name else f"http://{name}:{bound}"
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await runner.cleanup()


async def _cut_off(runner: web.AppRunner) -> None:
    """Abort the connections whose clients do not read, and those beyond the limit, for as long as it runs."""
    clock = asyncio.get_running_loop().time
    unread: dict[RequestHandler, float] = {}
    while True:
        await asyncio.sleep(LOOK_EVERY)
        connections = [] if runner.server is None else runner.server.connections
        now = clock()
        unread = {one: unread.get(one, now) for one in connections if one.writing_paused}
        slow = [one for one, since in unread.items() if now - since >= READ_WITHIN]
        beyond = connections[MOST_CONNECTIONS:]
        for one in {*slow, *beyond}:
            if one.transport is not None:
                one.transport.abort()
        if slow or beyond:
            log.warning("connections_cut_off", unread=len(slow), beyond_the_limit=len(beyond))
