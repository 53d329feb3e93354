"""The pytest plugin, in a pytest of its own: the documentation's tests pass, and what is missing is said."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest

import rowlock.testing  # noqa: F401  # before the runs in this process
from examples.tour.pages import ROOT, examples
from tests.conftest import Server

pytest_plugins = "pytester"

PAGE = ROOT / "docs" / "testing.md"
STRICT = ("-W", "error", "--strict-markers", "--strict-config", "-p", "no:cacheprovider")
SHOP = "from rowlock import Rowlock\napp = Rowlock()\n@app.task\ndef add(a: int, b: int) -> int: return a + b\n"
USES_THE_APP = "def test_of_the_app(rowlock_app): ...\n"


@pytest.fixture(autouse=True)
def _plugins_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """However this environment was installed: the plugins of a run are those that it names."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


@pytest.fixture
def shared_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the run use the server that is there."""
    monkeypatch.setenv("ROWLOCK_TEST_DATABASE_URL", server.url("postgres"))


def fresh(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """A run in a process of its own, which imports nothing of this one."""
    return pytester.runpytest_subprocess("-p", "pytest_rowlock", *STRICT, *options)


def here(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """A run in this process: sooner there, for what needs no database. What it needs has been imported before: pytester
    forgets what a run imports, and SQLAlchemy cannot be imported twice.
    """
    pytester.syspathinsert()
    return pytester.runpytest_inprocess("-p", "pytest_rowlock", *STRICT, *options)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_tests_of_the_documentation_pass_side_by_side(pytester: pytest.Pytester) -> None:
    (settings,) = examples(PAGE, "toml")
    pytester.makepyprojecttoml(settings.text)
    modules = {example.module: example.text for example in examples(PAGE, "python") if example.module is not None}
    pytester.makepyfile(**modules)
    done = fresh(pytester, "-p", "pytest_asyncio.plugin", "-p", "xdist", "-n", "2")
    done.assert_outcomes(passed=sum(text.count("def test_") for text in modules.values()))


@pytest.mark.slow
def test_embedded_server_runs_for_the_session_and_ends_with_it(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nrowlock_app = shop:app\nanyio_mode = auto")
    pytester.makepyfile(
        shop=SHOP,
        test_shop="""
            import pytest
            from shop import add, app
            from rowlock.testing import drain, enqueued

            @pytest.mark.parametrize("number", [1, 2])
            async def test_each_test_has_a_database_of_its_own(rowlock_app, number):
                assert await enqueued(rowlock_app) == []
                await add.enqueue(1, b=number)
                assert (await drain(app)).attempts[0].job.result == 1 + number

            def test_application_is_back_where_it_was(rowlock_server):
                assert app.settings.database_url is None
                print("server:", rowlock_server.server_url)
        """,
    )
    done = fresh(pytester, "-p", "anyio.pytest_plugin", "-s", "-k", "not trio")
    done.assert_outcomes(passed=3)
    (url,) = [line.partition("server: ")[2] for line in done.outlines if "server: " in line]
    assert subprocess.run([sys.executable, "-c", CONNECT, url], check=False, capture_output=True).returncode == 3


CONNECT = """
import asyncio, asyncpg, sys
try: asyncio.run(asyncpg.connect(sys.argv[1]))
except OSError: sys.exit(3)
"""


def test_plugin_imports_nothing_of_rowlock_until_a_fixture_is_asked_for() -> None:
    code = "import pytest_rowlock, sys; sys.exit(any(name in sys.modules for name in ('rowlock', 'asyncpg')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_plugin_is_what_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"rowlock": "pytest_rowlock"}
    assert "pytest_rowlock.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]


@pytest.mark.parametrize(
    "setting, told",
    [
        ("", "The fixture rowlock_app needs an application. Set rowlock_app = *"),
        ("rowlock_app = shopp:app", "rowlock_app in *; got 'shopp:app': No module named 'shopp'.*"),
        ("rowlock_app = shop:application", "rowlock_app in * got 'shop:application': *has no attribute 'application'*"),
        ("rowlock_app = shop:add", "rowlock_app in pytest's settings must be a Rowlock(); got 'shop:add', <Task add *"),
    ],
)
def test_setting_that_names_no_application_is_told(pytester: pytest.Pytester, setting: str, told: str) -> None:
    pytester.makeini(f"[pytest]\n{setting}")
    pytester.makepyfile(shop=SHOP, test_shop=USES_THE_APP)
    done = here(pytester)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([f"*{told}"])


def test_missing_server_is_told_with_what_would_help(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWLOCK_POSTGRES_BIN", str(pytester.path))  # where there are no programs
    pytester.makeini("[pytest]\nrowlock_app = shop:app")
    pytester.makepyfile(shop=SHOP, test_shop=USES_THE_APP)
    done = here(pytester)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(
        ['*The tests need a PostgreSQL: pip install "rowlock*embedded*", or set ROWLOCK_TEST_DATABASE_URL*']
    )


def test_server_that_does_not_answer_is_told_without_its_password(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWLOCK_TEST_DATABASE_URL", "postgresql://me:secret@localhost:1/postgres")
    pytester.makeini("[pytest]\nrowlock_app = shop:app")
    pytester.makepyfile(shop=SHOP, test_shop=USES_THE_APP)
    done = here(pytester)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(
        ["The tests cannot connect to PostgreSQL at postgresql://me:[*][*][*]@localhost:1/postgres*"]
    )
    done.stdout.no_fnmatch_line("*secret*")
