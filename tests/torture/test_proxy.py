"""The links of the torture: what passes, what is cut, what is swallowed."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from rowlock.embedded import make_private_directory
from rowlock.torture.proxy import Link

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
clients: list[Client] = []


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """A link to a server that sends back what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        writer.close()

    path = make_private_directory("rowlock-link-") / "socket"
    server = await asyncio.start_unix_server(echo, path)
    opened = Link(path, random.Random(1))
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()
        for _, writer in clients:
            writer.transport.abort()
        clients.clear()
        server.close()
        shutil.rmtree(path.parent)


async def client(link: Link) -> Client:
    clients.append(await asyncio.open_connection("127.0.0.1", link.port))
    return clients[-1]


async def echoed(of: Client, text: bytes, timeout: float = 5.0) -> bytes:
    reader, writer = of
    writer.write(text)
    return await asyncio.wait_for(reader.readexactly(len(text)), timeout)


async def test_what_is_sent_passes_both_ways(link: Link) -> None:
    assert await echoed(await client(link), b"x" * 5000) == b"x" * 5000


async def test_a_cut_link_breaks_in_the_middle_of_what_passes(link: Link) -> None:
    one = await client(link)
    assert await echoed(one, b"before") == b"before"
    link.cut()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await echoed(one, b"y" * 100_000)
    assert await echoed(await client(link), b"after") == b"after"


async def test_a_black_hole_swallows_and_accepts_until_it_is_healed(link: Link) -> None:
    one = await client(link)
    assert await echoed(one, b"before") == b"before"
    link.black_hole()
    other = await client(link)
    for swallowed in (one, other):
        with pytest.raises(TimeoutError):
            await echoed(swallowed, b"lost", timeout=0.1)
    link.heal()
    for cut in (one, other):
        assert await asyncio.wait_for(cut[0].read(), 5) == b"", "what was swallowed does not come back"
    assert await echoed(await client(link), b"after") == b"after"


async def test_a_half_open_link_lets_the_client_believe_in_its_connection(link: Link) -> None:
    one = await client(link)
    assert await echoed(one, b"before") == b"before"
    link.half_open()
    with pytest.raises(TimeoutError):
        await echoed(one, b"into the void", timeout=0.2)
    assert not one[0].at_eof()
    assert await echoed(await client(link), b"others") == b"others"
    link.heal()
    with suppress(ConnectionError):
        assert await asyncio.wait_for(one[0].read(), 5) == b""


async def test_a_slow_link_delivers_later(link: Link) -> None:
    one = await client(link)
    link.delay(0.2)
    with pytest.raises(TimeoutError):
        await echoed(one, b"slow", timeout=0.05)
    link.delay(0)
    assert await asyncio.wait_for(one[0].readexactly(4), 5) == b"slow"


async def yielded() -> None:
    """Give the loop one turn, no more: a task that begins in it has not run yet."""
    await asyncio.sleep(0)


async def test_a_connection_whose_serving_is_cancelled_before_it_begins_is_closed(link: Link) -> None:
    before = asyncio.all_tasks()
    with socket.create_connection(("127.0.0.1", link.port), timeout=5) as connected:
        while not (serving := {task for task in asyncio.all_tasks() - before if "Link" in str(task.get_coro())}):
            await yielded()
        for task in serving:
            task.cancel()
        assert await asyncio.to_thread(connected.recv, 1) == b""
