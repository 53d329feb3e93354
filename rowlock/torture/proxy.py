"""A TCP proxy before the server's Unix socket, with the faults of networks: cut, delay, black hole, half-open."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK: Final = 65_536


class Link:
    """One port on 127.0.0.1 that leads to the server. A fault of the link hits all connections through it.

    >>> link = await Link.open(socket, random.Random(1))  # doctest: +SKIP
    """

    def __init__(self, socket: Path, rng: random.Random) -> None:
        self._socket = socket
        self._rng = rng
        self._open = asyncio.Event()
        self._open.set()
        self._delay = 0.0
        self._bytes_left: int | None = None
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Cut each connection in the middle of its next data, at any byte of the next few thousand."""
        self._bytes_left = self._rng.randrange(3000)

    def delay(self, seconds: float) -> None:
        """Deliver everything so much later from now on. 0 ends the delay."""
        self._delay = seconds

    def black_hole(self) -> None:
        """Swallow everything, in both directions, silently; new connections are accepted and swallowed, too."""
        self._open.clear()

    def half_open(self) -> None:
        """Close the server's side of each connection; the clients do not notice."""
        for _, server in self._connections:
            server.transport.abort()

    def heal(self) -> None:
        """Deliver everything again. Connections in the black hole are cut: their bytes are lost."""
        self._delay, self._bytes_left = 0.0, None
        if not self._open.is_set():
            self._cut_all()
        for client, server in self._connections:  # the half-open ones
            if server.transport.is_closing():
                client.transport.abort()
        self._open.set()

    async def close(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        self._cut_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut_all(self) -> None:
        for client, server in self._connections:
            client.transport.abort()
            server.transport.abort()

    def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Serve a connection by a task. Its client's side ends with the task, even if it is cancelled unbegun."""
        task = asyncio.create_task(self._serve(from_client, to_client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: to_client.transport.abort())

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if not self._open.is_set():
            await self._swallow(from_client)
            return
        try:
            from_server, to_server = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return
        pair = (to_client, to_server)
        self._connections.add(pair)
        try:
            await asyncio.gather(
                self._pump(from_client, to_server, pair, is_answer=False),
                self._pump(from_server, to_client, pair, is_answer=True),
            )
        except OSError:
            pass
        finally:
            self._connections.discard(pair)
            for side in pair:
                side.transport.abort()

    async def _swallow(self, from_client: asyncio.StreamReader) -> None:
        waiting = asyncio.ensure_future(self._open.wait())
        reading = asyncio.ensure_future(from_client.read(_CHUNK))
        try:
            await asyncio.wait({waiting, reading}, return_when=asyncio.FIRST_COMPLETED)
            await waiting
        finally:
            waiting.cancel()
            reading.cancel()
            await asyncio.gather(waiting, reading, return_exceptions=True)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        is_answer: bool,
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self._delay:
                await asyncio.sleep(self._delay * self._rng.uniform(0.5, 1.5))
            if not self._open.is_set():
                await self._open.wait()  # heal() cuts it
                return
            if writer.transport.is_closing():
                continue  # half-open: swallowed
            if self._bytes_left is not None:
                data, self._bytes_left = data[: self._bytes_left], self._bytes_left - len(data)
                if self._bytes_left < 0:
                    writer.write(data)
                    with suppress(OSError):
                        await asyncio.wait_for(writer.drain(), 1)
                    self._bytes_left = None
                    self._cut_all()
                    return
            writer.write(data)
            await writer.drain()
        if is_answer and pair[1].transport.is_closing():  # half-open: the server is gone, the client is not notified
            await asyncio.Event().wait()
        if writer.can_write_eof():
            writer.write_eof()
