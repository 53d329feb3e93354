"""How much memory this process uses."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_LINUX: Final = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """The resident memory of this process in bytes; its peak where only that is known, or None.

    Costs some microseconds.
    """
    try:
        return int(_LINUX.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return _peak_bytes()


def _peak_bytes() -> int | None:
    try:
        import resource  # noqa: PLC0415  # missing on Windows
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux and the BSDs count in KiB


__all__ = ["resident_bytes"]
