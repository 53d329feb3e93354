"""The bugs on purpose: they cannot rot, each can still be made in the sources as they are, and each has one check."""

from __future__ import annotations

import ast
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rowlock.queue.connect.statements import complete
from rowlock.schema import in_schema
from rowlock.torture.cases import CASES
from rowlock.torture.checker import RULES
from tests.torture.bugs import BUGS, ROOT, SHORT_WAITS, Bug, Change, Constant, Pytest, Torture, changed
from tests.torture.bugs.seams import assign, marks, mend
from tests.torture.looking import DID_NOT_RUN, Look, Tree, read_tests, read_torture
from tests.torture.seeded import Pass
from tests.torture.verdicts import Result, Verdict, judge, page, result, row, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import TypeAlias

    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

LEAST = 30
TESTED = [bug for bug in BUGS if isinstance(bug.engine, Pytest)]
TORTURED = [bug for bug in BUGS if isinstance(bug.engine, Torture)]
BY_THE_RUN = ("jobs left unfinished", "HTTP requests that made two jobs", "jobs that the claims' cursors left behind")
CLEAN = Look(code=0, complaints={})


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    assert len(BUGS) >= LEAST
    assert all(count == 1 for count in Counter(bug.name for bug in BUGS).values())


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_made_in_the_present_sources(bug: Bug) -> None:
    for file, text in changed(ROOT, (*bug.changes, *SHORT_WAITS)).items():
        assert text.strip()
        if file.endswith(".py"):
            ast.parse(text, file)


async def test_each_statement_with_a_bug_can_be_prepared(connection: Connection) -> None:
    for bug in BUGS:
        for file, text in changed(ROOT, bug.changes).items():
            if "/sql/" in file:
                await connection.prepare(in_schema(complete(text), "rowlock"))


def test_each_mark_of_a_seam_is_there_once_and_a_bug_uses_it() -> None:
    named = {change.seam for bug in BUGS for change in bug.changes if isinstance(change, Change)}
    assert Counter(name for name, _ in marks(ROOT)) == Counter(named)


@pytest.mark.parametrize("bug", TESTED, ids=lambda bug: bug.name)
def test_the_test_that_is_to_catch_a_bug_is_there(bug: Bug) -> None:
    assert isinstance(bug.engine, Pytest)
    source = (ROOT / bug.engine.file).read_text(encoding="utf-8")
    assert f"def {bug.rule}(" in source
    assert not bug.needs, "a test looks at the same each time"


@pytest.mark.parametrize("bug", TORTURED, ids=lambda bug: bug.name)
def test_the_rule_and_the_cases_of_a_tortured_bug_are_there(bug: Bug) -> None:
    assert bug.rule in (*RULES, *BY_THE_RUN)
    assert set(bug.needs) <= {case.name for case in CASES}


def test_the_documentation_lists_the_bugs() -> None:
    lines = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8").splitlines()
    head, *rows = page(BUGS)
    assert head in lines
    missing = [one for one in rows if one not in lines]
    assert not missing, "python -m tests.torture.seeded --table"


# Seams

PYTHON = """\
LIMIT: Final = 60.0  # seconds
if True:
    total = add(
        first,  # seam: sum
        second,
    )
    try:
        raise Refused("why")  # said to callers  # seam: refusal
    except Refused:  # seam: refused
        pass
"""
SQL = """\
SELECT id FROM job
  WHERE worker = $1  -- seam: fence
"""


def test_a_statement_in_python_is_left_out_or_replaced() -> None:
    assert "    pass\n    try:" in mend(PYTHON, "sum", old="", new="", is_python=True)
    broken = mend(PYTHON, "sum", old="", new="if first:\n    total = first", is_python=True)
    assert "    if first:\n        total = first\n    try:" in broken
    assert "        return  # said" in mend(PYTHON, "refusal", old="", new="return", is_python=True)


def test_the_seam_of_a_block_covers_its_header() -> None:
    broken = mend(PYTHON, "refused", old="", new="except ZeroDivisionError:", is_python=True)
    assert "    except ZeroDivisionError:  # seam: refused\n        pass\n" in broken


def test_a_part_of_a_statement_is_replaced_however_it_is_written() -> None:
    assert "total = add(first,  # seam" in mend(PYTHON, "sum", old="add( first", new="add(first", is_python=True)
    with pytest.raises(ValueError, match="4 times, not once"):
        mend(PYTHON, "sum", old="s", new="", is_python=True)


def test_a_seam_in_sql_covers_its_line() -> None:
    assert mend(SQL, "fence", old="", new="", is_python=False) == "SELECT id FROM job\n    -- seam: fence\n"
    assert "  WHERE id = $1  -- seam" in mend(SQL, "fence", old="worker", new="id", is_python=False)


def test_a_constant_has_another_value() -> None:
    assert assign(PYTHON, "LIMIT", "1e9").startswith("LIMIT: Final = 1e9  # seconds\nif True:")
    with pytest.raises(ValueError, match="MOST is assigned 0 times"):
        assign(PYTHON, "MOST", "1")


# What a look comes to

TORTURED_BUG = Bug(
    name="a bug", promise="all is well", changes=(), engine=Torture(), rule="lost", needs=("unjustified rescues",)
)
TESTED_BUG = replace(TORTURED_BUG, engine=Pytest(file="tests/x.py"), rule="test_x", needs=())


def look(*rules: str, **looked: int) -> Look:
    counters = {name.replace("_", " "): count for name, count in looked.items()}
    return Look(
        code=1 if rules else 0, complaints={rule: f"{rule}: why" for rule in rules}, looked=counters, seconds=2.0
    )


def test_a_bug_is_caught_by_its_own_rule_and_others_are_named_beside_it() -> None:
    seen = look("overlaps", "lost", unjustified_rescues=1)
    assert judge(TORTURED_BUG, seen, CLEAN) is Verdict.CAUGHT
    found = result(TORTURED_BUG, [seen], CLEAN)
    assert (found.is_caught, found.why, found.also) == (True, "lost: why", ("overlaps",))
    assert "| lost | overlaps | 1 | 2 |" in list(table([found]))[-1]
    assert row(found).startswith("caught")


def test_a_bug_that_another_rule_complains_of_is_missed() -> None:
    assert judge(TORTURED_BUG, look("overlaps", unjustified_rescues=1), CLEAN) is Verdict.MISSED
    assert judge(TESTED_BUG, look("test_y"), CLEAN) is Verdict.MISSED


def test_a_run_without_the_cases_that_a_bug_needs_has_shown_nothing() -> None:
    seen = look("overlaps", unjustified_rescues=0)
    assert judge(TORTURED_BUG, seen, CLEAN) is Verdict.NO_EFFECT
    found = result(TORTURED_BUG, [seen, seen, seen], CLEAN)
    assert (found.is_caught, found.tries, found.seconds) == (False, 3, 6.0)
    assert found.why == "nothing to look at: unjustified rescues"
    assert "| NO EFFECT: nothing to look at: unjustified rescues |" in list(table([found]))[-1]


def test_a_rule_that_complains_of_the_unbroken_tree_catches_nothing() -> None:
    found = result(TORTURED_BUG, [look("lost", unjustified_rescues=1)], look("lost"))
    assert found.verdict is Verdict.FALSE_ALARM
    assert found.why == "of the unbroken tree it says: lost: why"
    assert judge(TORTURED_BUG, look("lost", unjustified_rescues=1), look("overlaps")) is Verdict.CAUGHT


@pytest.mark.parametrize("code", [DID_NOT_RUN, 2, 4, 5])
def test_a_harness_that_did_not_look_has_caught_nothing(code: int) -> None:
    broken = Look(code=code, complaints={"lost": "lost: why"}, output="Traceback")
    assert judge(TORTURED_BUG, broken, CLEAN) is Verdict.DID_NOT_RUN
    assert judge(TORTURED_BUG, look("lost"), broken) is Verdict.DID_NOT_RUN
    assert result(TORTURED_BUG, [broken], CLEAN).why == "Traceback"


def test_what_the_torture_says_is_understood() -> None:
    counts = {"lost": 2, "overlaps": 0, "jobs left unfinished": 1}
    document = {"counts": counts, "violations": ["lost: job: why", "lost: other"], "looked": {"lost": 7}}
    seen = read_torture(1, json.dumps(document), "", 3.0)
    assert seen.complaints == {"lost": "lost: job: why", "jobs left unfinished": "jobs left unfinished 1"}
    assert seen.looked == {"lost": 7}
    assert seen.has_run
    assert not read_torture(1, "", "Traceback", 3.0).has_run


def test_what_pytest_says_is_understood() -> None:
    summary = "FAILED tests/db/test_claims.py::test_one[2] - AssertionError\n1 failed, 2 passed\n"
    seen = read_tests(1, summary, "", 1.0)
    assert seen.complaints == {"test_one": "FAILED tests/db/test_claims.py::test_one[2] - AssertionError"}
    assert seen.has_run
    assert not read_tests(1, "ERROR tests/db/test_claims.py::test_one - RuntimeError\n", "", 1.0).has_run
    assert read_tests(0, "1 passed\n", "", 1.0).has_run


# A pass


class FakeTree(Tree):
    """Gives looks that were made up; those with changes are at a bug, the others at the unbroken tree."""

    def __init__(self, *looks: Look, control: Look = CLEAN) -> None:
        self.looks = list(looks)
        self.control = control
        self.seeds: list[int] = []

    def look(
        self,
        engine: Torture | Pytest,  # noqa: ARG002  # as the tree has it
        changes: Iterable[Change | Constant],
        *,
        rules: Sequence[str],  # noqa: ARG002  # as the tree has it
        seed: int,
        keep: Path | None = None,  # noqa: ARG002  # as the tree has it
    ) -> Look:
        if not list(changes):
            return self.control
        self.seeds.append(seed)
        return self.looks.pop(0)


BREAKING = (Change(seam="a", new="b"),)
NOTHING, SHOWN = look(unjustified_rescues=0), look("lost", unjustified_rescues=1)


def passed(tree: FakeTree) -> Result:
    (found,) = Pass(tree, seed=5, keep=None).run([replace(TORTURED_BUG, changes=BREAKING)], jobs=1)
    return found


def test_a_run_without_an_effect_is_repeated_with_another_seed() -> None:
    tree = FakeTree(NOTHING, SHOWN)
    assert (passed(tree).verdict, tree.seeds) == (Verdict.CAUGHT, [5, 6])


def test_a_run_is_repeated_twice_at_most() -> None:
    tree = FakeTree(NOTHING, NOTHING, NOTHING, SHOWN)
    assert (passed(tree).verdict, tree.seeds) == (Verdict.NO_EFFECT, [5, 6, 7])


def test_a_bug_that_was_missed_is_not_tried_until_chance_finds_it() -> None:
    tree = FakeTree(look(unjustified_rescues=1), SHOWN)
    assert (passed(tree).verdict, tree.seeds) == (Verdict.MISSED, [5])


def test_each_engine_has_its_control() -> None:
    assert passed(FakeTree(SHOWN, control=look("lost"))).verdict is Verdict.FALSE_ALARM
