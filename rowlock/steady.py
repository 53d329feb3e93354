"""The clock of leases and attempts: it never steps, and it continues while the machine is suspended."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final


def _clock() -> Callable[[], float]:
    """Choose the clock: leases run out in a suspended machine, but `time.monotonic()` stops (clock_gettime(2))."""
    try:
        boot_time = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        boot_time()
    except (AttributeError, OSError):  # not Linux, or a library that fakes clocks
        return time.monotonic
    return boot_time


seconds: Final = _clock()
"""Seconds since an arbitrary moment: compare them within one machine only."""
