"""Serving the API on an address of its own, and cutting off the clients that would hold it up.

A request's head must arrive within the time after which idle connections end, its body within `exchange.BODY_WITHIN`;
both are aiohttp's. What aiohttp lacks is here: an end for responses that nobody reads, and a limit on connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError

from rowlock import logs
from rowlock.api.http.exchange import HEADERS
from rowlock.api.http.problems import Kind, Refused, respond
from rowlock.errors import ConfigurationError

log = logs.get_logger("rowlock.api")

HEAD_WITHIN: Final = 20.0
"""Seconds that a request's head may take, and a connection without requests stays open."""
READ_WITHIN: Final = 60.0
"""Seconds for which a response may wait for a client to read on."""
MOST_CONNECTIONS: Final = 1000
"""How many connections are served; those that come later are closed."""
REQUESTS_SECONDS: Final = 5.0
"""How long open requests (a wait for a result, a stream) may go on after the signal."""
LINGER: Final = 0.5
"""Seconds for which the rest of a refused body is read and thrown away: a client that is still sending would lose the
answer to a connection that is closed at once (RFC 9112, 9.6)."""
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


class _Connection(web.RequestHandler):
    """A connection, on which a request that aiohttp cannot read is answered like all others: by a problem document."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what cannot be read, without quoting it. Anything else is aiohttp's."""
        response = super().handle_error(request, status, exc, message)
        if not isinstance(exc, HttpProcessingError):
            return response
        detail = "This is no HTTP/1.1 request, or its head is too large."
        if isinstance(exc, BadHttpMethod):
            detail = "There is no such method: use GET, HEAD, POST, PUT, PATCH or DELETE, in capitals."
        answered = respond(request, Refused(Kind(status=status, title=HTTPStatus(status).phrase), detail))
        answered.headers.update(HEADERS)
        answered.force_close()
        return answered


@asynccontextmanager
async def serving(
    application: web.Application, host: str, port: int, *, what: str = "The API", option: str = "--port"
) -> AsyncIterator[str]:
    """Serve the application for the time of the block, and give its URL. Port 0 takes a free one.

    `what` cannot listen, and which `option` would help, is said by the error if the address cannot be used.

    Raises `ConfigurationError` if the address cannot be used.
    """
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=REQUESTS_SECONDS)
    await runner.setup()
    loop, manager = asyncio.get_running_loop(), cast("web.Server", runner.server)  # there is one once it is set up

    def connection() -> web.RequestHandler:
        return _Connection(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # there is none, as AppRunner says it
            logger=SERVER_LOG,
            keepalive_timeout=HEAD_WITHIN,
            lingering_time=LINGER,
            auto_decompress=False,
        )

    watching = asyncio.create_task(_cut_off(runner), name="rowlock-api-connections")
    listening: asyncio.Server | None = None
    try:
        try:
            listening = await loop.create_server(connection, host, port, backlog=128)
        except OSError as error:
            raise ConfigurationError(
                f"{what} cannot listen on {host} port {port}: {error.strerror or error}. "
                f"End what listens there, or choose another {option}."
            ) from error
        name, bound = listening.sockets[0].getsockname()[:2]
        yield f"http://[{name}]:{bound}" if ":" in name else f"http://{name}:{bound}"
    finally:
        if listening is not None:
            listening.close()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await runner.cleanup()


async def _cut_off(runner: web.AppRunner) -> None:
    """Abort the connections whose clients do not read, and those beyond the limit, for as long as it runs."""
    clock = asyncio.get_running_loop().time
    unread: dict[web.RequestHandler, float] = {}
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
