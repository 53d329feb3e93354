"""Check that retention removes expired jobs, and nothing else: docs/retention.md. They are planted before the run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence

RULE: Final = "retention"
DUE: Final = ("operate.brief", "succeeded")
"""The queue and the state of the planted jobs that have expired."""
STAYING: Final = (("operate.brief", "failed"), ("operate.kept", "succeeded"))


def retention(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Retention removes the expired jobs of a past day. Others stay, with their attempts."""
    if not evidence.closing.settled:
        return
    planted = evidence.closing.settled[0].planted
    there = Counter((relic.queue, relic.state) for relic in evidence.closing.relics)
    evidence.looked[RULE] += planted * (1 + len(STAYING))
    if there[DUE]:
        yield " ".join(DUE), f"{there[DUE]} of {planted} jobs past their time are still there"
    for kind in STAYING:
        if there[kind] != planted:
            yield " ".join(kind), f"{there[kind]} of {planted} jobs are there, and all must be kept"
    bare = [relic for relic in evidence.closing.relics if not relic.has_attempt and (relic.queue, relic.state) != DUE]
    if bare:
        yield str(bare[0].id), f"its attempt is gone, and it is not ({len(bare)} such jobs)"
