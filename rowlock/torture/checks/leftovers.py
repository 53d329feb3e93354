"""Check that nothing is left after all programs have stopped, and that long-lived processes do not leak."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.remains import Vital

LEAST_SECONDS: Final = 40.0
"""The shortest life of a process whose use is judged."""
MEMORY_FACTOR: Final = 1.3
MEMORY_BYTES: Final = 48 * 1024**2
DESCRIPTORS: Final = 48  # thirty handlers with a connection each, at the busiest moment
THREADS: Final = 8
"""The tolerance: minimum use in the last quarter of its life compared with the maximum use in the second quarter."""


def leftovers(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Nothing is left in the database, in the temporary folder, or among the processes."""
    if evidence.remains is None:
        return
    for kind, left in evidence.remains.left.items():
        evidence.looked["leftovers"] += 1
        for what in left:
            yield kind, what


def growth(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A process that lives for the whole run uses no more memory, descriptors or threads at the end than early on.

    Leaks do not shrink, normal use does: so the minimum of the last quarter counts.
    """
    vitals = [] if evidence.remains is None else sorted(evidence.remains.vitals, key=attrgetter("name", "pid", "at"))
    for (name, pid), group in groupby(vitals, key=attrgetter("name", "pid")):
        seen = list(group)
        if seen[-1].at - seen[0].at >= LEAST_SECONDS:
            evidence.looked["leftovers: growth"] += 1
            yield from ((f"{name}, process {pid}", sentence) for sentence in _growth(seen))


def _growth(seen: Sequence[Vital]) -> Iterator[str]:
    quarter = len(seen) // 4
    early, late = seen[quarter : 2 * quarter], seen[-quarter:]
    was, now = max(one.resident for one in early), min(one.resident for one in late)
    if now > was * MEMORY_FACTOR + MEMORY_BYTES:
        yield f"its memory grew from {was / 1024**2:.0f} MiB to {now / 1024**2:.0f} MiB"
    for what, most in (("descriptors", DESCRIPTORS), ("threads", THREADS)):
        before = max(getattr(one, what) for one in early)
        after = min(getattr(one, what) for one in late)
        if after > before + most:
            yield f"its {what} grew from {before} to {after}"


__all__ = ["growth", "leftovers"]
