"""What is left when a run is over is found, and so is a process that uses more and more."""

from __future__ import annotations

from pathlib import Path

import pytest

from rowlock.torture.checker import Report
from rowlock.torture.remains import Remains, Vital, write_remains
from tests.torture.story import Story

MIB = 1024**2


@pytest.fixture
def story(tmp_path: Path) -> Story:
    story = Story(tmp_path)
    story.done()
    return story


def grown(**ends: int) -> list[Vital]:
    """A process that lives for a minute, and in the end uses this much more."""
    usual = {"resident": 80 * MIB, "threads": 9, "descriptors": 30}
    return [
        Vital(
            name="worker-1",
            pid=11,
            at=float(at),
            **{name: value + (ends.get(name, 0) if at > 40 else 0) for name, value in usual.items()},
        )
        for at in range(60)
    ]


def left(report: Report) -> set[tuple[str, str]]:
    return {(violation.subject, violation.evidence) for violation in report.violations if violation.rule == "leftovers"}


def test_a_run_that_leaves_nothing_is_clean(story: Story, tmp_path: Path) -> None:
    write_remains(tmp_path, Remains(left={"session": [], "temporary file": []}, vitals=grown()))
    report = story.check()
    assert report.is_clean
    assert report.looked["leftovers"] == 2
    assert report.looked["leftovers: growth"] == 1


def test_what_is_left_is_named(story: Story, tmp_path: Path) -> None:
    write_remains(tmp_path, Remains(left={"session": ["process 7"], "lock": [], "process": ["12 of worker-1"]}))
    report = story.check()
    assert not report.is_clean
    assert left(report) == {("session", "process 7"), ("process", "12 of worker-1")}


@pytest.mark.parametrize(
    "what, more", [("resident", 200 * MIB), ("threads", 20), ("descriptors", 80)], ids=["memory", "threads", "files"]
)
def test_a_process_that_uses_more_and_more_is_found(story: Story, tmp_path: Path, what: str, more: int) -> None:
    write_remains(tmp_path, Remains(left={}, vitals=grown(**{what: more})))
    ((subject, evidence),) = left(story.check())
    assert subject == "worker-1, process 11"
    assert "grew" in evidence


def test_a_process_that_uses_a_little_more_is_not_complained_of(story: Story, tmp_path: Path) -> None:
    write_remains(tmp_path, Remains(left={}, vitals=grown(resident=20 * MIB, threads=2, descriptors=5)))
    assert story.check().is_clean


def test_what_is_in_use_for_a_while_is_not_complained_of(story: Story, tmp_path: Path) -> None:
    write_remains(tmp_path, Remains(left={}, vitals=[*grown(descriptors=80)[:-1], *grown()[-1:]]))
    assert story.check().is_clean


def test_what_a_young_process_uses_says_nothing(story: Story, tmp_path: Path) -> None:
    write_remains(tmp_path, Remains(left={}, vitals=grown(resident=900 * MIB)[30:]))
    report = story.check()
    assert report.is_clean
    assert "leftovers: growth" not in report.looked


def test_a_run_without_a_look_has_nothing_to_say(story: Story) -> None:
    report = story.check()
    assert report.is_clean
    assert not any(case.startswith("leftovers") for case in report.looked)
