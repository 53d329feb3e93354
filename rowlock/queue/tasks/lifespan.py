"""Resources that a worker opens before its first job and closes after its last: an HTTP client, a pool, a model."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar, cast

from rowlock.errors import InvalidOption, OutsideHandler
from rowlock.words import quoted

T = TypeVar("T")

_CLOSED: Final = object()


class Lifespan(Generic[T]):
    """A resource that a function opens while a worker of its application is open. `@app.lifespan` makes it.

    The function yields once. The code before the yield runs before the worker's first job, the code after it when the
    last job has ended; each process of tasks with `executor="process"` opens its own. Several workers in one process
    share one.

    >>> @app.lifespan
    ... async def http() -> AsyncIterator[httpx.AsyncClient]:
    ...     async with httpx.AsyncClient() as client:
    ...         yield client
    >>> @app.task
    ... async def ping(url: str) -> int:
    ...     return (await http.value.get(url)).status_code
    """

    def __init__(self, function: Callable[[], AsyncIterator[T] | Iterator[T]]) -> None:
        if not inspect.isasyncgenfunction(function) and not inspect.isgeneratorfunction(function):
            raise InvalidOption(
                f"lifespan must be a function that yields once; got {quoted(function)}. Write `yield` where "
                "the jobs run.",
                option="lifespan",
            )
        try:
            inspect.signature(function).bind()
        except TypeError as error:
            raise InvalidOption(
                f"lifespan must be a function without parameters; got {quoted(function)} ({error}). Read what "
                "it needs from its module.",
                option="lifespan",
            ) from None
        self.function = function
        self.__name__ = getattr(function, "__name__", "lifespan")
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self._value: object = _CLOSED
        self._workers = 0
        self._opening = asyncio.Lock()
        self._open: AsyncIterator[T] | Iterator[T] | None = None

    @property
    def value(self) -> T:
        """The yielded value. Raises `OutsideHandler` where no worker is open in this process."""
        if self._value is _CLOSED:
            raise OutsideHandler(
                f"The value of {self.__name__} exists while a worker is open in this process. Read it in a handler; "
                f"or keep it open: async with {self.__name__}.opened(): …"
            )
        return cast("T", self._value)

    @property
    def place(self) -> tuple[str, str]:
        """The module, and the name in it, by which another process finds it."""
        return self.__module__, self.function.__qualname__

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep it open during the block, for example in a fixture for several tests.

        Raises the errors of the function, and `InvalidOption` if it does not yield, or yields twice.
        """
        async with self._opening:
            if not self._workers:
                self._open = self.function()
                self._value = await self._step(self._open)
                if self._value is _CLOSED:
                    raise self._yields("it ended without a yield")
            self._workers += 1
        try:
            yield
        finally:
            async with self._opening:
                self._workers -= 1
                if not self._workers:
                    await self._close()

    async def _close(self) -> None:
        opened, self._open, self._value = self._open, None, _CLOSED
        assert opened is not None  # noqa: S101  # only what is open is closed
        if await self._step(opened) is _CLOSED:
            return
        if isinstance(opened, AsyncGenerator):
            await opened.aclose()
        elif isinstance(opened, Generator):
            opened.close()
        raise self._yields("it yielded twice")

    @staticmethod
    async def _step(opened: AsyncIterator[T] | Iterator[T]) -> object:
        """Its next value; `_CLOSED` when it has ended."""
        if isinstance(opened, AsyncIterator):
            return await anext(opened, _CLOSED)
        return next(opened, _CLOSED)

    def _yields(self, why: str) -> InvalidOption:
        return InvalidOption(
            f"lifespan {self.__module__}.{self.__name__} must yield once; {why}. Write one, where the jobs run.",
            option="lifespan",
        )

    def __repr__(self) -> str:
        return f"<Lifespan {self.__module__}.{self.__name__}>"


__all__ = ["Lifespan"]
