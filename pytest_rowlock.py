"""The pytest plugin: fixtures that give each test a migrated PostgreSQL database of its own, and the application on it.

It is a module beside the package, since pytest imports it in every run: what is in `rowlock` is imported by the tests
that use a fixture.
"""

from __future__ import annotations

import pkgutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rowlock import Rowlock
    from rowlock.testing import Databases

_APP = "rowlock_app"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting that names the application."""
    parser.addini(_APP, "The application of the fixture rowlock_app, as module:name.", default="")


@pytest.fixture(scope="session")
def rowlock_server() -> Iterator[Databases]:
    """A PostgreSQL for the tests, whose databases are made and removed by it: `rowlock.testing.Databases`.

    The one that ROWLOCK_TEST_DATABASE_URL names, else an embedded one, which runs until the session ends.
    """
    from rowlock import ConfigurationError
    from rowlock.testing import Databases

    with ExitStack() as stack:
        databases, why = None, ""
        try:
            databases = stack.enter_context(Databases())
        except ConfigurationError as error:
            why = str(error)
        if databases is None:  # outside of the except: the report is the message alone
            pytest.fail(why, pytrace=False)
        yield databases


@pytest.fixture(scope="session")
def rowlock_schema(pytestconfig: pytest.Config) -> str:
    """The schema of Rowlock's tables: that of the application in pytest's settings, else as the environment has it."""
    from rowlock import Settings

    app = _configured(pytestconfig)
    return Settings.from_environment().schema if app is None else app.settings.schema


@pytest.fixture(scope="session")
def rowlock_prepare_database() -> Callable[[str], object] | None:
    """A function that is called once with a database's URL, before it is cloned for the tests. To be overridden.

    It makes what the tests need besides Rowlock's tables: those of the application, for instance.
    """
    return None


@pytest.fixture(scope="session")
def rowlock_template(
    rowlock_server: Databases, rowlock_schema: str, rowlock_prepare_database: Callable[[str], object] | None
) -> str:
    """The name of the database of which each test's is a clone."""
    return rowlock_server.template(rowlock_schema, rowlock_prepare_database)


@pytest.fixture
def rowlock_database_url(rowlock_server: Databases, rowlock_template: str) -> Iterator[str]:
    """The URL of a migrated database of the test's own."""
    with rowlock_server.clone(rowlock_template) as url:
        yield url


@pytest.fixture
def rowlock_app(request: pytest.FixtureRequest) -> Iterator[Rowlock]:
    """The application of pytest's settings (`rowlock_app = "module:name"`), on the test's own database."""
    from rowlock.testing import use_database

    app = _configured(request.config)
    if app is None:
        pytest.fail(
            'Which application? Say rowlock_app = "module:name" in pytest\'s settings, or override the fixture '
            "rowlock_app: with use_database(app, rowlock_database_url): yield app",
            pytrace=False,
        )
    with use_database(app, request.getfixturevalue("rowlock_database_url")):
        yield app


def _configured(config: pytest.Config) -> Rowlock | None:
    """The application that pytest's settings name; None if they name none."""
    name: str = config.getini(_APP)
    if not name:
        return None
    from rowlock import Rowlock

    try:
        found: Any = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(
            f"rowlock_app is {name!r} in pytest's settings: {error}. Write it as module:name."
        ) from error
    if not isinstance(found, Rowlock):
        raise pytest.UsageError(f"rowlock_app is {name!r} in pytest's settings, which is {found!r}, no Rowlock().")
    return found
