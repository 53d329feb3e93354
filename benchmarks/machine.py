"""What the machine is, and what processes take of it: read from /proc."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def describe() -> dict[str, object]:
    """The machine, for the results. No host name, no path."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in _read("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = next((line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")), "0")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory) / 1e6, 1),
        "kernel": platform.release(),
        "system": platform.system(),
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def cpu_seconds(root: int | None) -> float:
    """CPU seconds of a process and all its descendants, those that have ended (and were waited for) among them."""
    if root is None:
        return 0.0
    tree = family(root)
    return sum(_used(pid, fields) for pid, fields in _stats().items() if pid in tree)


def resident_bytes(root: int) -> int:
    """The resident memory of a process and all its descendants."""
    return sum(int(_read(f"/proc/{pid}/statm").split()[1] or 0) * PAGE for pid in family(root) if _alive(pid))


def family(root: int) -> set[int]:
    """A process and all its descendants."""
    parents = {pid: int(fields[1]) for pid, fields in _stats().items()}
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _used(pid: int, fields: Sequence[str]) -> float:
    """CPU seconds of one process, and of its children that have ended.

    Its ticks of 10 ms are rounded down, and the nanoseconds of its threads leave out those that have ended: both are
    too little, so the larger is right. What idle processes use is often less than a tick.
    """
    told = (_read(task).split() for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    nanoseconds = sum(int(numbers[0]) for numbers in told if numbers)
    return max(sum(map(int, fields[11:13])) / TICKS, nanoseconds / 1e9) + sum(map(int, fields[13:15])) / TICKS


def _alive(pid: int) -> bool:
    return bool(_read(f"/proc/{pid}/statm").strip())


def _stats() -> dict[int, list[str]]:
    """The fields of each process's `stat` after its name; [1] is the parent, [11:15] its and its children's times."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        if text := _read(stat):
            found[int(stat.parent.name)] = text.rpartition(")")[2].split()
    return found


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
