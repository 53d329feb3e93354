"""Is nothing left when all programs have stopped, and do processes that live long use no more and more."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.remains import Vital

LEAST_SECONDS: Final = 40.0
"""What a process uses says something only if it has lived so long."""
MEMORY_FACTOR: Final = 1.3
MEMORY_BYTES: Final = 48 * 1024**2
DESCRIPTORS: Final = 48  # thirty handlers have a connection each, when all are in the middle of something
THREADS: Final = 8
"""By so much a process may use more in the last quarter of its life, at least, than at most in the second."""


def leftovers(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Nothing is left in the database, in the temporary folder, or among the processes."""
    if evidence.remains is None:
        return
    for kind, left in evidence.remains.left.items():
        evidence.looked["leftovers"] += 1
        for what in left:
            yield kind, what


def growth(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A process that lives for the whole run uses no more memory, descriptors or threads in the end than early on.

    What has leaked does not come back, and what is in use does: the least of the last quarter counts.
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
