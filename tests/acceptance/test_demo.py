"""The demonstration does what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_FOLDER = re.compile(r"host=(?P<folder>/\S+?)/run&")
_PROCESS = re.compile(r"process (?P<pid>\d+)\)")
_CHECKS = 17


@contextmanager
def _demo() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            yield process
    finally:
        process.terminate()
        process.wait(30)


def _read(process: subprocess.Popen[str], *, until: str | None = None) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if until is not None and until in line:
            break
    return "".join(lines)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _assert_nothing_is_left(output: str) -> None:
    pids = [int(pid) for pid in _PROCESS.findall(output)]
    assert len(pids) == 3, output  # PostgreSQL, the worker, the API
    assert not [pid for pid in pids if _is_alive(pid)]
    found = _FOLDER.search(output)
    assert found is not None, output
    assert not Path(found["folder"]).exists()


@pytest.mark.slow
def test_demo_ends_with_everything_as_expected_and_removes_it_all() -> None:
    with _demo() as process:
        output = _read(process)
        assert process.wait(30) == 0, output
    assert "Everything was as expected" in output
    table = output.partition("What happened")[2].partition("The same, read with SQL")[0]
    assert len(re.findall(r"│ ok +│", table)) == _CHECKS, output
    assert "DIFFERS" not in table
    assert re.search(r"│ burst +│ count_one +│ succeeded +│ 5000 │", output)
    assert re.search(r"│ default +│ charge_card +│ failed +│ +1 │ +2 │", output)
    assert re.search(r"^  [0-9,]+ jobs/s by one worker", output, re.MULTILINE)
    _assert_nothing_is_left(output)


@pytest.mark.slow
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_demo_leaves_nothing_behind(number: signal.Signals, status: int) -> None:
    with _demo() as process:
        output = _read(process, until="result of send_email")
        process.send_signal(number)
        output += _read(process)
        assert process.wait(30) == status, output
    _assert_nothing_is_left(output)
