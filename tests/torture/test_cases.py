"""The table of cases is in step with the checks, and a run names what it did not contain."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from rowlock.torture.cases import CASES, missing
from rowlock.torture.checker import RULES, Report
from rowlock.torture.nemesis import RATES
from rowlock.torture.run import Outcome
from tests.torture.bugs import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping


def report(looked: Mapping[str, int], **counts: int) -> Report:
    return Report(figures={}, counts={"lost": 0, **counts}, violations=(), looked=looked)


def outcome(of: Report, **seen: int) -> Outcome:
    left = {"left": 0, "repeated": 0, "left_behind": 0} | seen
    return Outcome(report=of, faults=Counter(), unexpected=[], unavailable=[], seconds=1.0, **left)


def test_the_table_has_each_rule_and_no_other() -> None:
    assert {case.rule for case in CASES} == set(RULES)
    assert all(count == 1 for count in Counter(case.name for case in CASES).values())


def test_the_table_names_faults_that_exist() -> None:
    assert {fault for case in CASES for fault in case.faults} <= set(RATES)


def test_whatever_the_checks_count_is_in_the_table() -> None:
    counted = {
        name
        for file in (ROOT / "rowlock" / "torture").rglob("*.py")
        for name in re.findall(r"""looked\[f?"([^"{]+)"\]""", file.read_text(encoding="utf-8"))
    }
    assert counted <= {case.name for case in CASES}
    assert len(counted) > 30


def test_a_case_that_did_not_occur_is_named_with_what_makes_it() -> None:
    looked = {case.name: 1 for case in CASES if case.name != "unjustified rescues: after freeze"}
    assert [case.name for case in missing(looked)] == ["unjustified rescues: after freeze"]
    of = report({**looked, "lost": 0})
    assert "nothing to look at: lost (made by the workload)" in of.lines()
    assert "nothing to look at: unjustified rescues: after freeze (made by freeze)" in of.lines()
    assert of.is_clean, "that is about violations alone"


def test_a_run_that_contained_each_case_names_none() -> None:
    of = report({case.name: 2 for case in CASES})
    assert of.unseen == []
    assert not [line for line in of.lines() if line.startswith("nothing to look at")]
    assert "looked at: lost 2" in of.lines()


def test_a_rule_of_the_witness_or_the_audit_that_saw_nothing_is_named() -> None:
    counts = {"witness: effect twice": 0, "audit: tick without its job": 0, "audit: job of two ticks": 0}
    of = report({**{case.name: 2 for case in CASES}, "audit: job of two ticks": 3}, **counts)
    assert [case.name for case in of.unseen] == ["witness: effect twice", "audit: tick without its job"]
    assert "nothing to look at: witness: effect twice (made by the workload)" in of.lines()


def test_an_outcome_counts_what_the_checker_and_the_run_have_seen() -> None:
    assert outcome(report({})).is_clean
    assert not outcome(report({}, lost=1)).is_clean
    for field in ("left", "repeated", "left_behind"):
        assert not outcome(report({}), **{field: 1}).is_clean
    assert outcome(report({}, lost=3), left=2).counts == {
        "lost": 3,
        "jobs left unfinished": 2,
        "HTTP requests that made two jobs": 0,
        "jobs that the claims' cursors left behind": 0,
        "processes that ended by themselves": 0,
    }
    assert "jobs left unfinished 2" in list(outcome(report({}), left=2).lines())
