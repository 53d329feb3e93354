"""A call of a handler that has begun already: await it, or wait for it in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rowlock.errors import OutsideHandler

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

T_co = TypeVar("T_co", covariant=True)


class Pending(Generic[T_co]):
    """A call that has begun: `await` it in an async handler, call `.wait()` on it in a plain one."""

    __slots__ = ("_future", "_loop")

    def __init__(self, work: Coroutine[Any, Any, T_co], loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future = asyncio.run_coroutine_threadsafe(work, loop)

    def __await__(self) -> Generator[Any, None, T_co]:
        return asyncio.wrap_future(self._future).__await__()

    def wait(self, timeout: float | None = None) -> T_co:
        """Block this thread until it is done, and return its value. Raises `OutsideHandler` on the event loop."""
        try:
            is_on_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_on_loop = False
        if is_on_loop:
            raise OutsideHandler(".wait() would block the event loop for ever. In an async handler, await the call.")
        return self._future.result(timeout)


class _Turn:
    """An await that only gives the event loop a turn: there is nothing to wait for."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.sleep(0).__await__()


TURN = _Turn()

__all__ = ["TURN", "Pending"]
