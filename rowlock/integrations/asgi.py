"""The HTTP API and the dashboard inside an ASGI application (FastAPI, Starlette, Django): `asgi`.

The API is an aiohttp application. It listens on a Unix socket in a folder that only this user may enter, in the same
process and event loop; this module streams requests to it and responses back.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from rowlock.api import create_app
from rowlock.api.access.authentication import keys_are_demanded
from rowlock.api.serving import SERVER_LOG
from rowlock.integrations.beside import check_queue, ends_with

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from rowlock.api.access.access import Authenticate
    from rowlock.app import Rowlock

__all__ = ["asgi"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_SCHEME: Final = "X-Rowlock-Scheme"
_REMOTE: Final = "X-Rowlock-Remote"
_NOT_PASSED_ON: Final = frozenset(
    {b"connection", b"expect", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"date", b"server"}
    | {_SCHEME.lower().encode(), _REMOTE.lower().encode()}
)
"""Headers that are not forwarded: those of one connection, the server's own, and those that this module adds."""
_SAY_THAT_THERE_IS_A_BODY: Final = frozenset({b"content-length", b"transfer-encoding"})


def asgi(queue: Rowlock, *, authenticate: Authenticate = keys_are_demanded) -> _Bridge:
    """The HTTP API and the dashboard of a `Rowlock` as an ASGI application, to be mounted in another one.

    `authenticate` is that of `create_app`; by default every request needs a key. The API starts with the first request,
    and ends with the `lifespan` of `rowlock.integrations.starlette`. Raises `InvalidOption` if `queue` is not a
    `Rowlock`.

    >>> app.mount("/queue", asgi(queue))
    """
    check_queue(queue, caller="asgi()")
    return _Bridge(queue, authenticate)


class _Bridge:
    """An ASGI application that forwards requests to the API."""

    def __init__(self, queue: Rowlock, authenticate: Authenticate) -> None:
        self._queue = queue
        self._authenticate = authenticate
        self._running: dict[str, aiohttp.ClientSession] = {}
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        client = await self._client(scope.get("root_path", "").rstrip("/"))
        with suppress(aiohttp.ClientError, ConnectionError):  # one side is gone: the server ends the other
            await _pass_on(client, scope, receive, send)

    async def _client(self, prefix: str) -> aiohttp.ClientSession:
        """Return the HTTP client of the API below this path; start the API if necessary."""
        async with self._starting:
            if prefix not in self._running:
                if not self._running:
                    ends_with(self._queue, self._close)
                self._running[prefix] = await self._start(prefix)
            return self._running[prefix]

    async def _start(self, prefix: str) -> aiohttp.ClientSession:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rowlock-"))  # for this user alone
        socket = str(Path(folder, "api"))
        api = create_app(self._queue, authenticate=self._authenticate)
        api.middlewares.insert(0, _as_it_came)
        site = api
        if prefix:
            site = web.Application()
            site.add_subapp(prefix, api)
        runner = web.AppRunner(site, access_log=None, logger=SERVER_LOG, shutdown_timeout=1, auto_decompress=False)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, socket).start()
        return await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(socket, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            )
        )

    async def _close(self) -> None:
        self._running.clear()
        await self._stack.aclose()


@web.middleware
async def _as_it_came(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Restore the request's scheme and client address: no other process can reach the socket and forge them."""
    known = request._cache  # noqa: SLF001  # a clone of the request would not be the one that gets the response
    known["scheme"], known["remote"] = request.headers[_SCHEME], request.headers[_REMOTE]
    return await handler(request)


async def _pass_on(client: aiohttp.ClientSession, scope: Scope, receive: Receive, send: Send) -> None:
    """Forward the request to the API, and its response back, until it ends or the client disconnects."""
    body, is_read = None, asyncio.Event()
    names = {name for name, _ in scope["headers"]}
    if names & _SAY_THAT_THERE_IS_A_BODY and b"content-encoding" not in names:  # else the API refuses it by its headers
        body = _body(receive, is_read)
    else:
        is_read.set()
    gone = asyncio.create_task(_wait_until_gone(receive, is_read))
    answering = asyncio.create_task(_answer(client, scope, body, send))
    try:
        await asyncio.wait((gone, answering), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
    finally:
        for task in (gone, answering):
            task.cancel()
        await asyncio.gather(gone, answering, return_exceptions=True)


async def _answer(client: aiohttp.ClientSession, scope: Scope, body: AsyncIterator[bytes] | None, send: Send) -> None:
    async with client.request(
        scope["method"], _url(scope), headers=_headers(scope), data=body, allow_redirects=False
    ) as response:
        try:
            headers = [(name.lower(), value) for name, value in response.raw_headers]
            kept = [(name, value) for name, value in headers if name not in _NOT_PASSED_ON]
            await send({"type": "http.response.start", "status": response.status, "headers": kept})
            async for piece in response.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            if not response.content.at_eof():
                response.close()


async def _body(receive: Receive, is_read: asyncio.Event) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            is_read.set()
            return


async def _wait_until_gone(receive: Receive, is_read: asyncio.Event) -> None:
    """Wait until the client disconnects, after its body is read: two tasks must not receive at once."""
    await is_read.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


def _url(scope: Scope) -> URL:
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope.get("query_string", b"")
    return URL(f"http://api{path.decode('latin-1')}{'?' if query else ''}{query.decode('latin-1')}", encoded=True)


def _headers(scope: Scope) -> Iterable[tuple[str, str]]:
    """Copy the headers, decoded as UTF-8 as aiohttp decodes them. Chunks beat a length (RFC 9112, 6.3)."""
    names = {name for name, _ in scope["headers"]}
    is_without_length = bool(names & {b"transfer-encoding", b"content-encoding"})
    left_out = _NOT_PASSED_ON | ({b"content-length"} if is_without_length else set())
    given = [
        (name.decode("latin-1"), value.decode("utf-8", "replace"))
        for name, value in scope["headers"]
        if name.lower() not in left_out
    ]
    client = scope.get("client") or ("",)
    return [*given, (_SCHEME, scope.get("scheme", "http")), (_REMOTE, str(client[0]))]
