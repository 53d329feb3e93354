"""The command line, as far as it needs no database: what is refused, what the doctor concludes, the logs."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import structlog

from rowlock import logs
from rowlock.api.access.authentication import is_loopback
from rowlock.cli.commands.enqueue import parse_args, parse_limit, parse_time
from rowlock.cli.commands.worker import split_queues
from rowlock.cli.root import COMMANDS, root, run
from rowlock.cli.run.loading import load
from rowlock.cli.show import findings
from rowlock.cli.show.output import clean
from rowlock.errors import ConfigurationError, InvalidArguments, InvalidOption
from rowlock.schema import REVISION

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root_logger = logging.getLogger()
    handlers, level = list(root_logger.handlers), root_logger.level
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root_logger.handlers[:] = handlers
    root_logger.setLevel(level)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["worker"], "Missing argument 'APP'"),
        (["worker", "tasks"], "must be module:attribute"),
        (["worker", "no_such_module:app"], "'no_such_module' must be in"),
        (["worker", "json:dumps"], "json:dumps must be a Rowlock; it is a function"),
        (["worker", "json:app"], "The module json has no app"),
        (["worker", "json:app", "--concurrency", "0"], "--concurrency"),
        (["api", "--port", "65536"], "--port"),
        (["enqueue", "hello", "{"], "must be a JSON object"),
        (["enqueue", "hello", "[]"], "must be a JSON object"),
        (["enqueue", "hello", "--run-at", "soon"], 'must be a time like 2030-01-31T09:00:00Z; got "soon"'),
        (["enqueue", "hello", "--run-at", "2030-01-31T09:00:00"], "must have a time zone"),
        (["enqueue", "hello", "--priority", "high"], "--priority"),
        (["enqueue", "hello", "--unique-until", "start"], "add --unique or --unique-by"),
        (["enqueue", "hello", "--on-duplicate", "raise"], "add --unique or --unique-by"),
        (["enqueue", "hello", "--unique", "a", "--unique-by", "name"], "got both"),
        (["enqueue", "hello", "--unique", "a", "--unique-until", "end"], "--unique-until"),
        (["enqueue", "hello", "--unique", "a", "--unique-period", "0"], "; got 0"),
        (["jobs", "list", "--state", "lost"], "--state"),
        (["jobs", "list", "--before", "1"], "--before"),
        (["jobs", "list", "--limit", "501"], "--limit"),
        (["retention", "keep", "email", "--failed", "7"], "failed must be a duration"),
        (["retention", "keep", "email", "--failed", "30m"], "an hour"),
        (["retention", "keep", "email"], "needs at least one of"),
        (["migrate", "--to", "9999"], 'got "9999"'),
        (["migrate", "--to", "head", "--down", "base"], "without --to and --sql"),
    ],
    ids=" ".join,
)
def test_wrong_use_ends_in_one_line_and_exit_code_2(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("rowlock: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err


@pytest.mark.parametrize(
    "name, value",
    [
        ("ROWLOCK_DATABASE_URL", "mysql://ada:secret@db/app"),
        ("ROWLOCK_HEARTBEAT", "soon"),
        ("ROWLOCK_LOG_LEVEL", "loud"),
        ("ROWLOCK_LOG_FORMAT", "xml"),
    ],
)
def test_wrong_environment_is_named_without_secrets(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert run(["jobs", "list"]) == 2
    printed = capfd.readouterr().err
    assert name in printed
    assert "secret" not in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "url",
    ["postgresql://ada:secr/et@db/app", "postgresql://ada:secr:et@db:port/app", "postgresql://ada:secret@[::1/app"],
)
def test_url_that_cannot_be_read_is_refused_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROWLOCK_DATABASE_URL", url)
    assert run(["jobs", "list"]) == 2
    printed = capfd.readouterr().err
    assert "cannot be read" in printed
    assert "secr" not in printed


def test_missing_extra_is_named() -> None:
    program = "import sys; sys.modules['click'] = None; from rowlock.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == 'rowlock: the command line needs click. Install it: pip install "rowlock[cli]"\n'


def test_only_what_serves_http_loads_the_server() -> None:
    names = [name.replace("-", "_") for name in COMMANDS if name not in {"api", "dev", "torture"}]
    loading = "".join(f"import rowlock.cli.commands.{name}; " for name in names)
    program = f"import sys; {loading}sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "text, said",
    [
        ("import missing_dependency", "No module named 'missing_dependency' ("),
        ("\n1 / 0", "line 2"),
        ("def", "SyntaxError"),
        ("from rowlock import Rowlock\nqueue = Rowlock()", "has no app: try"),
    ],
)
def test_module_that_cannot_be_used_is_explained(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        load(f"{name}:app")


def test_application_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "found_here.py").write_text("from rowlock import Rowlock\nclass Site:\n    queue = Rowlock()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load("found_here:Site.queue") is sys.modules["found_here"].Site.queue


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback_is_open(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "", "localhost.example.com"])
def test_everything_else_may_be_reached_from_elsewhere(host: str) -> None:
    assert not is_loopback(host)


def test_queues_are_split_at_commas() -> None:
    assert split_queues("email, reports:2") == ["email", "reports:2"]
    assert split_queues(None) is None


def test_arguments_are_an_object_of_json() -> None:
    assert parse_args('{"name": "Ada", "n": [1, null]}') == {"name": "Ada", "n": [1, None]}
    with pytest.raises(InvalidArguments):
        parse_args("'name'")


def test_time_needs_a_zone() -> None:
    assert parse_time("run_at", "2030-01-31T09:00:00Z") == datetime(2030, 1, 31, 9, tzinfo=UTC)
    with pytest.raises(InvalidOption, match="time zone"):
        parse_time("run_at", "2030-01-31")
    assert parse_limit("expires", "90") == 90.0
    assert parse_limit("expires", "2030-01-31T09:00:00Z") == datetime(2030, 1, 31, 9, tzinfo=UTC)
    with pytest.raises(InvalidOption, match="got 'soon'"):
        parse_limit("expires", "soon")


def test_control_characters_of_data_are_spelled_out() -> None:
    assert clean("a\x1b[31mb\r\x07\u202e\tc\nd") == "a\\x1b[31mb\\r\\x07\\u202e\tc\nd"


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {part.name}", part) for part in command.commands.values())
        else:
            yield name, command


@pytest.mark.parametrize("path, command", list(_commands()))
def test_every_command_that_comes_to_an_end_has_its_json(path: str, command: click.Command) -> None:
    is_long = path in {"worker", "api", "dev"}
    assert is_long != any(parameter.name == "as_json" for parameter in command.params)
    assert command.help


def test_what_each_command_is_for_fits_into_the_list() -> None:
    context = click.Context(root)
    groups = [root.get_command(context, name) for name in COMMANDS]
    for command in (*(group for group in groups if group is not None), *(command for _, command in _commands())):
        assert re.fullmatch(r".*[^.]\.", command.get_short_help_str(64)), command.name


def _options() -> Iterator[tuple[str, str]]:
    for path, command in _commands():
        shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
        yield from ((path, option) for parameter in shown for option in parameter.opts if "-" in option)


@pytest.mark.parametrize("command, option", list(_options()))
def test_every_option_is_in_the_documentation(command: str, option: str) -> None:
    page = (_ROOT / "docs/cli.md").read_text()
    section = re.search(rf"^## `rowlock {command}.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert f"`{option}" in section[0]


GOOD: dict[str, Any] = {
    "version": "18.1",
    "version_number": 180001,
    "is_in_recovery": False,
    "is_read_only": False,
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "synchronous_standby_names": "ANY 1 (a, b)",
    "standbys": 2,
    "synchronous_standbys": 2,
    "default_transaction_isolation": "read committed",
    "autovacuum": "on",
    "track_counts": "on",
    "autovacuum_max_workers": 3,
    "autovacuum_naptime_s": 60.0,
    "autovacuum_cost_delay_ms": 2.0,
    "max_connections": 100,
    "reserved_connections": 3,
    "connections": 10,
}


def test_good_server_is_ok() -> None:
    assert {finding.status for finding in findings.judge_server(GOOD)} == {"ok"}


def test_a_server_without_standbys_is_ok() -> None:
    alone = GOOD | {"synchronous_standby_names": "", "standbys": 0, "synchronous_standbys": 0}
    assert {finding.status for finding in findings.judge_server(alone)} == {"ok"}


@pytest.mark.parametrize(
    "changed, check, status",
    [
        ({"version_number": 140010}, "server version", "fail"),
        ({"is_in_recovery": True}, "writable", "fail"),
        ({"is_read_only": True}, "writable", "fail"),
        ({"fsync": "off"}, "fsync", "fail"),
        ({"full_page_writes": "off"}, "full_page_writes", "fail"),
        ({"synchronous_commit": "off"}, "synchronous_commit", "fail"),
        ({"synchronous_standby_names": ""}, "standbys", "warn"),
        ({"synchronous_commit": "local"}, "standbys", "fail"),
        ({"synchronous_standbys": 0}, "standbys", "fail"),
        ({"default_transaction_isolation": "serializable"}, "default_transaction_isolation", "warn"),
        ({"autovacuum": "off"}, "autovacuum", "warn"),
        ({"track_counts": "off"}, "autovacuum", "warn"),
        ({"autovacuum_max_workers": 1}, "autovacuum", "warn"),
        ({"autovacuum_naptime_s": 3600.0}, "autovacuum", "warn"),
        ({"autovacuum_cost_delay_ms": 100.0}, "autovacuum", "warn"),
        ({"connections": 94}, "connections", "warn"),
    ],
)
def test_what_breaks_a_promise_is_found_alone_and_has_a_remedy(
    changed: dict[str, Any], check: str, status: str
) -> None:
    found = [finding for finding in findings.judge_server(GOOD | changed) if finding.status != "ok"]
    assert [(finding.check, finding.status) for finding in found] == [(check, status)]
    assert found[0].remedy


@pytest.mark.parametrize(
    "found, status, remedy",
    [
        (REVISION, "ok", None),
        (None, "fail", "rowlock migrate"),
        ("0000", "fail", "rowlock migrate"),
        ("9999", "fail", "pip"),
    ],
)
def test_schema_has_to_be_the_one_of_this_code(found: str | None, status: str, remedy: str | None) -> None:
    finding = findings.judge_revision("rowlock", found)
    assert finding.status == status
    assert remedy is None or (finding.remedy and remedy in finding.remedy)


def test_old_and_prepared_transactions_are_named_with_what_ends_them() -> None:
    age = timedelta(minutes=11, microseconds=7)
    rows = [
        {"kind": "transaction", "name": "4711", "state": "idle in transaction", "application": "psql", "age": age},
        {"kind": "prepared", "name": "left", "state": "prepared", "application": "ada", "age": age},
    ]
    transaction, prepared = findings.judge_horizon(rows, [])
    assert transaction.status == prepared.status == "warn"
    assert "0:11:00" in transaction.detail
    assert transaction.remedy == "If it is not needed: SELECT pg_terminate_backend(4711);"
    assert prepared.remedy == "COMMIT PREPARED or ROLLBACK PREPARED 'left';"
    assert findings.judge_horizon([], [{"kind": None, "sees_all": True}])[0].status == "ok"


def logged(environ: dict[str, str] | None = None) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(environ or {}, stream)
    return stream


def test_both_kinds_of_loggers_come_out_alike() -> None:
    stream = logged()
    structlog.contextvars.bind_contextvars(job_id="42")
    structlog.get_logger("one").info("job_done", extra_field=1)
    logging.getLogger("two").info("said %s", "so", extra={"extra_field": 2})
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.keys() == second.keys() == {"event", "level", "logger", "timestamp", "job_id", "extra_field"}
    assert (first["event"], second["event"]) == ("job_done", "said so")


def test_level_and_format_follow_the_environment() -> None:
    stream = logged({"ROWLOCK_LOG_LEVEL": "WARNING", "ROWLOCK_LOG_FORMAT": "console"})
    for logger in (structlog.get_logger("one"), logging.getLogger("two")):
        logger.info("quiet")
        logger.warning("loud")
    printed = stream.getvalue()
    assert printed.count("loud") == 2
    assert "quiet" not in printed
    assert "{" not in printed


@pytest.mark.parametrize("form", ["console", "json"])
def test_tracebacks_show_no_local_variables(form: str) -> None:
    stream = logged({"ROWLOCK_LOG_FORMAT": form})
    password = "hun" + "ter2"
    try:
        int(f"{len(password)} x")
    except ValueError:
        structlog.get_logger("one").exception("went_wrong")
        logging.getLogger("two").exception("went_wrong")
    printed = stream.getvalue()
    assert printed.count("ValueError") == 2
    assert "hunter2" not in printed
