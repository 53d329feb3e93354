"""Serve the API on an address of its own, and disconnect slow clients.

A request's head must arrive before the timeout of idle connections, its body within `exchange.BODY_WITHIN`; aiohttp
provides both. This module adds two limits that aiohttp lacks: a timeout for responses that the client does not read,
and a maximum of connections.
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
"""Seconds within which a request's head must arrive, and after which an idle connection ends."""
READ_WITHIN: Final = 60.0
"""Seconds for which a response may wait for a client to read on."""
MOST_CONNECTIONS: Final = 1000
"""The most connections served at once; later ones are closed."""
REQUESTS_SECONDS: Final = 5.0
"""Seconds that open requests (a wait for a result, a stream) may continue after the signal."""
LINGER: Final = 0.5
"""Seconds for which the rest of a refused body is read and discarded: if the connection closed at once, a client that
is still sending would lose the answer (RFC 9112, 9.6)."""
LOOK_EVERY: Final = 1.0


class _Unreadable(logging.Filter):
    """Replace aiohttp's log of a request that is not HTTP, a traceback that quotes the request, by one line.

    Any client can send such a request, and the quoted text can contain a key.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        log.info("request_unreadable", error=type(error).__name__, status=error.code)
        return False


SERVER_LOG: Final = logging.getLogger("rowlock.api.server")
"""The logger of aiohttp's server."""
SERVER_LOG.addFilter(_Unreadable())


class _Connection(web.RequestHandler):
    """A connection that answers an unreadable request with a problem document, like any other refused request."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer an unreadable request without quoting it. aiohttp answers other errors."""
        response = super().handle_error(request, status, exc, message)
        if not isinstance(exc, HttpProcessingError):
            return response
        detail = "The request is not HTTP/1.1, or its head is too large."
        if isinstance(exc, BadHttpMethod):
            detail = "The method must be GET, HEAD, POST, PUT, PATCH or DELETE, in capitals."
        answered = respond(request, Refused(Kind(status=status, title=HTTPStatus(status).phrase), detail))
        answered.headers.update(HEADERS)
        answered.force_close()
        return answered


@asynccontextmanager
async def serving(
    application: web.Application, host: str, port: int, *, what: str = "The API", option: str = "--port"
) -> AsyncIterator[str]:
    """Serve the application during the block; yield its URL. Port 0 selects a free port.

    Raises `ConfigurationError` if the address cannot be used; `what` and `option` name the server and the option to
    change in its message.
    """
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=REQUESTS_SECONDS)
    await runner.setup()
    loop, manager = asyncio.get_running_loop(), cast("web.Server", runner.server)  # set by setup()

    def connection() -> web.RequestHandler:
        return _Connection(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None means no access log, as in AppRunner
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
                f"Stop the program that listens there, or choose another {option}."
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
    """Abort the connections whose clients do not read, and those beyond the limit, until cancelled."""
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
