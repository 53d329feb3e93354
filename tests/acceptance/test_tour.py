"""The tour: the examples of the documentation, by one command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.tour.pages import PAGES, examples, name_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_tour_runs_the_examples_of_its_pages_and_says_so_in_a_line_each() -> None:
    names = {"README.md", "docs/enqueue.md"}  # tests/db/test_docs.py runs those of every page
    command = [sys.executable, "-m", "examples.tour", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^ok  (\S+):\d+", done.stdout, re.MULTILINE)
    pages = [page for page in PAGES if name_of(page) in names]
    expected = [name_of(page) for page in pages for e in examples(page, "python", "sql") if e.reason is None]
    assert set(expected) == names
    assert lines == expected
    assert done.stdout.rstrip().endswith("Every example ran.")
