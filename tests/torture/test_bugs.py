"""The bugs on purpose: they cannot rot, each can still be made in the sources as they are."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from tests.torture.bugs import BUGS, ROOT, SHORT_WAITS, Bug, Pytest
from tests.torture.seeded import broken_rules, failed_tests

LEAST = 22


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    assert len(BUGS) >= LEAST
    assert all(count == 1 for count in Counter(bug.name for bug in BUGS).values())


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_made_in_the_present_sources(bug: Bug) -> None:
    files = {change.file: (ROOT / change.file).read_text(encoding="utf-8") for change in (*bug.changes, *SHORT_WAITS)}
    for change in (*bug.changes, *SHORT_WAITS):
        broken = change.applied(files[change.file])
        assert broken != files[change.file]
        files[change.file] = broken
    for name, text in files.items():
        if name.endswith(".py"):
            ast.parse(text, name)


@pytest.mark.parametrize("bug", [bug for bug in BUGS if isinstance(bug.engine, Pytest)], ids=lambda bug: bug.name)
def test_the_tests_that_are_to_catch_a_bug_are_there(bug: Bug) -> None:
    assert isinstance(bug.engine, Pytest)
    source = (ROOT / bug.engine.selection).read_text(encoding="utf-8")
    for name in bug.caught_by:
        assert f"def {name}(" in source


def test_the_documentation_lists_the_bugs() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `?([^|`]+)`? \|$", page, re.MULTILINE)
    listed = {name: (promise, rule) for name, promise, rule in rows}
    for bug in BUGS:
        promise, rule = listed[bug.name]
        assert promise == bug.promise
        assert rule in bug.caught_by


def test_what_the_harness_says_is_understood() -> None:
    report = "jobs asked for 1,234\nlost 2\noverlaps 0\nlost: job: why\njobs left unfinished 1\nexisting 3\n"
    assert dict(broken_rules(report)) == {"lost": "lost: job: why", "jobs left unfinished": "jobs left unfinished 1"}
    summary = "FAILED tests/db/test_claims.py::test_one[2] - AssertionError\n1 failed, 2 passed\n"
    assert dict(failed_tests(summary)) == {"test_one": "FAILED tests/db/test_claims.py::test_one[2] - AssertionError"}
