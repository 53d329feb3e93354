"""The tour: all examples of the documentation, by one command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from examples.tour.pages import PAGES, examples, name_of

ROOT = Path(__file__).resolve().parents[2]


def test_tour_runs_every_example_and_says_so_in_a_line_each() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.tour"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^ok  (\S+):\d+", done.stdout, re.MULTILINE)
    expected = [name_of(page) for page in PAGES for e in examples(page, "python", "sql") if e.reason is None]
    assert lines == expected
    assert done.stdout.rstrip().endswith("Every example ran.")
