"""Names of hosts are resolved apart from the event loop's own threads, and stay what TLS compares."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from rowlock.queue.connect.resolving import ResolvingLoop, resolve


async def test_a_host_keeps_its_name_for_tls_while_its_address_is_what_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}

    async def create_connection(_: object, **options: Any) -> tuple[None, None]:  # noqa: ANN401  # of all kinds
        given.update(options)
        options["sock"].close()
        return None, None

    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        loop = ResolvingLoop()
        monkeypatch.setattr(loop._loop, "create_connection", create_connection)
        await loop.create_connection(asyncio.Protocol, "localhost", port, ssl="a context")
        assert (given["ssl"], given["server_hostname"]) == ("a context", "localhost")
        given.clear()
        await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        assert set(given) == {"sock"}


async def test_what_is_not_found_or_does_not_answer_is_an_os_error() -> None:
    with pytest.raises(socket.gaierror):
        await resolve("nobody.invalid", 1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="Connect"):
            await ResolvingLoop().create_connection(asyncio.Protocol, "127.0.0.1", unused.getsockname()[1])


async def test_all_else_is_the_loops_own() -> None:
    loop = asyncio.get_running_loop()
    assert ResolvingLoop().create_future().get_loop() is loop
    assert ResolvingLoop().time == loop.time
