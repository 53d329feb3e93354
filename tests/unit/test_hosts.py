"""Which hosts a database URL names: what asyncpg reads in it."""

from __future__ import annotations

import pytest
from asyncpg.connect_utils import _parse_connect_dsn_and_args  # type: ignore[attr-defined]  # there is no public way

from rowlock.queue.connect.hosts import hosts_of

_NOTHING = dict.fromkeys(
    [
        *("host", "port", "user", "password", "passfile", "database", "ssl", "service", "servicefile", "direct_tls"),
        *("server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
    ]
)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:secret@db1:5433,db2:5434/app",
        "postgresql://ada@db1,db2:5434,db3/app?sslmode=disable",
        "postgresql://ada@[::1]:5433,[fe80::2],10.0.0.3:5434/app",
        "postgresql://db1,db2/app?port=6000",
        "postgresql://db1,db2/app?port=6000,6001",
        "postgresql://ada@/app?host=/run/one,/run/two&port=5433,5434",
        "postgresql://ada@/app?host=db1:5433,/run/two&user=bob",
        "postgresql://%2Frun%2Fone,%2Frun%2Ftwo/app",
    ],
)
def test_several_hosts_are_those_that_asyncpg_finds(url: str) -> None:
    theirs, _ = _parse_connect_dsn_and_args(dsn=url, **_NOTHING)
    ours = [
        f"{host}/.s.PGSQL.{port or 5432}" if host.startswith("/") else (host, port or 5432)
        for host, port in hosts_of(url)
    ]
    assert ours == theirs


@pytest.mark.parametrize(
    "url", ["postgresql:///app", "postgresql://ada@db1:5433/app", "postgresql:///app?host=/run/one"]
)
def test_one_host_is_left_to_asyncpg(url: str) -> None:
    assert len(hosts_of(url)) == 1
