"""The first hour: no command but `dev` starts a server, and `dev` shares its server with all that belongs to it."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from rowlock import ConfigurationError, DatabaseUnavailable, Rowlock, Settings
from rowlock.cli.commands.dev import command as dev_command
from rowlock.cli.run import reloading
from rowlock.embedded import EmbeddedServer, make_private_directory
from tests.db.commands import TASKS, assert_refused, line_with, rowlock, started, stopped, with_tasks

NOT_SET = "ROWLOCK_DATABASE_URL (or DATABASE_URL) must be set"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_tasks(tmp_path)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    made = make_private_directory("rowlock-dev-")
    yield made / "data"
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.parametrize(
    "command",
    [
        "worker tasks:app",
        "api tasks:app --port=0",
        "migrate",
        "jobs list",
        "enqueue stick --app=tasks:app",
        "top --once",
    ],
)
async def test_command_without_a_database_says_so_and_starts_none(command: str, folder: Path) -> None:
    assert_refused(await rowlock(*command.split(), url=None, cwd=folder), NOT_SET)
    assert not (folder / ".rowlock").exists()


@pytest.mark.parametrize("program", ["", "  ", "''", "echo 'a", "echo a\\"])
async def test_program_that_is_no_command_is_refused_before_anything_starts(program: str, folder: Path) -> None:
    done = await rowlock("dev", "tasks:app", f"--run={program}", url=None, cwd=folder)
    assert_refused(done, "--run must be a command")
    assert not (folder / ".rowlock").exists()


async def test_doctor_without_a_database_says_so_with_the_remedy(folder: Path) -> None:
    done = await rowlock("doctor", "--json", url=None, cwd=folder)
    (finding,) = [one for one in json.loads(done.out)["findings"] if one["status"] == "fail"]
    assert NOT_SET in finding["detail"]
    assert "rowlock dev" in finding["remedy"]


async def test_program_without_a_database_is_refused_and_starts_none(tmp_path: Path) -> None:
    app = Rowlock(settings=Settings(data_dir=str(tmp_path / "data")))
    for use in (app.overview, app.database_url, app.worker().drain):
        with pytest.raises(ConfigurationError, match="must be set"):
            await use()
    assert not (tmp_path / "data").exists()


async def test_server_of_dev_is_joined_by_programs_and_commands_of_its_folder(data_dir: Path) -> None:
    with EmbeddedServer(data_dir, durable=False) as server:
        app = Rowlock(settings=Settings(data_dir=str(data_dir)))
        assert await app.database_url() == server.url
        assert (await rowlock("migrate", url=None, ROWLOCK_DATA_DIR=str(data_dir))).code == 0
        assert (await app.overview()).waiting == 0
        await app.close()


async def test_worker_names_its_database_without_the_password(database_url: str, folder: Path) -> None:
    url = f"{database_url}&password=secret"
    async with started("worker", "tasks:app", url=url, cwd=folder) as worker:
        line = await line_with(worker.stderr, "worker_started")
        assert json.loads(line)["database"] == Settings(database_url=url).masked_database_url()
        assert "secret" not in line
        assert await stopped(worker) == 0


async def test_url_leads_an_engine_of_every_driver_to_the_queues_database(database_url: str) -> None:
    app = Rowlock(database_url)
    name = text("SELECT current_database()")
    plain = await asyncpg.connect(await app.database_url())
    expected = await plain.fetchval("SELECT current_database()")
    await plain.close()
    engine = create_async_engine(await app.database_url("asyncpg"))
    async with engine.connect() as connection:
        assert await connection.scalar(name) == expected
    await engine.dispose()
    for driver in ("psycopg", "psycopg2"):
        sync_engine = create_engine(await app.database_url(driver))
        with sync_engine.connect() as opened:
            assert opened.scalar(name) == expected
        sync_engine.dispose()


async def test_urls_as_hosting_providers_show_them_connect(database_url: str) -> None:
    pasted = database_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    pasted += "&connect_timeout=10&channel_binding=prefer&keepalives=1&keepalives_idle=30&application_name=shop"
    async with Rowlock(pasted) as app:
        assert (await app.overview()).waiting == 0


async def test_parameter_that_nobody_knows_is_named(database_url: str) -> None:
    app = Rowlock(f"{database_url}&pgbouncer=true")
    with pytest.raises(DatabaseUnavailable, match="parameter pgbouncer — remove it"):
        await app.overview()


@pytest.mark.slow
async def test_dev_runs_a_program_beside_it_that_finds_the_database(folder: Path, data_dir: Path) -> None:
    (folder / "web.py").write_text(
        "import os, time\nprint('URL=' + os.environ['ROWLOCK_DATABASE_URL'], flush=True)\ntime.sleep(600)\n"
    )
    command = ("dev", "tasks:app", "--port=0", f"--data-dir={data_dir}", f"--run={sys.executable} web.py")
    async with started(*command, url=None, cwd=folder) as dev:
        printed = (await line_with(dev.stdout, "database ")).split()[-1]
        assert (await line_with(dev.stdout, "URL=")).strip() == f"URL={printed}"
        await line_with(dev.stderr, "worker_started")
        assert await stopped(dev, signal.SIGINT) == 0


async def test_dev_stops_with_the_program_beside_it_and_its_exit_code(empty_database_url: str, folder: Path) -> None:
    command = ("dev", "tasks:app", "--port=0", f"--run={sys.executable} -c 'raise SystemExit(7)'")
    done = await rowlock(*command, url=empty_database_url, cwd=folder)
    assert done.code == 7
    assert "ended by itself (7)" in done.err


WITH_A_WORKER = """
import asyncio
from tasks import app

asyncio.run(app.worker().run())
"""


async def test_dev_warns_of_a_worker_inside_the_program_and_of_a_reload_for_that_alone(
    empty_database_url: str, folder: Path
) -> None:
    (folder / "web.py").write_text(WITH_A_WORKER)
    command = ("dev", "tasks:app", "--port=0", f"--run={sys.executable} web.py --reload")
    async with started(*command, url=empty_database_url, cwd=folder) as dev:
        assert "the worker here does not" in await line_with(dev.stderr, "restarts when the code changes")
        assert "lifespan(queue, worker=False)" in await line_with(dev.stderr, "runs a worker of its own")
        assert await stopped(dev, signal.SIGINT) == 0


async def test_program_that_cannot_be_started_is_named(empty_database_url: str, folder: Path) -> None:
    done = await rowlock("dev", "tasks:app", "--port=0", "--run=no-such-program", url=empty_database_url, cwd=folder)
    assert done.code == 2
    assert "'no-such-program' cannot be started" in done.err


async def test_worker_starts_anew_when_a_file_changes(database_url: str, folder: Path) -> None:
    async with started("worker", "tasks:app", "--reload", url=database_url, cwd=folder) as worker:
        await line_with(worker.stderr, "worker_started")
        (folder / "tasks.py").write_text("1 / 0\n")
        await line_with(worker.stderr, "ZeroDivisionError")
        await line_with(worker.stderr, "Waiting for a change.")
        (folder / "tasks.py").write_text(f"{TASKS}\n@app.task\nasync def added() -> None: ...\n")
        await line_with(worker.stderr, "tasks.py changed")
        await line_with(worker.stderr, "worker_started")
        assert (await rowlock("enqueue", "added", url=database_url)).code == 0
        assert await stopped(worker, signal.SIGINT) == 0


@pytest.mark.slow
async def test_dev_starts_worker_and_api_anew_when_a_file_changes(empty_database_url: str, folder: Path) -> None:
    async with started("dev", "tasks:app", "--port=0", "--reload", url=empty_database_url, cwd=folder) as dev:
        await line_with(dev.stderr, "worker_started")
        await line_with(dev.stdout, "Ctrl-C stops everything")
        (folder / "tasks.py").write_text(f"{TASKS}\n@app.task\nasync def added() -> None: ...\n")
        assert (await line_with(dev.stdout, "")).startswith("API "), "its port is another one"
        assert "added" in await line_with(dev.stdout, ""), "of the rest that is printed at first, this may have changed"
        assert await stopped(dev, signal.SIGINT) == 0


async def test_reload_without_watchfiles_is_refused_before_a_server_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reloading, "find_spec", lambda _name: None)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(dev_command, ["tasks:app", "--reload"])
    assert "rowlock[reload]" in str(done.exception)
    assert not (tmp_path / ".rowlock").exists()
