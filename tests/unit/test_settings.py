"""The settings: read from the environment, validated, never shown with a password."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock.errors import ConfigurationError
from rowlock.settings import Settings


def test_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_every_setting_is_read_from_the_environment() -> None:
    environ = {
        "ROWLOCK_DATABASE_URL": "postgresql://ada@db.example/app",
        "ROWLOCK_SCHEMA": "jobs",
        "ROWLOCK_DATA_DIR": "elsewhere",
        "ROWLOCK_MAX_ARGS_BYTES": "1000",
        "ROWLOCK_MAX_RESULT_BYTES": "2000",
        "ROWLOCK_LEASE": "30",
        "ROWLOCK_HEARTBEAT": "2.5",
        "ROWLOCK_MAX_CRASHES": "7",
        "ROWLOCK_POLL_INTERVAL": "0.25",
        "ROWLOCK_LISTEN": "false",
        "ROWLOCK_GRACE_PERIOD": "0",
        "ROWLOCK_PROCESS_MAX_JOBS": "5",
        "ROWLOCK_PROCESS_MEMORY_LIMIT": "500000000",
        "ROWLOCK_BLOCKED_LOOP_AFTER": "0.5",
    }
    assert set(environ) == {f"ROWLOCK_{field.name.upper()}" for field in fields(Settings)}
    assert Settings.from_environment(environ) == Settings(
        database_url="postgresql://ada@db.example/app",
        schema="jobs",
        data_dir="elsewhere",
        max_args_bytes=1000,
        max_result_bytes=2000,
        lease=timedelta(seconds=30),
        heartbeat=timedelta(seconds=2.5),
        max_crashes=7,
        poll_interval=timedelta(seconds=0.25),
        listen=False,
        grace_period=timedelta(0),
        process_max_jobs=5,
        process_memory_limit=500_000_000,
        blocked_loop_after=timedelta(seconds=0.5),
    )


def test_the_platforms_database_url_counts_only_without_our_own() -> None:
    platform = {"DATABASE_URL": "postgres://platform/app"}
    own = {"ROWLOCK_DATABASE_URL": "postgresql://own/app"}
    assert Settings.from_environment(platform).database_url == "postgres://platform/app"
    assert Settings.from_environment(platform | own).database_url == "postgresql://own/app"


def test_an_empty_variable_is_an_unset_one() -> None:
    assert Settings.from_environment({f"ROWLOCK_{field.name.upper()}": "" for field in fields(Settings)}) == Settings()


@pytest.mark.parametrize(
    "name, text",
    [
        ("SCHEMA", "Rowlock"),
        ("SCHEMA", "1st"),
        ("SCHEMA", "pg_jobs"),
        ("SCHEMA", 'a"b'),
        ("SCHEMA", "a" * 49),
        ("SCHEMA", "jobs\n"),
        ("MAX_ARGS_BYTES", "0"),
        ("MAX_ARGS_BYTES", "1.5"),
        ("MAX_RESULT_BYTES", "-1"),
        ("MAX_CRASHES", "many"),
        ("LEASE", "0"),
        ("LEASE", "nan"),
        ("LEASE", "inf"),
        ("LEASE", "11.9"),
        ("HEARTBEAT", "5.1"),
        ("HEARTBEAT", "-1"),
        ("POLL_INTERVAL", "1s"),
        ("LISTEN", "perhaps"),
        ("GRACE_PERIOD", "-1"),
        ("PROCESS_MAX_JOBS", "0"),
        ("PROCESS_MEMORY_LIMIT", "-1"),
        ("PROCESS_MEMORY_LIMIT", "1000000"),
        ("BLOCKED_LOOP_AFTER", "0"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_its_name_and_a_remedy(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ROWLOCK_[A-Z_]+\)\.$") as refused:
        Settings.from_environment({f"ROWLOCK_{name}": text})
    if name != "LEASE":  # a lease too short for the heartbeat is told as a heartbeat too long for the lease
        assert f"ROWLOCK_{name}" in str(refused.value)


@pytest.mark.parametrize("listen", ["1", "true", "YES", "On"])
def test_a_switch_is_read_in_the_usual_words(listen: str) -> None:
    assert Settings.from_environment({"ROWLOCK_LISTEN": listen}).listen is True


@pytest.mark.parametrize(
    "url",
    ["mysql://u:secret@h/d", "secret", "postgresql:secret", "postgresql+asyncpg:u:secret@h/d", "http://[secret"],
)
def test_a_url_of_something_else_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings(database_url=url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url, masked",
    [
        ("postgresql://u:secret@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("postgresql://u:secret@h1:1,h2:2/d", "postgresql://u:***@h1:1,h2:2/d"),
        ("postgresql://u:secret@[::1]/d", "postgresql://u:***@[::1]/d"),
        ("postgresql://h/d?user=u&password=secret&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("postgresql:///d?sslpassword=secret", "postgresql:///d?sslpassword=***"),
        ("postgresql:///d?p%61ssword=secret", "postgresql:///d?p%61ssword=***"),
        ("postgresql:///d?options=-c%20app.key%3Dsecret&x=1", "postgresql:///d?options=***&x=1"),
        ("postgresql:///d?options=-c app.key=secret", "postgresql:///d?options=***"),
        ("postgresql:///d?app.key=secret", "postgresql:///d?app.key=***"),
        ("postgresql:///d?statement_timeout=5s", "postgresql:///d?statement_timeout=5s"),
        (
            "postgresql://postgres@/rowlock?host=/run/x&port=5432",
            "postgresql://postgres@/rowlock?host=/run/x&port=5432",
        ),
    ],
)
def test_a_password_is_masked_and_nothing_else(url: str, masked: str) -> None:
    assert Settings(database_url=url).masked_database_url() == masked


@given(st.text(alphabet="ab:/?#[]@%&= ", max_size=12).map(lambda text: f"{text}SECRET{text}"))
def test_no_password_however_badly_escaped_is_shown(password: str) -> None:
    settings: Settings | None = None
    refused = ""
    try:
        settings = Settings(database_url=f"postgresql://user:{password}@host/database")
    except ConfigurationError as error:
        refused = str(error)
    assert "SECRET" not in refused
    assert settings is None or "SECRET" not in settings.masked_database_url()
    assert "SECRET" not in repr(settings)


def test_repr_names_every_setting() -> None:
    shown = repr(Settings())
    assert shown.startswith("Settings(database_url='(development server)', schema='rowlock', ")
    assert re.findall(r"(\w+)=", shown.replace("seconds=", "")) == [field.name for field in fields(Settings)]


@pytest.mark.parametrize("name", ["lease", "poll_interval", "grace_period", "blocked_loop_after"])
@pytest.mark.parametrize("value", [30, 30.0, timedelta(seconds=30)])
def test_a_duration_is_seconds_or_a_timedelta_and_kept_as_a_timedelta(name: str, value: object) -> None:
    assert getattr(Settings(**{name: value}), name) == timedelta(seconds=30)  # type: ignore[arg-type]


_NO_DURATIONS: list[object] = [
    "30",
    "",
    None,
    [],
    True,
    float("nan"),
    float("inf"),
    2**70,
    -1,
    timedelta.max,
    timedelta.min,
]
_NO_NUMBERS: list[object] = ["30", "", None, [], True, 1.5, float("nan"), -1, 2**70]
_NO_TEXTS: list[object] = [5, 0, b"x", [], object(), "\0", "\ud800"]


@pytest.mark.parametrize(
    "name, wrong",
    [
        *product(["lease", "heartbeat", "poll_interval", "grace_period", "blocked_loop_after"], _NO_DURATIONS),
        *product(["max_args_bytes", "max_result_bytes", "max_crashes", "process_max_jobs"], _NO_NUMBERS),
        *product(["process_memory_limit"], _NO_NUMBERS),
        *product(["database_url", "schema", "data_dir"], _NO_TEXTS),
        *product(["listen"], ["false", 0, 1, None]),
        *product(["schema", "data_dir"], [None]),
    ],
)
def test_a_value_of_another_type_or_range_is_refused(name: str, wrong: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}|The database URL"):
        Settings(**{name: wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [b"postgresql://user:secret@host/x", ["postgresql://user:secret@host/x"]])
def test_a_url_of_another_type_is_not_shown(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigurationError, match="database_url must be text; got a value of type ") as refused:
        Settings(database_url=wrong)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("wrong", ["x", None, 5, {"ROWLOCK_LEASE": 5}, {"DATABASE_URL": 5}])
def test_an_environment_is_texts_by_name(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigurationError, match="must be text"):
        Settings.from_environment(wrong)


def test_settings_cannot_be_changed() -> None:
    settings: Any = Settings()
    with pytest.raises(FrozenInstanceError):
        settings.schema = "other"
