"""Turn a quick audit into the doctor's findings: one for each broken invariant, and the extent of the audit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rowlock.cli.show.findings import Finding, fail, ok, warn
from rowlock.cli.show.output import counted
from rowlock.queue.read.audits import Audited

_CHECK: Final = "audit"
_REMEDY: Final = (
    "See all of them: rowlock audit. A fault of a process or server cannot cause this: report it, with examples."
)
_REMEDIES: Final = {
    "schedule left behind": "See why it does not fire: schedule_broken in the workers' logs. Correct it: rowlock "
    "schedules edit. Until then: rowlock schedules pause."
}
"""Remedies of invariants that an operator can break from outside."""


def judge_audit(found: Sequence[Audited]) -> list[Finding]:
    """Return a finding for each invariant that is broken or was not checked, or that all checked ones hold."""
    broken = [
        fail(
            _CHECK,
            f"{one.invariant}: {one.count} of {one.looked_at}, such as: {one.examples[0]}",
            _REMEDIES.get(one.invariant, _REMEDY),
        )
        for one in found
        if one.status == "broken"
    ]
    unknown = [one for one in found if one.status == "unknown"]
    if unknown:
        names, why = ", ".join(one.invariant for one in unknown), unknown[0].why_not
        broken.append(warn(_CHECK, f"not checked, because {why}: {names}", "Run it with more time: rowlock audit"))
    return broken or [ok(_CHECK, _told(found))]


def _told(found: Sequence[Audited]) -> str:
    looked_at = counted(sum(one.status in {"kept", "partly"} for one in found), "invariant")
    partly = sum(one.status == "partly" for one in found)
    empty = sum(one.status == "empty" for one in found)
    told = [f"{looked_at} kept"]
    if partly:
        told.append(f"{partly} of them within the {max(one.looked_at for one in found)} rows checked")
    if empty:
        told.append(f"{empty} others have no rows to check")
    return "; ".join(told)


__all__ = ["judge_audit"]
