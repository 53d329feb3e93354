"""A whole run of the torture, as a user would start it, and what its parts promise."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from rowlock.cli.root import run
from rowlock.torture.nemesis import RATES, plan
from tests.acceptance.processes import ROOT

SECONDS = 60


@pytest.mark.timeout(400)
def test_nothing_is_lost_in_a_minute_of_torture(tmp_path: Path) -> None:
    seed = os.environ.get("TORTURE_SEED") or str(random.randrange(1_000_000))
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "rowlock", "torture", "--seed", seed, "--minutes", str(SECONDS / 60), "--keep", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"seed {seed}:\n{done.stdout[-5000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, said
    assert "Every promise was kept." in done.stdout, said
    acknowledged = int(done.stdout.partition("jobs acknowledged ")[2].split()[0].replace(",", ""))
    assert acknowledged > 2000, said


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_a_run_that_is_interrupted_leaves_nothing_behind(tmp_path: Path, number: signal.Signals, code: int) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "rowlock", "torture", "--keep", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            until = time.monotonic() + 60
            while not list(folder.glob("worker-1-*.history")) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            assert len(processes_of(folder)) > 4, "it works"
            process.send_signal(number)
            _, complaints = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, complaints
    assert "Traceback" not in complaints, complaints
    assert processes_of(folder) == []


def processes_of(folder: Path) -> list[str]:
    """The processes that were told to write into this folder."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"ROWLOCK_TORTURE_FOLDER={folder}\0" in environment.read_text(errors="replace"):
                found.append(environment.parent.name)
    return found


def test_a_seed_plans_the_same_faults_again() -> None:
    assert plan(7, 3) == plan(7, 3)
    assert plan(7, 3) != plan(8, 3)


def test_every_kind_of_fault_is_planned_at_least_once_and_as_often_as_its_rate_says() -> None:
    assert set(Counter(fault.kind for fault in plan(1, 0.2))) == set(RATES)
    counts = Counter(fault.kind for fault in plan(1, 20))
    assert counts["kill"] >= 200
    assert counts["server"] >= 20
    assert all(4 <= fault.at <= 20 * 60 - 8 for fault in plan(1, 20))


def test_faults_that_are_left_out_change_nothing_of_the_others() -> None:
    kills = [fault for fault in plan(3, 2) if fault.kind == "kill"]
    assert plan(3, 2, {"kill"}) == kills


def test_faults_can_be_had_oftener() -> None:
    assert len(plan(3, 1, {"freeze"}, times=10)) == 10 * len(plan(3, 1, {"freeze"}))


@pytest.mark.parametrize(
    "arguments, word",
    [(["--only", "kill,rain"], "'rain'"), (["--minutes", "0"], "minutes"), (["--workers", "0"], "workers")],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["torture", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_a_folder_that_is_in_use_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert run(["torture", "--keep", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
