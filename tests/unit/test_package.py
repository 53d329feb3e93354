"""What is true of every file of the package and of its tests, whatever it does."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_TESTS = sorted((_ROOT / "tests").rglob("*.py"))
_MOST_LINES = 500
_MODULES = sorted((_ROOT / "rowlock").rglob("*.py"))
# Each can be made to run code by what it reads; what a queue stores is read by others.
_UNSAFE = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "jsonpickle"}


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_no_module_can_read_pickles(path: Path) -> None:
    roots = {name.partition(".")[0] for name in _imports(ast.parse(path.read_text()))}
    assert not roots & _UNSAFE


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_every_module_says_what_it_is_responsible_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_file_of_tests_is_longer_than_somebody_reads() -> None:
    lines = {str(path.relative_to(_ROOT)): len(path.read_text().splitlines()) for path in _TESTS}
    assert [path for path, count in lines.items() if count > _MOST_LINES] == []


def test_types_are_shipped() -> None:
    assert (_ROOT / "rowlock" / "py.typed").is_file()


def test_constraints_hold_exact_versions_and_nothing_of_the_machine_they_were_made_on() -> None:
    for line in (_ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line)


def test_every_dependency_has_a_lower_bound_that_the_constraints_fulfil() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(line.split("==") for line in (_ROOT / "constraints.txt").read_text().lower().splitlines())
    extras = project["optional-dependencies"].values()
    for requirement in [*project["dependencies"], *(line for lines in extras for line in lines)]:
        if requirement.startswith("rowlock["):
            continue
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?>=([0-9.]+)", requirement)
        assert found, f"{requirement} has no lower bound"
        assert _numbers(pinned[found[1].lower()]) >= _numbers(found[2])


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
