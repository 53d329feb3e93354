"""The supervisor of worker processes, with small programs in their place."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from rowlock.cli.run import supervisor
from rowlock.cli.run.supervisor import Supervisor
from tests.logged import capture_logs

_WORKS = "import os, sys; os.write(0, b'0.5\\n');"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_FIRST", 0.001)


def program(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text]


async def test_processes_that_end_at_once_again_and_again_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MOST_AT_ONCE", 2)
    with capture_logs() as events:
        assert await Supervisor(program(f"{_WORKS} sys.exit(3)"), 2).run() == 1
    last = next(event for event in reversed(events) if event["event"].endswith("end_at_once"))
    assert last["how"] == "with exit code 3"
    assert sum(event["event"] == "worker_process_started" for event in events) in range(4, 8)


async def test_a_first_process_that_never_works_ends_everything_with_its_exit_code() -> None:
    with capture_logs() as events:
        assert await Supervisor(program("raise SystemExit(7)"), 3).run() == 7
    assert [event["event"] for event in events if "started" in event["event"]] == ["worker_process_started"]


async def test_a_program_that_cannot_be_started_ends_everything(tmp_path: Path) -> None:
    assert await Supervisor([str(tmp_path / "nothing")], 1).run() == 1


async def test_a_process_that_does_not_stop_is_killed_after_the_time_it_asked_for() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    stubborn += f"{_WORKS} os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    with capture_logs() as events:
        assert await Supervisor(program(stubborn), 1).run() == 1
    assert "worker_processes_killed" in [event["event"] for event in events]


async def test_a_stop_before_the_first_process_works_is_obeyed() -> None:
    early = f"import os, time; os.kill({os.getpid()}, {int(signal.SIGTERM)}); time.sleep(60)"
    assert await Supervisor(program(early), 3).run() == 0
