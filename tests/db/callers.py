"""Connections of callers, each kind opened in a transaction that the test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import asyncpg
import psycopg
import psycopg2
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

_AUTOCOMMIT: Final[dict[str, Any]] = {"isolation_level": "AUTOCOMMIT"}


class Savepoint(Protocol):
    async def rollback(self) -> None: ...
    async def commit(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A caller's connection, in a transaction that the caller ends.

    `close`: None where what is closed opens again by itself. `begin_autocommit`, instead of a transaction: None where
    there is no such mode.
    """

    given: object
    is_synchronous: bool = False
    commit: Callable[[], Awaitable[None]]
    rollback: Callable[[], Awaitable[None]]
    savepoint: Callable[[], Awaitable[Savepoint]]
    execute: Callable[[str], Awaitable[object]]
    close: Callable[[], Awaitable[None]] | None = None
    begin_autocommit: Callable[[], Awaitable[object]] | None = None


@asynccontextmanager
async def open_asyncpg(url: str) -> AsyncIterator[Opened]:
    connection = await asyncpg.connect(url)
    try:
        yield await _of_asyncpg(connection, connection.close)
    finally:
        await connection.close()


@asynccontextmanager
async def open_pool(url: str) -> AsyncIterator[Opened]:
    pool = await asyncpg.create_pool(url, min_size=1, max_size=1)
    try:
        connection = await pool.acquire()
        yield await _of_asyncpg(connection, partial(pool.release, connection))
    finally:
        pool.terminate()


async def _of_asyncpg(connection: Any, close: Callable[[], Awaitable[None]]) -> Opened:  # noqa: ANN401  # or a pool's proxy
    async def begin() -> Any:  # noqa: ANN401  # a transaction of asyncpg
        transaction = connection.transaction()
        await transaction.start()
        return transaction

    transactions = [await begin()]

    async def commit() -> None:
        await transactions.pop().commit()
        transactions.append(await begin())  # as with other drivers, whose next transaction begins by itself

    async def rollback() -> None:
        await transactions.pop().rollback()
        transactions.append(await begin())

    return Opened(
        given=connection,
        commit=commit,
        rollback=rollback,
        savepoint=begin,
        execute=connection.execute,
        close=close,
    )


def engine_for(url: str, driver: str = "asyncpg") -> AsyncEngine:
    return create_async_engine(url.replace("postgresql:", f"postgresql+{driver}:"))


def synchronous_engine_for(url: str, driver: str) -> Engine:
    return create_engine(url.replace("postgresql:", f"postgresql+{driver}:"))


@asynccontextmanager
async def open_async_session(url: str, driver: str) -> AsyncIterator[Opened]:
    engine = engine_for(url, driver)
    async with AsyncSession(engine) as session:
        yield _of_async_session(session, session)
    await engine.dispose()


@asynccontextmanager
async def open_async_scoped_session(url: str) -> AsyncIterator[Opened]:
    engine = engine_for(url)
    scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
    yield _of_async_session(scoped, scoped())
    await scoped.remove()
    await engine.dispose()


def _of_async_session(given: object, session: AsyncSession) -> Opened:
    async def savepoint() -> Savepoint:
        return await session.begin_nested()

    return Opened(
        given=given,
        commit=session.commit,
        rollback=session.rollback,
        savepoint=savepoint,
        execute=lambda sql: session.execute(text(sql)),
        begin_autocommit=lambda: session.connection(execution_options=_AUTOCOMMIT),
    )


@asynccontextmanager
async def open_async_connection(url: str, driver: str) -> AsyncIterator[Opened]:
    engine = engine_for(url, driver)
    async with engine.connect() as connection:

        async def savepoint() -> Savepoint:
            return await connection.begin_nested()

        yield Opened(
            given=connection,
            commit=connection.commit,
            rollback=connection.rollback,
            savepoint=savepoint,
            execute=lambda sql: connection.execute(text(sql)),
            close=connection.close,
            begin_autocommit=lambda: connection.execution_options(**_AUTOCOMMIT),
        )
    await engine.dispose()


class _Awaited:
    """A synchronous transaction or savepoint, in the form that the tests await."""

    def __init__(self, commit: Callable[[], object], rollback: Callable[[], object]) -> None:
        self._commit = commit
        self._rollback = rollback

    async def commit(self) -> None:
        self._commit()

    async def rollback(self) -> None:
        self._rollback()


def _awaited(
    given: object,
    whole: _Awaited,
    savepoint: Callable[[], _Awaited],
    execute: Callable[[str], object],
    *,
    close: Callable[[], object] | None = None,
    begin_autocommit: Callable[[], object],
) -> Opened:
    async def begin_savepoint() -> Savepoint:
        return savepoint()

    async def run(sql: str) -> object:
        return execute(sql)

    async def end(closing: Callable[[], object]) -> None:
        closing()

    async def begin_without() -> object:
        return begin_autocommit()

    return Opened(
        given=given,
        is_synchronous=True,
        commit=whole.commit,
        rollback=whole.rollback,
        savepoint=begin_savepoint,
        execute=run,
        close=None if close is None else partial(end, close),
        begin_autocommit=begin_without,
    )


@asynccontextmanager
async def open_session(url: str, driver: str) -> AsyncIterator[Opened]:
    engine = synchronous_engine_for(url, driver)
    with Session(engine) as session:
        yield _of_sqlalchemy(session, session)
    engine.dispose()


@asynccontextmanager
async def open_scoped_session(url: str) -> AsyncIterator[Opened]:
    engine = synchronous_engine_for(url, "psycopg")
    scoped = scoped_session(sessionmaker(engine))
    yield _of_sqlalchemy(scoped, scoped())
    scoped.remove()
    engine.dispose()


@asynccontextmanager
async def open_connection(url: str, driver: str) -> AsyncIterator[Opened]:
    engine = synchronous_engine_for(url, driver)
    with engine.connect() as connection:
        yield _of_sqlalchemy(connection, connection)
    engine.dispose()


def _of_sqlalchemy(given: object, real: Session | Connection) -> Opened:
    def savepoint() -> _Awaited:
        nested = real.begin_nested()
        return _Awaited(nested.commit, nested.rollback)

    def begin_autocommit() -> object:
        if isinstance(real, Session):
            return real.connection(execution_options=_AUTOCOMMIT)
        return real.execution_options(**_AUTOCOMMIT)

    return _awaited(
        given,
        _Awaited(real.commit, real.rollback),
        savepoint,
        lambda sql: real.execute(text(sql)),
        close=real.close if isinstance(real, Connection) else None,
        begin_autocommit=begin_autocommit,
    )


@asynccontextmanager
async def open_async_psycopg(url: str) -> AsyncIterator[Opened]:
    async with await psycopg.AsyncConnection.connect(url) as connection:

        async def savepoint() -> Savepoint:
            await connection.execute("SELECT 1")  # else the block would be the whole transaction
            block = connection.transaction()
            await block.__aenter__()
            return _Block(block)

        yield Opened(
            given=connection,
            commit=connection.commit,
            rollback=connection.rollback,
            savepoint=savepoint,
            execute=lambda sql: connection.execute(sql.encode()),
            close=connection.close,
            begin_autocommit=lambda: connection.set_autocommit(True),
        )


class _Block:
    """A block of psycopg's, as a savepoint."""

    def __init__(self, block: Any) -> None:  # noqa: ANN401  # psycopg's context manager
        self._block = block

    async def commit(self) -> None:
        await self._block.__aexit__(None, None, None)

    async def rollback(self) -> None:
        await self._block.__aexit__(psycopg.Rollback, psycopg.Rollback(), None)


def _of_block(block: AbstractContextManager[object], undo: Callable[[], BaseException]) -> _Awaited:
    """A block that is entered here, as a savepoint."""
    block.__enter__()

    def rollback() -> None:
        error = undo()
        block.__exit__(type(error), error, None)

    return _Awaited(lambda: block.__exit__(None, None, None), rollback)


@asynccontextmanager
async def open_psycopg(url: str) -> AsyncIterator[Opened]:
    with psycopg.connect(url) as connection:

        def savepoint() -> _Awaited:
            connection.execute("SELECT 1")
            return _of_block(connection.transaction(), psycopg.Rollback)

        yield _awaited(
            connection,
            _Awaited(connection.commit, connection.rollback),
            savepoint,
            lambda sql: connection.execute(sql.encode()),
            close=connection.close,
            begin_autocommit=lambda: setattr(connection, "autocommit", True),
        )


@asynccontextmanager
async def open_psycopg2(url: str) -> AsyncIterator[Opened]:
    connection = psycopg2.connect(url)

    def execute(sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    def savepoint() -> _Awaited:
        execute("SAVEPOINT mine")
        return _Awaited(lambda: execute("RELEASE SAVEPOINT mine"), lambda: execute("ROLLBACK TO SAVEPOINT mine"))

    try:
        yield _awaited(
            connection,
            _Awaited(connection.commit, connection.rollback),
            savepoint,
            execute,
            close=connection.close,
            begin_autocommit=lambda: setattr(connection, "autocommit", True),
        )
    finally:
        connection.close()


@asynccontextmanager
async def open_django(url: str) -> AsyncIterator[Opened]:
    from tests.django_project import allowing_async, project, settings_of

    with allowing_async(), project(default=settings_of(url)):
        from django.db import connection, transaction

        def execute(sql: str) -> None:
            with connection.cursor() as cursor:
                cursor.execute(sql)

        def savepoint() -> _Awaited:
            return _of_block(transaction.atomic(), ZeroDivisionError)

        connection.set_autocommit(False)  # as a block of atomic() does at first
        try:
            yield _awaited(
                connection,
                _Awaited(connection.commit, connection.rollback),
                savepoint,
                execute,
                begin_autocommit=lambda: connection.set_autocommit(True),
            )
        finally:
            connection.close()


KINDS: dict[str, Callable[[str], AbstractAsyncContextManager[Opened]]] = {
    "asyncpg `Connection`": open_asyncpg,
    "asyncpg, of a `Pool`": open_pool,
    "psycopg `AsyncConnection`": open_async_psycopg,
    "psycopg `Connection`": open_psycopg,
    "psycopg2 `connection`": open_psycopg2,
    "SQLAlchemy `AsyncSession`, asyncpg": partial(open_async_session, driver="asyncpg"),
    "SQLAlchemy `AsyncSession`, psycopg": partial(open_async_session, driver="psycopg"),
    "SQLAlchemy `async_scoped_session`, asyncpg": open_async_scoped_session,
    "SQLAlchemy `AsyncConnection`, asyncpg": partial(open_async_connection, driver="asyncpg"),
    "SQLAlchemy `AsyncConnection`, psycopg": partial(open_async_connection, driver="psycopg"),
    "SQLAlchemy `Session`, psycopg": partial(open_session, driver="psycopg"),
    "SQLAlchemy `Session`, psycopg2": partial(open_session, driver="psycopg2"),
    "SQLAlchemy `scoped_session`, psycopg": open_scoped_session,
    "SQLAlchemy `Connection`, psycopg": partial(open_connection, driver="psycopg"),
    "SQLAlchemy `Connection`, psycopg2": partial(open_connection, driver="psycopg2"),
    "Django `connection`": open_django,
}
