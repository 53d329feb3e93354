"""What the documentation shows is run, and what it lists is compared with the code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from examples.tour.pages import PAGES, ROOT, examples, name_of, run_page
from rowlock import Rowlock, Settings
from rowlock.queue.jobs.lifecycle import EDGES, FINAL
from rowlock.queue.read.audits import INVARIANTS
from rowlock.torture import hearing, witness
from rowlock.torture.checker import RULES
from tests.torture.bugs import BUGS

NOT_RUN = {
    ("docs/alembic.md", "a module of a project"),
    ("docs/enqueue.md", "needs max_prepared_transactions"),
    ("docs/http-api.md", "serves until it is stopped"),
    ("docs/connections.md", "a module of a project"),
    ("docs/dashboard.md", "serves until it is stopped"),
    ("docs/security.md", "serves until it is stopped"),
    ("docs/testing.md", "a module of a project"),
    ("docs/frameworks.md", "settings of a project"),
    ("docs/frameworks.md", "a module of a project"),
}
"""The examples that no test runs: the page, and the reason that it gives."""

_EDGE = re.compile(r"^ +(?P<start>\S+) --> (?P<end>\S+)(?:: (?P<verb>\w+))?$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:|#)(?P<path>[^)#]+)")


@pytest.fixture
async def names(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """The namespace of one page's examples, with the environment that they count on."""
    monkeypatch.setenv("ROWLOCK_DATABASE_URL", database_url)
    given: dict[str, Any] = {"__name__": "examples_of_a_page"}
    yield given
    for value in list(given.values()):
        if isinstance(value, Rowlock):
            await value.close()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
async def test_examples_of_a_page_run_from_top_to_bottom(
    page: Path, names: dict[str, Any], connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, customer text NOT NULL)")
    ran = [example async for example in run_page(page, names, connection)]
    assert len(ran) == sum(example.reason is None for example in examples(page, "python", "sql"))


def test_examples_that_are_not_run_are_known_and_give_a_reason() -> None:
    found = {(name_of(page), example.reason) for page in PAGES for example in examples(page, "python", "sql")}
    assert {(page, reason) for page, reason in found if reason is not None} == NOT_RUN


async def test_function_of_the_readme_enqueues_if_and_only_if_its_transaction_commits(
    names: dict[str, Any], connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, customer text NOT NULL)")
    assert [example async for example in run_page(ROOT / "README.md", names, connection)]
    before = await _counts(connection)
    await names["place_order"](connection, "ada@example.com")
    assert await _counts(connection) == (before[0] + 1, before[1] + 1)

    outer = connection.transaction()
    await outer.start()
    await names["place_order"](connection, "bob@example.com")
    await outer.rollback()
    assert await _counts(connection) == (before[0] + 1, before[1] + 1)


async def _counts(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[int, int]:
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM rowlock.jobs WHERE task = 'send_email')"
    )
    assert row is not None
    return row[0], row[1]


def test_diagram_of_the_life_cycle_has_the_edges_of_the_code_and_no_others() -> None:
    (diagram,) = examples(ROOT / "docs" / "lifecycle.md", "mermaid")
    drawn = {(found["start"], found["verb"], found["end"]) for found in _EDGE.finditer(diagram.text)}
    ends = {(start, end) for start, verb, end in drawn if verb is None}
    assert ends == {(str(state), "[*]") for state in FINAL if any(state == end for _, _, end in EDGES)}
    edges = {("[*]" if start is None else str(start), verb, str(end)) for start, verb, end in EDGES}
    assert {edge for edge in drawn if edge[1] is not None} == edges


def test_every_edge_of_the_life_cycle_is_told_in_words() -> None:
    page = (ROOT / "docs" / "lifecycle.md").read_text()
    rows = set(re.findall(r"^\| `(\w+)` \| (\S+) \| `(\w+)` \|", page, re.MULTILINE))
    assert rows == {(verb, "–" if start is None else f"`{start}`", str(end)) for start, verb, end in EDGES}


@pytest.mark.needs_session("nobody listens by default then")
def test_table_of_settings_has_every_setting_with_its_variable_and_its_default() -> None:
    page = (ROOT / "docs" / "worker.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(ROWLOCK_\w+)` \| ([^|]+) \|", page, re.MULTILINE)
    expected = [(f.name, f"ROWLOCK_{f.name.upper()}", _shown(getattr(Settings(), f.name))) for f in fields(Settings)]
    assert rows == expected


def _shown(default: object) -> str:
    if isinstance(default, timedelta):
        return f"{default.total_seconds():g} s"
    return "development server" if default is None else f"`{str(default).lower()}`"


def test_tests_that_show_the_promises_exist() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    named = re.findall(r"\btest_\w+", page)
    promises = re.split(r"^(?:\*\*\d|## )", page, flags=re.MULTILINE)[2:-2]
    assert all("\n- `test_" in promise for promise in promises), "each promise, and the meaning of unknown, has tests"
    found = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert set(named) <= found


def promises() -> dict[str, str]:
    """Each numbered promise of the page, by its first words."""
    page = (ROOT / "docs" / "guarantees.md").read_text()
    parts = page.partition('## What "unknown" means')[0].split("\n**")[1:]
    return {part.partition("**")[0]: " ".join(part.split()) for part in parts}


def test_each_promise_names_the_checks_and_the_bugs_that_watch_over_it() -> None:
    audited = {f"audit: {invariant}" for invariants in INVARIANTS.values() for invariant in invariants}
    rules, bugs = Counter[str](), Counter[str]()
    for promise, text in promises().items():
        watching = re.findall(r"\*([^*]+)\*", text.partition("- Torture: ")[2].partition("- Bugs on purpose: ")[0])
        assert watching, f"{promise}: no rule watches over it"
        rules.update(watching)
        bugs.update(filter(None, text.partition("- Bugs on purpose: ")[2].split(", ")))
    of_the_witness = {rule for rule in rules if rule.startswith("witness: ")}
    assert of_the_witness <= {verdict.rule for verdict in witness.verdicts(hearing.Testimony(), [], [])}
    assert {rule for rule in rules if rule.startswith("audit: ")} <= audited
    assert {rule for rule in rules if not rule.startswith(("witness: ", "audit: "))} == set(RULES), "each at a promise"
    assert set(bugs) == {bug.name for bug in BUGS}
    assert max((*rules.values(), *bugs.values())) == 1


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for found in _LINK.finditer(page.read_text()):
        target = (page.parent / found["path"]).resolve()
        assert target.exists(), found["path"]


def test_index_lists_every_page() -> None:
    folder = ROOT / "docs"
    listed = {(folder / found["path"]).resolve() for found in _LINK.finditer((folder / "index.md").read_text())}
    assert {page for page in PAGES if page.is_relative_to(folder)} - listed == {folder / "index.md"}
