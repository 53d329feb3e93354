"""The clock of leases goes on while the machine is suspended."""

from __future__ import annotations

import importlib
import sys
import time

import pytest

from rowlock import steady


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux has it")
def test_the_clock_of_leases_counts_the_time_in_which_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {time.CLOCK_BOOTTIME: 3700.0, time.CLOCK_MONOTONIC: 100.0}  # an hour of sleep
    monkeypatch.setattr(time, "clock_gettime", clocks.__getitem__)
    try:
        assert importlib.reload(steady).seconds() == 3700
    finally:
        monkeypatch.undo()
        importlib.reload(steady)


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_without_that_clock_it_is_that_of_the_interpreter(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> float:
        raise error

    monkeypatch.setattr(time, "clock_gettime", refuse)
    try:
        assert importlib.reload(steady).seconds is time.monotonic
    finally:
        monkeypatch.undo()
        importlib.reload(steady)
