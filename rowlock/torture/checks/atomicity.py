"""Check that the jobs of one call, or of one transaction, are stored together: all of them or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.life import Life


def note_inserts(life: Life, evidence: Evidence) -> None:
    """Note which transaction stored the job first."""
    if life.changes and life.wanted is not None and life.wanted.key is None:
        evidence.inserted[life.id] = life.changes[0].xid


def half_stored(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """One transaction stores all jobs of a call, or none does.

    A repeated call stores the missing jobs: all of them, in its own transaction. So the jobs of a call never have
    two transactions, and never one and none, whatever its answer was and whichever process was killed meanwhile.
    """
    for bulk in evidence.bulks.values():
        xids = [evidence.inserted[job] for job in bulk.jobs if job in evidence.inserted]
        evidence.looked["half stored"] += 1
        if bulk.outcome == "unknown" and bulk.how != "http":
            evidence.looked["half stored: unknown calls, stored" if xids else "half stored: unknown calls"] += 1
        if xids and len(xids) < bulk.of:
            yield bulk.op, f"{len(xids)} of its {bulk.of} jobs are stored ({bulk.outcome}), such as {bulk.jobs[0]}"
        elif len(set(xids)) > 1:
            transactions = len(set(xids))
            yield bulk.op, f"{transactions} transactions stored its {bulk.of} jobs ({bulk.outcome}): {bulk.jobs[0]} …"
