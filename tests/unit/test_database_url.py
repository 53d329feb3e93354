"""The database's URL: pasted from elsewhere it is understood, or refused by the name of what is wrong."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from rowlock.database_url import Driver, for_driver, tidy
from rowlock.errors import ConfigurationError
from rowlock.settings import Settings

NEON = "postgresql://u:p@ep-1.eu.aws.neon.tech/shop?sslmode=require&channel_binding=require"


@pytest.mark.parametrize(
    "url, read",
    [
        ("postgresql+asyncpg://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+psycopg://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgres+psycopg2://u:p@h/d?sslmode=require", "postgres://u:p@h/d?sslmode=require"),
        ("postgresql://u:p@ss@h/d", "postgresql://u:p%40ss@h/d"),
        ("postgresql://u:p#s[s]@h:5432/d", "postgresql://u:p%23s%5Bs%5D@h:5432/d"),
        ("postgresql://ada@corp:p@h:5432/d", "postgresql://ada%40corp:p@h:5432/d"),
        ("postgresql:///d?user=ada@corp", "postgresql:///d?user=ada@corp"),
        (NEON, "postgresql://u:p@ep-1.eu.aws.neon.tech/shop?sslmode=require"),
        ("postgresql://h/d?connect_timeout=10", "postgresql://h/d"),
        ("postgresql://h/d?keepalives=1&keepalives_idle=30&x=1&tcp_user_timeout=9", "postgresql://h/d?x=1"),
        ("postgresql+asyncpg://h/d?ssl=require", "postgresql://h/d?sslmode=require"),
        ("postgresql://h/d?ssl=true", "postgresql://h/d?sslmode=require"),
        ("postgresql://h1:1,h2:2/d", "postgresql://h1:1,h2:2/d"),
        ("postgresql://h/?dbname=d", "postgresql://h/d"),
        ("postgresql://h?dbname=d&x=1", "postgresql://h/d?x=1"),
        ("postgresql://h/d?dbname=d", "postgresql://h/d"),
        ("postgresql://u@[::1]/d", "postgresql://u@[::1]/d"),
        ("postgresql:///d?host=/run&port=65535", "postgresql:///d?host=/run&port=65535"),
    ],
)
def test_url_that_was_written_for_another_driver_is_understood(url: str, read: str) -> None:
    assert tidy(url) == read
    assert Settings(database_url=url).database_url == read


@pytest.mark.parametrize(
    "url, said",
    [
        ("mysql://u:secret@h/d", "must begin with postgresql://"),
        ("postgresql://u:secret/1@h/d", "as %2F %3A %40 %3F %23"),
        ("postgresql://h/d?requirepeer=ada", "requirepeer"),
        ("postgresql://h/d?hostaddr=10.0.0.1", "hostaddr"),
        ("postgresql://h/d?service=nosuch", "service"),
        ("postgresql://h/secret?dbname=e", "two databases"),
        ("postgresql://h:99999/d", "from 1 to 65535; got 99999"),
        ("postgresql://h:1,h:0/d", "got 0"),
        ("postgresql:///d?host=h&port=65536", "got 65536"),
        ("postgresql://u:p@[::1/secret", "its host is neither a name"),
        ("postgresql://u:secret?1=@h/d", "its port is not a number"),
        ("postgresql://u:1?secret@h/d", "a parameter without a value"),
        ("postgresql://h/d#secret", "has a # behind its last @"),
        ("postgresql://h/d?options=-c%20x%3D#secret", "has a # behind its last @"),
        ("postgresql:///d?port=secret", "its port is not a number"),
    ],
)
def test_url_that_cannot_be_meant_is_refused_by_name_without_being_shown(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        tidy(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url, driver, made",
    [
        ("postgresql://u:p@h:5/d?sslmode=require", None, "postgresql://u:p@h:5/d?sslmode=require"),
        ("postgresql://u:p@h:5/d?sslmode=require", "asyncpg", "postgresql+asyncpg://u:p@h:5/d?ssl=require"),
        ("postgres://u:p@h:5/d?sslmode=require", "psycopg", "postgresql+psycopg://u:p@h:5/d?sslmode=require"),
        ("postgresql://u:p@h/d", "psycopg2", "postgresql+psycopg2://u:p@h/d"),
        (tidy("postgresql://u:p#ss[@h:5/d"), "asyncpg", "postgresql+asyncpg://u:p%23ss%5B@h:5/d"),
        ("postgresql://u@h1:1,h2:2/d", "asyncpg", "postgresql+asyncpg://u@/d?host=h1:1&host=h2:2"),
        (
            "postgresql://postgres@/rowlock?host=%2Frun%2Fx&port=5432",
            "asyncpg",
            "postgresql+asyncpg://postgres@/rowlock?host=/run/x&port=5432",
        ),
    ],
)
def test_url_for_an_engine_names_its_driver_and_what_that_driver_calls_things(
    url: str, driver: Driver | None, made: str
) -> None:
    assert for_driver(url, driver) == made
    if driver is not None:
        assert make_url(made).get_driver_name() == driver


@given(st.text(alphabet="ab:@#[]%&= ", max_size=12))
def test_url_for_an_engine_has_the_password_that_was_meant(password: str) -> None:
    url = for_driver(tidy(f"postgresql://user:{password}@host:5432/database"), "asyncpg")
    read = make_url(url)
    assert (read.username, read.password) == ("user", unquote(password))
    assert (read.host, read.port, read.database) == ("host", 5432, "database")


def test_what_an_engine_s_url_cannot_say_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="sslrootcert"):
        for_driver("postgresql://h/d?sslrootcert=/ca.pem", "asyncpg")
    with pytest.raises(ConfigurationError, match="driver must be"):
        for_driver("postgresql://h/d", "pg8000")  # type: ignore[arg-type]  # wrong on purpose


@given(st.text(alphabet="ab:@%&= ", max_size=12).map(lambda text: f"{text}SECRET{text}"))
def test_password_is_never_shown_and_never_moved_into_another_part(password: str) -> None:
    url = tidy(f"postgresql://user:{password}@host/database")
    assert url.endswith("@host/database")
    assert url.count("@") == 1
