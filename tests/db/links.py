"""A link to PostgreSQL over TCP that a test can cut, stop, slow down or close."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.db.proxy import SOCKET

if TYPE_CHECKING:
    from tests.conftest import Server


class Link:
    """Passes on what both sides say. Once it `swallows`, nothing arrives any more, and nobody is told: neither on the
    connections that are there nor on new ones, which are accepted; after `lose()`, on those that are there. `delay`
    holds up whatever the client says.
    """

    def __init__(self, server: Server, database_url: str, host: str, tls: ssl.SSLContext | None = None) -> None:
        self._socket = str(Path(server.socket_dir) / SOCKET)
        self._database = database_url.partition("@/")[2].partition("?")[0]
        self._host = host
        self._tls = tls
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._listening: asyncio.Server | None = None
        self.port = 0
        self.swallows = False
        self.delay = 0.0
        self.connections = 0
        self._lost = 0

    @property
    def url(self) -> str:
        """The DSN of the test's database over this link."""
        return f"postgresql://postgres@{self._host}:{self.port}/{self._database}?sslmode=disable"

    async def open(self) -> None:
        """Accept connections, always on the same port."""
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut all connections, and refuse new ones."""
        if self._listening is not None:
            self._listening.close()
        await self.cut()

    def lose(self) -> None:
        """Swallow whatever is said on the connections that are there, for ever. New ones are served."""
        self._lost = self.connections

    async def cut(self) -> None:
        """Cut all connections."""
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        except OSError:  # the server is away
            writer.transport.abort()
            return
        self._writers += [writer, far_writer]
        for source, target, is_client in ((reader, far_writer, True), (far_reader, writer, False)):
            pump = asyncio.create_task(self._pump(source, target, number, is_client=is_client))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, number: int, *, is_client: bool
    ) -> None:
        try:
            with suppress(OSError):
                while data := await source.read(65536):
                    if is_client and self.delay:
                        await asyncio.sleep(self.delay)
                    if not self.swallows and number > self._lost:
                        target.write(data)
        finally:
            if not self.swallows and number > self._lost:
                target.transport.abort()


@asynccontextmanager
async def linked(
    server: Server, database_url: str, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Link]:
    """An open link to the test's server, with TLS on the client's side if given."""
    link = Link(server, database_url, host, tls)
    await link.open()
    try:
        yield link
    finally:
        await link.close()
