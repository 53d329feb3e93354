"""Resolve host names in threads of its own.

asyncio resolves names in its default executor, whose few threads handlers may have filled with `asyncio.to_thread`: a
lost connection would not come back before one of them is done.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Infos: TypeAlias = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]]


class ResolvingLoop:
    """The running event loop for a driver that connects, with another way to resolve the host.

    The host keeps its name where TLS compares it with the certificate.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the loop has
        return getattr(self._loop, name)

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        **options: Any,  # noqa: ANN401  # the loop's
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect to the first address of the host that answers, as the loop does. Raises `OSError` if none does."""
        if options.get("ssl"):
            options.setdefault("server_hostname", host)
        failed = OSError(f"the host {host} has no address")
        for family, kind, number, _, address in await resolve(host, port):
            sock = socket.socket(family, kind, number)
            sock.setblocking(False)  # noqa: FBT003  # the socket's
            try:
                await self._loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                failed = error
            except BaseException:
                sock.close()
                raise
            else:
                return await self._loop.create_connection(protocol_factory, sock=sock, **options)
        raise failed


async def resolve(host: str, port: int) -> Infos:
    """The addresses of a host, as `socket.getaddrinfo` finds them. Raises `OSError`."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found: Future[Infos] = Future()
        threading.Thread(target=_look_up, args=(found, host, port), name="rowlock-resolver", daemon=True).start()
        return await asyncio.wrap_future(found)


def _look_up(found: Future[Infos], host: str, port: int) -> None:
    if found.set_running_or_notify_cancel():
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
            found.set_exception(error)


__all__ = ["ResolvingLoop", "resolve"]
