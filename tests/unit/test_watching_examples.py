"""The dashboard for Grafana and the rules for Prometheus: what they ask for is exported, and can be asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from rowlock.metrics.described import DESCRIBED

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BOARD: dict[str, Any] = json.loads((EXAMPLES / "grafana" / "rowlock.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load((EXAMPLES / "prometheus" / "rowlock_alerts.yml").read_text())["groups"][0][
    "rules"
]
OF_PROMETHEUS = {"instance", "job", "le"}


def samples() -> dict[str, set[str]]:
    """The names that can be asked for, and their labels."""
    found: dict[str, set[str]] = {}
    for one in DESCRIBED.values():
        labels = set(one.labels) | OF_PROMETHEUS
        found[one.shown_name] = labels
        if one.kind == "histogram":
            del found[one.shown_name]
            found |= {f"{one.name}{part}": labels for part in ("_bucket", "_sum", "_count")}
    return found


SAMPLES = samples()


def expressions() -> list[tuple[str, str]]:
    panels = [
        (panel["title"], target["expr"].replace("$__rate_interval", "5m"))
        for panel in BOARD["panels"]
        for target in panel.get("targets", [])
    ]
    return panels + [(rule["alert"], rule["expr"]) for rule in RULES]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def look(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression), look)
    return found


@pytest.mark.parametrize("title, expression", expressions())
def test_an_expression_can_be_parsed_and_asks_for_what_is_exported(title: str, expression: str) -> None:
    asked = selectors(expression)
    assert asked, title
    for selector in asked:
        assert selector.name in SAMPLES, f"{title} asks for {selector.name}"
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= SAMPLES[selector.name], f"{title} wants a label that {selector.name} does not have"
    known = set().union(*(SAMPLES[selector.name or ""] for selector in asked))
    for labels in re.findall(r"\b(?:by|on) \(([a-z_, ]+)\)", expression):
        assert set(labels.split(", ")) <= known, title


def test_the_dashboard_has_its_rows_and_a_data_source_to_choose() -> None:
    assert [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"] == [
        *("Health", "Throughput", "Latency", "Backlog", "Workers", "Database and API"),
    ]
    assert BOARD["templating"]["list"][0]["type"] == "datasource"
    for panel in BOARD["panels"]:
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel.get("targets", []))
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_no_panel_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_its_variables_ask_for_labels_that_there_are() -> None:
    asked = [one["definition"] for one in BOARD["templating"]["list"][1:]]
    for query in asked:
        found = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", query)
        assert found, query
        assert found[2] in SAMPLES[found[1]]


def test_each_rule_says_what_is_wrong_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "remedy"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here (Debian has it in prometheus)")
def test_the_rules_fire_when_they_should() -> None:
    tests = EXAMPLES / "prometheus" / "rowlock_alerts_test.yml"
    done = subprocess.run(["promtool", "test", "rules", tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
