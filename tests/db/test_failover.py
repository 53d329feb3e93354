"""Connections that lead to no primary any more, or nowhere: they are thrown away, and the work goes on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

import asyncpg
import pytest

from rowlock import DatabaseUnavailable, Rowlock, Settings
from rowlock.queue.connect import server_errors
from rowlock.queue.connect.pool import ClientPool
from rowlock.queue.connect.sessions import KEEPALIVE, SERVER_KEEPALIVE, connect
from rowlock.queue.enqueue.errors import EnqueueUnknown
from rowlock.queue.read.pages import list_jobs
from tests.db.links import Link, linked
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.conftest import Server

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


def database_of(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


async def demote(connection: Connection, url: str, *, is_demoted: bool) -> None:
    """Have the database refuse writes from new sessions, as a server does that is no primary any more; or take them."""
    name, state = database_of(url), "on" if is_demoted else "off"
    await connection.execute(
        f'SET default_transaction_read_only = off; ALTER DATABASE "{name}" SET default_transaction_read_only = {state}'
    )


@pytest.fixture
async def link(server: Server, database_url: str) -> AsyncIterator[Link]:
    async with linked(server, database_url) as link:
        yield link


async def test_a_server_that_takes_no_writes_is_not_connected_to_unless_the_url_says_so(
    connection: Connection, database_url: str
) -> None:
    await demote(connection, database_url, is_demoted=True)
    settings = Settings(database_url=database_url)
    with pytest.raises(DatabaseUnavailable, match="takes no writes"):
        await connect(settings, database_url, purpose="test")
    pool = ClientPool(settings, database_url)
    with pytest.raises(DatabaseUnavailable, match="takes no writes"):
        async with pool.acquire():
            pass
    await pool.close()
    reader = await connect(settings, database_url + "&target_session_attrs=any", purpose="test")
    assert await reader.fetchval("SHOW default_transaction_read_only") == "on"
    await reader.close()


async def test_of_several_hosts_the_one_that_answers_is_found(
    server: Server, database_url: str, tmp_path: Path
) -> None:
    nowhere = quote(str(tmp_path))
    url = database_url.replace("?host=", f"?host={nowhere},").replace("port=5432", "port=5432,5432")
    async with Rowlock(settings=Settings(database_url=url)) as app:
        assert await list_jobs(app.database) == []


async def test_a_pool_throws_away_what_answers_read_only_and_the_idle_ones_with_it(database_url: str) -> None:
    pool = ClientPool(Settings(database_url=database_url), database_url)
    async with pool.acquire() as first, pool.acquire() as second:
        before = {first.get_server_pid(), second.get_server_pid()}

    async def write_to_a_demoted_server() -> None:
        async with pool.acquire() as demoted:
            await demoted.execute("SET default_transaction_read_only = on")
            await demoted.execute("CREATE TABLE anything ()")

    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await write_to_a_demoted_server()
    async with pool.acquire() as first, pool.acquire() as second:
        assert not before & {first.get_server_pid(), second.get_server_pid()}
    await pool.close()


async def test_a_pool_throws_away_at_once_what_does_not_answer_in_time(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rowlock.queue.connect.pool.RELEASE_TIMEOUT", 60
    )  # it does not wait for the server's answer to a cancel
    pool = ClientPool(Settings(database_url=link.url), link.url)
    async with pool.acquire() as opened:
        before = await opened.fetchval("SELECT pg_backend_pid()")
    link.swallows = True
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            async with pool.acquire() as opened:
                await opened.fetchval("SELECT 1", timeout=0.2)
    link.swallows = False
    async with pool.acquire() as opened:
        assert await opened.fetchval("SELECT pg_backend_pid()") != before
    await pool.close()


async def test_tcp_connections_are_kept_alive(link: Link) -> None:
    pool = ClientPool(Settings(database_url=link.url), link.url)
    control = await connect(Settings(database_url=link.url), link.url, purpose="test")
    async with pool.acquire() as pooled:
        for opened in (control, pooled):
            sock = opened._transport.get_extra_info("socket")  # type: ignore[union-attr]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            for name, value in KEEPALIVE.items():
                if hasattr(socket, name):
                    assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
    await control.close()
    await pool.close()


async def test_the_name_of_the_host_is_what_the_certificate_is_compared_with(server: Server, database_url: str) -> None:
    certificate = Path(__file__).with_name("localhost.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with linked(server, database_url, host="localhost", tls=tls) as link:
        mode = f"sslmode=verify-full&sslnegotiation=direct&sslrootcert={quote(str(certificate))}"
        url = link.url.replace("sslmode=disable", mode)
        opened = await connect(Settings(database_url=url), url, purpose="test")
        assert await opened.fetchval("SELECT 1") == 1
        assert opened._transport.get_extra_info("ssl_object") is not None  # type: ignore[attr-defined]
        await opened.close()
        url = url.replace("@localhost:", "@127.0.0.1:")
        with pytest.raises(DatabaseUnavailable, match="IP address mismatch"):
            await connect(Settings(database_url=url), url, purpose="test")


@pytest.mark.parametrize("may_listen", [True, False])
async def test_the_server_probes_its_side_too_unless_a_pooler_is_between(direct_url: str, may_listen: bool) -> None:
    settings = Settings(database_url=direct_url, listen=may_listen)
    pool = ClientPool(settings, direct_url)
    control = await connect(settings, direct_url, purpose="test")
    told = "SELECT name, reset_val FROM pg_settings WHERE name LIKE 'tcp_keepalives_%'"
    async with pool.acquire() as pooled:
        for opened in (control, pooled):
            found = {row["name"]: row["reset_val"] for row in await opened.fetch(told)}
            assert found == (SERVER_KEEPALIVE if may_listen else dict.fromkeys(SERVER_KEEPALIVE, "0"))
    await control.close()
    await pool.close()


@pytest.mark.needs_session("it makes sessions read-only, and the pooler keeps them")
async def test_a_worker_goes_on_when_its_demoted_server_takes_writes_again(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.loop.main_loop.PAUSE_MOST", 0.1)
    settings = Settings(database_url=database_url, poll_interval=timedelta(seconds=0.05))
    async with Rowlock(settings=settings) as app:

        @app.task
        async def echo(text: str) -> str:
            return text

        async with app.worker():
            assert await (await echo.enqueue("before")).result() == "before"
            await demote(connection, database_url, is_demoted=True)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

            async def is_refused() -> bool:
                try:
                    await echo.enqueue("lost")
                except DatabaseUnavailable:
                    return True
                except (*server_errors.CONNECTION_LOST, EnqueueUnknown):
                    pass
                return False

            await eventually(is_refused)
            await demote(connection, database_url, is_demoted=False)
            assert await (await echo.enqueue("after")).result() == "after"
