"""A proxy before PostgreSQL's Unix socket that cuts a connection when the client sends a given text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

SOCKET = ".s.PGSQL.5432"


@dataclass
class CuttingProxy:
    """Passes everything on, until the client sends the text `cut_at`: cuts that connection, once.

    With `arrives` the message reaches the server, and the server's answer is what does not come back.
    """

    server_dir: Path
    folder: Path
    cut_at: bytes | None = None
    arrives: bool = False
    cuts: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        server_reader, server_writer = await asyncio.open_unix_connection(str(self.server_dir / SOCKET))
        answers = asyncio.create_task(self._pass_on(server_reader, writer))
        self._tasks.add(answers)
        answers.add_done_callback(self._tasks.discard)
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.cut_at is not None and self.cut_at in data:
                    self.cut_at = None
                    self.cuts += 1
                    answers.cancel()
                    with suppress(asyncio.CancelledError):
                        await answers
                    if self.arrives:
                        server_writer.write(data)
                        await server_reader.read(65536)
                    break
                server_writer.write(data)
                await server_writer.drain()
        server_writer.transport.abort()
        writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()


@asynccontextmanager
async def cutting_proxy(server_dir: str) -> AsyncIterator[CuttingProxy]:
    """A proxy before the server of this socket's folder; its own socket is in its `folder`."""
    with TemporaryDirectory(prefix="rowlock-proxy-") as folder:
        proxy = CuttingProxy(Path(server_dir), Path(folder))
        server = await asyncio.start_unix_server(proxy.serve, str(proxy.folder / SOCKET))
        try:
            yield proxy
        finally:
            server.close()
