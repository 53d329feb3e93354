"""A proxy before PostgreSQL's Unix socket that knows the protocol's messages, and cuts or kills at a chosen one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

SOCKET = ".s.PGSQL.5432"
CHUNK = 1 << 16
STARTUP = "startup"
READY = "<Z"
OF_THE_DRIVER = (b"typeinfo_tree", b"pg_catalog.set_config('jit'", b"current_setting('jit')")


class How(StrEnum):
    """What happens at a message: the connection is cut, or the client's process is killed first."""

    CUT_BEFORE = "cut before"
    CUT_WITHIN = "cut within"
    CUT_AFTER = "cut after"
    KILL_BEFORE = "kill before"
    KILL_AFTER = "kill after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Which messages count: of the first connection of this application's name, from its first byte on. What the driver
    asks by itself, about types that are new to it, does not.

    With a `marker`: from the first message on that has this text in it; then `skip` answers (up to `ReadyForQuery`)
    are passed over. The count ends after `ready` answers, or else with the connection.
    """

    application: str
    marker: bytes = b""
    skip: int = 0
    ready: int | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A message, and the letter that says of which kind it is: `>P` from the client, `<1` from the server."""

    kind: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """What to do at which of the messages that count. `kill` ends the client's process, and returns when it is dead."""

    at: int
    how: How
    kill: Callable[[], Awaitable[None]] | None = None


class Wire:
    """The proxy. `seen` are the kinds of the messages that counted since it was last armed, in their order."""

    def __init__(self, server_dir: Path, folder: Path) -> None:
        self.server_dir = server_dir
        self.folder = folder
        self.seen: list[str] = []
        self.sprung = asyncio.Event()
        self.links: set[asyncio.Task[None]] = set()
        self._aim: Aim | None = None
        self._trap: Trap | None = None
        self._skip = 0
        self._is_counting = self._asks = False
        self._asked: set[bytes] = set()
        self._target: _Link | None = None

    def arm(self, aim: Aim, trap: Trap | None) -> None:
        """Begin to look for the connection that is aimed at; without a trap the messages are only counted."""
        self.seen, self.sprung = [], asyncio.Event()
        self._aim, self._trap = aim, trap
        self._skip, self._is_counting, self._target = aim.skip, False, None
        self._asks, self._asked = False, set()

    async def settled(self) -> None:
        """Wait until no connection is left: the server has let go of all that it was sent over them."""
        while self.links:
            await asyncio.wait(self.links)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task is not None
        self.links.add(task)
        try:
            server = await asyncio.open_unix_connection(str(self.server_dir / SOCKET))
            await _Link(self, reader, writer, *server).run()
        finally:
            self.links.discard(task)

    def is_target(self, link: _Link, startup: bytes) -> bool:
        """Whether a new connection is the one that is aimed at."""
        if self._aim is None or self._target is not None:
            return False
        words = startup[8:].split(b"\0")
        if b"application_name" not in words:  # a cancel request has none
            return False
        if words[words.index(b"application_name") + 1] != self._aim.application.encode():
            return False
        self._target = link
        return True

    def meet(self, frame: Frame) -> How | None:
        """Count a message of the target; tells what is to happen to it, if it is the one."""
        if not self._counts(frame):
            return None
        self.seen.append(frame.kind)
        if self._trap is None or len(self.seen) - 1 != self._trap.at:
            return None
        return self._trap.how

    def _counts(self, frame: Frame) -> bool:
        aim = self._aim
        if aim is None or self.sprung.is_set() or self._is_of_the_driver(frame):
            return False
        self._is_counting = self._is_counting or aim.marker in frame.data
        if self._is_counting and self._skip:
            self._skip -= frame.kind == READY
            return False
        return self._is_counting and (aim.ready is None or self.seen.count(READY) < aim.ready)

    def _is_of_the_driver(self, frame: Frame) -> bool:
        """Whether it is part of a question of the driver's own, or of its answer."""
        if frame.kind == ">P":
            name, text = frame.data[5:].split(b"\0")[:2]
            self._asks = any(words in text for words in OF_THE_DRIVER)
            if self._asks:
                self._asked.add(name)
        elif frame.kind == ">B":
            self._asks = frame.data[5:].split(b"\0")[1] in self._asked
        is_so = self._asks
        if frame.kind == READY:
            self._asks = False
        return is_so

    async def spring(self) -> None:
        """Kill the client's process if that is to be."""
        if self._trap is not None and self._trap.kill is not None:
            await self._trap.kill()
        self.sprung.set()


class _Link:
    """One client's connection, and the one to the server that goes with it."""

    def __init__(
        self,
        wire: Wire,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self._wire = wire
        self._reader, self._writer = reader, writer
        self._server_reader, self._server_writer = server_reader, server_writer
        self._is_cut = False
        self._is_target = False

    async def run(self) -> None:
        """Pass on what comes, until the server has hung up: it has worked off by then all that it was sent."""
        try:
            with suppress(ConnectionError):
                startup = await self._reader.readexactly(4)
                startup += await self._reader.readexactly(int.from_bytes(startup) - 4)
                self._is_target = self._wire.is_target(self, startup)
                await self._pass([Frame(f">{STARTUP}", startup)], self._server_writer)
                await asyncio.gather(self._from_client(), self._from_server())
        except asyncio.IncompleteReadError:
            pass
        finally:
            self._writer.transport.abort()
            self._server_writer.transport.abort()

    async def _from_client(self) -> None:
        with suppress(ConnectionError):
            async for frames in self._frames(self._reader, ">"):
                await self._pass(frames, self._server_writer)
        self._end_of_sending()

    async def _from_server(self) -> None:
        with suppress(ConnectionError):
            async for frames in self._frames(self._server_reader, "<"):
                await self._pass(frames, self._writer)
        self._writer.close()

    async def _frames(self, reader: asyncio.StreamReader, side: str) -> AsyncIterator[list[Frame]]:
        """What comes in whole messages; of a connection that is not aimed at, just as it comes."""
        buffer = bytearray()
        while data := await reader.read(CHUNK):
            if not self._is_target:
                yield [Frame("", data)]
                continue
            buffer += data
            yield list(_whole(buffer, side))

    async def _pass(self, frames: list[Frame], to: asyncio.StreamWriter) -> None:
        """Pass messages on, up to the one at which something is to happen. A cut connection only swallows them."""
        if self._is_cut:
            return
        for frame in frames:
            how = self._wire.meet(frame) if self._is_target else None
            if how is None:
                to.write(frame.data)
                continue
            if how in {How.CUT_AFTER, How.KILL_AFTER}:
                to.write(frame.data)
            elif how is How.CUT_WITHIN:
                to.write(frame.data[: len(frame.data) // 2])
            self._is_cut = True
            await to.drain()
            await self._wire.spring()
            self._writer.close()
            self._end_of_sending()
            return
        await to.drain()

    def _end_of_sending(self) -> None:
        """Tell the server that nothing more comes: it reads all that it was sent, and hangs up.

        A plain close with something unread would make it drop what it was sent.
        """
        with suppress(OSError, RuntimeError):
            if not self._server_writer.is_closing():
                self._server_writer.write_eof()


def _whole(buffer: bytearray, side: str) -> Iterator[Frame]:
    """Take the whole messages from the buffer: a letter, then the length of what follows, with its own four bytes."""
    while len(buffer) >= 5:
        end = 1 + int.from_bytes(buffer[1:5])
        if len(buffer) < end:
            return
        yield Frame(f"{side}{chr(buffer[0])}", bytes(buffer[:end]))
        del buffer[:end]


@asynccontextmanager
async def open_wire(server_dir: str) -> AsyncIterator[Wire]:
    """A proxy before the server of this socket's folder; its own socket is in its `folder`."""
    with TemporaryDirectory(prefix="rowlock-wire-") as folder:
        wire = Wire(Path(server_dir), Path(folder))
        server = await asyncio.start_unix_server(wire.serve, str(wire.folder / SOCKET))
        try:
            yield wire
        finally:
            server.close()
            for link in tuple(wire.links):
                link.cancel()
            await asyncio.gather(*wire.links, return_exceptions=True)
