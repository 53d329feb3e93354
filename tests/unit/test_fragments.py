"""The SQL says each thing once: what several statements have in common is a fragment."""

from __future__ import annotations

import re
from collections import defaultdict
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import pytest

from rowlock.queue.connect import statements
from rowlock.queue.connect.statements import INCLUDE, complete, fragments, statement
from rowlock.queue.jobs.options import MARKS, JobOptions

PACKAGE = Path(str(files("rowlock")))
FILES = sorted(PACKAGE.rglob("*.sql"))
MOST = 5
"""Equal lines in a row that two files may have."""

DIFFERENT: dict[frozenset[str], str] = {}
"""Pairs of files with more of them, and why these lines do not mean the same."""


def test_every_statement_is_complete() -> None:
    for name in statements.statements():
        assert "{{" not in statement(name, "rowlock"), name
    for file in PACKAGE.joinpath("testing/sql").iterdir():
        assert "{{" not in statement(file.stem, "rowlock", "rowlock.testing"), file.stem


def test_every_fragment_is_used_and_says_what_it_is() -> None:
    used = {place["name"] for file in FILES for place in INCLUDE.finditer(file.read_text())}
    assert used == fragments().keys()
    for name, file in fragments().items():
        assert file.read_text().startswith("-- "), name
    assert not fragments().keys() & statements.statements().keys(), "a name means one thing"


def test_an_unknown_fragment_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "one.sql"
    file.write_text("-- One.\nSELECT {{nothing_like_this}}\n")
    monkeypatch.setattr(statements, "statements", lambda: {"one": file})
    with pytest.raises(KeyError, match="nothing_like_this"):
        statement("one", "elsewhere")


def test_a_fragment_is_indented_as_its_place_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "one": "-- One.\nSELECT {{columns}},\n       {{null columns}}\n",
        "columns": "-- Some columns.\na, {{more}},\nb\n",
        "more": "-- More of them.\nc, d\n",
    }
    known = {name: tmp_path / f"{name}.sql" for name in texts}
    for name, text in texts.items():
        known[name].write_text(text)
    monkeypatch.setattr(statements, "statements", lambda: known)
    monkeypatch.setattr(statements, "fragments", lambda: known)
    assert statement("one", "indented") == (
        "-- One.\nSELECT a, c, d,\n       b,\n       NULL, NULL, NULL,\n       NULL\n"
    )


def test_the_marks_are_the_same_in_python_and_in_sql() -> None:
    assert complete("{{job_marks}}") == ", ".join(MARKS)
    assert [name for name in JobOptions.__struct_fields__ if name in MARKS] == list(MARKS)


def test_what_is_given_is_in_the_order_of_the_function_s_parameters() -> None:
    functions = PACKAGE.joinpath("migrations/versions/0001_initial/functions.sql").read_text()
    (signature,) = re.findall(r"CREATE FUNCTION rowlock\.enqueue\((.*?)\n\) RETURNS", functions, re.DOTALL)
    given = re.sub(r"coalesce\((\w+), .*?\)(?=,)", r"\1", complete("{{enqueue_given}}").partition("(")[2])
    assert re.findall(r"^ +(\w+)", signature, re.MULTILINE) == re.findall(r"(?<!:)\b\w+", given)


def test_no_two_files_say_the_same() -> None:
    places: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for file in FILES:
        lines = [line.strip() for line in file.read_text().splitlines()]
        said = [line for line in lines if line and not line.startswith("--") and not INCLUDE.search(line)]
        for run in zip(*(said[start:] for start in range(MOST + 1)), strict=False):
            places[run].add(str(file.relative_to(PACKAGE)))
    same = {frozenset(pair): run for run, found in places.items() for pair in combinations(sorted(found), 2)}
    assert {tuple(sorted(pair)): run for pair, run in same.items() if pair not in DIFFERENT} == {}
    assert DIFFERENT.keys() <= same.keys(), "an exception that nothing needs"
