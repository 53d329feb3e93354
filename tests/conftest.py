"""One PostgreSQL a test session, started when the first test asks for it, and a database of its own for each test.

With ROWLOCK_TEST_PGBOUNCER=1 there is a PgBouncer in transaction mode before it: the DSNs that the tests get lead
through it, and nobody listens unless a test says so. Tests marked `needs_session` are left out then.

With ROWLOCK_TEST_ODD_ROLE=1 the server keeps the time of Kathmandu, and the DSNs are those of a role that owns nothing
but its schema and has every setting that a role may have, as far from the default as it goes (`tests/odd_role.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import hypothesis
import psycopg
import pytest
import structlog
from psycopg import sql
from testing.postgresql import Postgresql

from rowlock.embedded import make_private_directory, server_command
from rowlock.settings import Settings
from tests import odd_role, pgbouncer
from tests.debian import NotToBeHad

_MAX_CONNECTIONS = 200
POOLED = os.environ.get("ROWLOCK_TEST_PGBOUNCER") == "1"
IS_ODD = os.environ.get("ROWLOCK_TEST_ODD_ROLE") == "1"
USER = odd_role.NAME if IS_ODD else "postgres"
if POOLED:  # before any module makes its application
    Settings.__init__.__kwdefaults__["listen"] = False  # type: ignore[index]  # it has some

hypothesis.settings.register_profile("long")  # what --hypothesis-profile=long means is up to the tests that ask for it

# Making the 500 files of a test's database takes ten milliseconds in memory, and a third of a second on some disks.
_MEMORY = Path("/dev/shm")  # where there is room
if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 8 * 1024**3:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)  # also that of the programs under test

# A shell's background command, and all that it starts, ignores Ctrl-C: the programs under test must not.
signal.signal(signal.SIGINT, signal.default_int_handler)
_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have reports hold no lone surrogates, which tests log on purpose: they could not travel between processes."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


class Server(Postgresql):  # type: ignore[misc]  # the library has no types
    """`testing.postgresql` on a Unix socket alone, with the programs and the user of `rowlock.embedded`."""

    def initialize(self) -> None:
        """Look for no programs: `rowlock.embedded` does."""

    def initialize_database(self) -> None:
        """Make the cluster in the folders that the library has made, for the user who will run it."""
        owner = Path(self.base_dir).stat()
        for folder in self.subdirectories:
            os.chown(Path(self.base_dir, folder), owner.st_uid, owner.st_gid)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        command = server_command("initdb", "-D", self.get_data_directory(), *options)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{done.stdout}")

    def get_server_commandline(self) -> list[str]:
        """Start without durability: a test's data lives for a second."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.socket_dir,
            "max_connections": str(_MAX_CONNECTIONS),
            "full_page_writes": "off",
            "max_prepared_transactions": "4",
        } | (odd_role.OF_THE_SERVER if IS_ODD else {})
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return server_command("postgres", "-F", "-D", self.get_data_directory(), *options)

    def is_server_available(self) -> bool:
        """Read the status that the server writes, rather than connect again and again."""
        with suppress(FileNotFoundError):
            return Path(self.get_data_directory(), "postmaster.pid").read_text().rstrip().endswith("ready")
        return False

    def poststart(self) -> None:
        """Make no database: the fixtures do."""

    @property
    def socket_dir(self) -> str:
        """Where the socket is."""
        return str(Path(self.base_dir, "tmp"))

    def url(self, database: str, user: str = "postgres") -> str:
        """The DSN of a database."""
        return f"postgresql://{user}@/{database}?host={quote(self.socket_dir)}&port=5432"


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name == "DATABASE_URL" or (name.startswith("ROWLOCK_") and name != "ROWLOCK_POSTGRES_BIN"):
            monkeypatch.delenv(name)
    if POOLED:
        monkeypatch.setenv("ROWLOCK_LISTEN", "false")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A good part of many tests is waiting for one of the processes they talk to: there is work for one more."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what a pooler in transaction mode cannot do, with the reason that the test gives."""
    for item in items:
        marker = item.get_closest_marker("needs_session")
        if POOLED and marker is not None:
            item.add_marker(pytest.mark.skip(reason=f"no pooler can do this: {marker.args[0]}"))


@pytest.fixture(autouse=True, scope="session")
def _loggers_are_set_up_at_each_use() -> Iterator[None]:
    """What a command sets up for a process of its own must not stay with the loggers of the tests' process."""
    configure = structlog.configure

    def configure_without_cache(*values: Any, **named: Any) -> None:  # noqa: ANN401  # as structlog has it
        configure(*values, **(named | {"cache_logger_on_first_use": False}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", configure_without_cache)
        yield


@pytest.fixture(autouse=True)
def _loggers_are_set_up_for_one_test() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    folder = make_private_directory("rowlock-tests-")
    try:
        with Server(base_dir=str(folder), port=5432) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pooler(server: Server) -> Iterator[pgbouncer.PgBouncer]:
    """A PgBouncer in transaction mode in front of the server."""
    try:
        pgbouncer.command()
    except NotToBeHad as error:
        (pytest.fail if POOLED else pytest.skip)(str(error))
    folder = make_private_directory("rowlock-pgbouncer-")
    try:
        with pgbouncer.PgBouncer(folder, server.socket_dir) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def admin(server: Server) -> Iterator[psycopg.Connection]:
    """What makes and removes the databases: one connection, since opening one takes as long as copying a database."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(server: Server, admin: psycopg.Connection) -> str:
    """A migrated database that nobody can connect to, so that it can be cloned at any time."""
    from rowlock.migrations import upgrade

    name = "template_migrated"
    admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    if IS_ODD:
        asyncio.run(odd_role.create(server.url(name)))
    upgrade(Settings(database_url=server.url(name, USER)))
    closed = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true")
    admin.execute(closed.format(sql.Identifier(name)))
    return name


@pytest.fixture
def database(admin: psycopg.Connection, template: str) -> Iterator[str]:
    """The name of a migrated, empty database of the test's own."""
    yield from _database(admin, template)


@pytest.fixture
def direct_url(server: Server, database: str) -> str:
    """Its DSN, by way of no pooler."""
    return server.url(database)


@pytest.fixture
def pooled_url(pooler: pgbouncer.PgBouncer, database: str) -> str:
    """Its DSN, by way of the pooler."""
    return pooler.url(database)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """The DSN of a migrated, empty database of the test's own."""
    if IS_ODD:
        running: Server = request.getfixturevalue("server")
        return running.url(request.getfixturevalue("database"), USER)
    url: str = request.getfixturevalue("pooled_url" if POOLED else "direct_url")
    return url


@pytest.fixture
def empty_database(admin: psycopg.Connection) -> Iterator[str]:
    """The name of a database of the test's own without Rowlock's schema."""
    yield from _database(admin, "template1")


@pytest.fixture
def empty_database_url(request: pytest.FixtureRequest, server: Server, empty_database: str) -> str:
    """The DSN of a database of the test's own without Rowlock's schema."""
    url: str = (request.getfixturevalue("pooler") if POOLED else server).url(empty_database)
    return url


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url)


@pytest.fixture
async def connection(direct_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own to its database, by way of no pooler."""
    opened = await asyncpg.connect(direct_url)
    try:
        yield opened
    finally:
        opened.terminate()  # not close(): a test may have left it in the middle of something


def _database(admin: psycopg.Connection, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    admin.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield name
    finally:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
