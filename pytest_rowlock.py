"""The pytest plugin: fixtures that give each test a migrated PostgreSQL database of its own, and the application on it.

It is a module beside the package because pytest imports it in every run; only tests that use a fixture import
`rowlock`.
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
    """A PostgreSQL for the tests, which creates and drops their databases: `rowlock.testing.Databases`.

    It uses the server that ROWLOCK_TEST_DATABASE_URL names, else an embedded one, which runs until the session ends.
    """
    from rowlock import ConfigurationError
    from rowlock.testing import Databases

    with ExitStack() as stack:
        databases, why = None, ""
        try:
            databases = stack.enter_context(Databases())
        except ConfigurationError as error:
            why = str(error)
        if databases is None:  # outside of the except: the report shows the message alone
            pytest.fail(why, pytrace=False)
        yield databases


@pytest.fixture(scope="session")
def rowlock_schema(pytestconfig: pytest.Config) -> str:
    """The schema of Rowlock's tables: from the application in pytest's settings, else from the environment."""
    from rowlock import Settings

    app = _configured(pytestconfig)
    return Settings.from_environment().schema if app is None else app.settings.schema


@pytest.fixture(scope="session")
def rowlock_prepare_database() -> Callable[[str], object] | None:
    """A function that prepares the template database; the fixture calls it once with the URL. Override it.

    It creates what the tests need besides Rowlock's tables, for example the application's tables.
    """
    return None


@pytest.fixture(scope="session")
def rowlock_template(
    rowlock_server: Databases, rowlock_schema: str, rowlock_prepare_database: Callable[[str], object] | None
) -> str:
    """The name of the template database that each test clones."""
    return rowlock_server.template(rowlock_schema, rowlock_prepare_database)


@pytest.fixture
def rowlock_database_url(rowlock_server: Databases, rowlock_template: str) -> Iterator[str]:
    """The URL of a migrated database for this test alone."""
    with rowlock_server.clone(rowlock_template) as url:
        yield url


@pytest.fixture
def rowlock_app(request: pytest.FixtureRequest) -> Iterator[Rowlock]:
    """The application of pytest's settings (`rowlock_app = "module:name"`), on the test's own database."""
    from rowlock.testing import use_database

    app = _configured(request.config)
    if app is None:
        pytest.fail(
            'The fixture rowlock_app needs an application. Set rowlock_app = "module:name" in pytest\'s settings, or '
            "override the fixture: with use_database(app, rowlock_database_url): yield app.",
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
            f'rowlock_app in pytest\'s settings must be like "module:name"; got {name!r}: {error}.'
        ) from error
    if not isinstance(found, Rowlock):
        raise pytest.UsageError(f"rowlock_app in pytest's settings must be a Rowlock(); got {name!r}, {found!r}.")
    return found
