"""What the torture's tests share, and how many crash points were visited, at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.torture.story import Story

if TYPE_CHECKING:
    from pathlib import Path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: dict[str, int] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in getattr(report, "user_properties", ()):
            if name == "crash_points" and report.when == "call":
                counts[report.nodeid.partition("[")[2].rstrip("]")] = value
    if counts:
        each = ", ".join(f"{name} {count}" for name, count in counts.items())
        terminalreporter.write_line(f"Crash points: {sum(counts.values()):,} ({each})")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)
