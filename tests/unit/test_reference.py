"""The page that compares Python, HTTP, the command line and SQL: it has everything that there is, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import rowlock
from rowlock import Rowlock
from rowlock.api.application import ENDPOINTS
from rowlock.cli.root import COMMANDS, root

_ROOT = Path(__file__).resolve().parents[2]
_VERBS = {
    *("cancel", "reschedule", "retry", "discard", "run-again"),
    *("pause", "resume", "scale", "run", "quiet", "stop"),
}


def rows() -> list[list[list[str]]]:
    """What each row names in Python, over HTTP, on the command line and in SQL."""
    page = (_ROOT / "docs/reference.md").read_text()
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    return [[re.findall(r"`([^`]+)`", cell) for cell in line[1:]] for line in lines]


def named(column: int) -> set[str]:
    return {name for row in rows() for name in row[column]}


def in_python() -> Iterator[str]:
    app = Rowlock("postgresql://127.0.0.1/nothing_connects")
    parts = {f"app.{name}": part for name, part in vars(app).items() if type(part).__name__ in rowlock.__all__}
    del parts["app.settings"]
    for prefix, part in ({"app": app} | parts).items():
        methods = {name for name in dir(type(part)) if not name.startswith("_")}
        yield from (f"{prefix}.{name}" for name in methods - {"through"})


def in_the_terminal() -> Iterator[str]:
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        parts = command.commands if isinstance(command, click.Group) else {"": command}
        yield from (f"rowlock {name} {part}".strip() for part in parts)


def test_every_method_is_there() -> None:
    assert named(0) == set(in_python())


def test_every_endpoint_is_there() -> None:
    assert named(1) == {f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS}


def test_every_command_is_there() -> None:
    assert named(2) == set(in_the_terminal())


def test_every_name_in_sql_exists() -> None:
    folder = _ROOT / "rowlock/migrations/versions/0001_initial"
    made = "\n".join(file.read_text() for file in folder.glob("*.sql"))
    for name in named(3):
        assert re.search(rf"CREATE (FUNCTION|VIEW|TABLE) {re.escape(name)}\b", made), name


@pytest.mark.parametrize("row", [row for row in rows() if any(name.startswith("POST") for name in row[1])], ids=str)
def test_an_act_has_one_name_everywhere(row: list[list[str]]) -> None:
    verb = row[1][0].rpartition("/")[2]
    if verb in _VERBS:
        assert [name.rpartition(".")[2].removesuffix("_many") for name in row[0]] == [verb.replace("-", "_")]
        assert [name.split()[-1] for name in row[2]] == [verb]
