"""Several hosts in one database URL: the one that takes writes is found, whatever the others do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

import asyncpg
import pytest

from rowlock import DatabaseUnavailable, Settings
from rowlock.queue.connect import hosts, sessions
from rowlock.queue.connect.pool import ClientPool
from rowlock.queue.connect.sessions import connect
from tests.db.proxy import SOCKET
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


class Silent:
    """A server that takes connections and never says a word."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.accepted = 0
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        try:
            while await reader.read(1024):
                pass
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    with TemporaryDirectory() as folder:
        server = Silent(folder)
        async with await asyncio.start_unix_server(server.serve, Path(folder) / SOCKET):
            yield server


def behind(url: str, *folders: str) -> str:
    """The URL with other hosts before its own."""
    names = ",".join(map(quote, folders))
    return url.replace("?host=", f"?host={names},").replace("port=5432", f"port=5432{',5432' * len(folders)}")


async def demote(connection: Connection, *, is_demoted: bool) -> None:
    """Have the test's database refuse writes in new sessions, like a standby; or take them again."""
    name, state = await connection.fetchval("SELECT current_database()"), "on" if is_demoted else "off"
    await connection.execute(
        f'SET default_transaction_read_only = off; ALTER DATABASE "{name}" SET default_transaction_read_only = {state}'
    )


async def test_a_host_that_never_answers_keeps_nobody_from_the_next(silent: Silent, direct_url: str) -> None:
    url = behind(direct_url, silent.folder)
    settings = Settings(database_url=url)
    began = time.monotonic()
    control = await connect(settings, url, purpose="test")
    assert await control.fetchval("SELECT 1") == 1
    await control.close()
    pool = ClientPool(settings, url)
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT 1") == 1
    await pool.close()
    assert time.monotonic() - began < sessions.CONNECT_TIMEOUT / 2
    assert silent.accepted == 2
    await eventually(lambda: silent.open == 0)


async def test_a_standby_that_is_promoted_while_the_old_primary_is_silent_is_found_by_the_same_attempt(
    silent: Silent, connection: Connection, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "HEAD_START", 0.05)
    monkeypatch.setattr(hosts, "AGAIN", 0.05)
    await demote(connection, is_demoted=True)
    url = behind(direct_url, silent.folder)
    connecting = asyncio.create_task(connect(Settings(database_url=url), url, purpose="test"))
    await eventually(lambda: silent.accepted == 1)
    assert (await asyncio.wait([connecting], timeout=0.3))[0] == set()
    await demote(connection, is_demoted=False)
    control = await connecting
    assert await control.fetchval("SHOW default_transaction_read_only") == "off"
    await control.close()
    assert silent.accepted == 1


async def test_it_is_told_which_host_refused_and_which_did_not_answer(
    silent: Silent, connection: Connection, direct_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await demote(connection, is_demoted=True)
    url = behind(direct_url, str(tmp_path))
    with pytest.raises(DatabaseUnavailable, match="FileNotFoundError"):
        await connect(Settings(database_url=url), url, purpose="test")
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(hosts, "HEAD_START", 0.01)
    url = behind(direct_url, str(tmp_path), silent.folder)
    with pytest.raises(DatabaseUnavailable, match=f"no answer within 0.3 s from {silent.folder}"):
        await connect(Settings(database_url=url), url, purpose="test")
    await eventually(lambda: silent.open == 0)


async def test_an_attempt_that_is_cancelled_leaves_no_connection(silent: Silent, direct_url: str) -> None:
    url = behind(direct_url, silent.folder)
    connecting = asyncio.create_task(connect(Settings(database_url=url), url, purpose="test"))
    await eventually(lambda: silent.accepted == 1)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await eventually(lambda: silent.open == 0)


async def test_one_that_may_only_read_is_taken_in_the_order_of_the_url(
    connection: Connection, direct_url: str, tmp_path: Path
) -> None:
    await demote(connection, is_demoted=True)
    url = behind(direct_url, str(tmp_path)) + "&target_session_attrs=any"
    reader = await connect(Settings(database_url=url), url, purpose="test")
    assert await reader.fetchval("SHOW default_transaction_read_only") == "on"
    await reader.close()
