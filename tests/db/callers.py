"""Connections of callers, each kind opened in a transaction that the test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)


class Savepoint(Protocol):
    async def rollback(self) -> None: ...
    async def commit(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A caller's connection, in a transaction that the caller ends."""

    given: object
    commit: Callable[[], Awaitable[None]]
    rollback: Callable[[], Awaitable[None]]
    savepoint: Callable[[], Awaitable[Savepoint]]
    execute: Callable[[str], Awaitable[object]]


@asynccontextmanager
async def open_asyncpg(url: str) -> AsyncIterator[Opened]:
    connection = await asyncpg.connect(url)
    try:
        yield await _of_asyncpg(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def open_pool(url: str) -> AsyncIterator[Opened]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        yield await _of_asyncpg(connection)


async def _of_asyncpg(connection: Any) -> Opened:  # noqa: ANN401  # a connection, or the pool's proxy for one
    transaction = connection.transaction()
    await transaction.start()

    async def savepoint() -> Savepoint:
        nested = connection.transaction()
        await nested.start()
        return nested  # type: ignore[no-any-return]  # a transaction of asyncpg

    return Opened(
        given=connection,
        commit=transaction.commit,
        rollback=transaction.rollback,
        savepoint=savepoint,
        execute=connection.execute,
    )


def engine_for(url: str, driver: str = "asyncpg") -> AsyncEngine:
    return create_async_engine(url.replace("postgresql:", f"postgresql+{driver}:"))


@asynccontextmanager
async def open_session(url: str) -> AsyncIterator[Opened]:
    engine = engine_for(url)
    async with AsyncSession(engine) as session:
        yield _of_session(session, session)
    await engine.dispose()


@asynccontextmanager
async def open_scoped_session(url: str) -> AsyncIterator[Opened]:
    engine = engine_for(url)
    scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
    yield _of_session(scoped, scoped())
    await scoped.remove()
    await engine.dispose()


def _of_session(given: object, session: AsyncSession) -> Opened:
    async def savepoint() -> Savepoint:
        return await session.begin_nested()

    return Opened(
        given=given,
        commit=session.commit,
        rollback=session.rollback,
        savepoint=savepoint,
        execute=lambda sql: session.execute(text(sql)),
    )


@asynccontextmanager
async def open_connection(url: str) -> AsyncIterator[Opened]:
    engine = engine_for(url)
    async with engine.connect() as connection:

        async def savepoint() -> Savepoint:
            return await connection.begin_nested()

        yield Opened(
            given=connection,
            commit=connection.commit,
            rollback=connection.rollback,
            savepoint=savepoint,
            execute=lambda sql: connection.execute(text(sql)),
        )
    await engine.dispose()


KINDS: dict[str, Callable[[str], AbstractAsyncContextManager[Opened]]] = {
    "asyncpg": open_asyncpg,
    "asyncpg-pool": open_pool,
    "AsyncSession": open_session,
    "async_scoped_session": open_scoped_session,
    "AsyncConnection": open_connection,
}
