"""What the doctor makes of a quick audit: a finding an invariant that is broken, and how far it looked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rowlock.cli.show.findings import Finding, fail, ok, warn
from rowlock.cli.show.output import counted
from rowlock.queue.read.audits import Audited

_CHECK: Final = "audit"
_REMEDY: Final = (
    "See all of them: rowlock audit. No fault of a process or a server explains it: report it, with examples."
)
_REMEDIES: Final = {
    "schedule left behind": "See why it does not fire: schedule_broken in the workers' logs. Correct it: rowlock "
    "schedules edit. Until then: rowlock schedules pause."
}
"""Of what somebody may have brought about from outside."""


def judge_audit(found: Sequence[Audited]) -> list[Finding]:
    """The invariants that are broken or could not be looked at, or that those that were looked at are kept."""
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
        broken.append(warn(_CHECK, f"not looked at, since {why}: {names}", "Give it more time: rowlock audit"))
    return broken or [ok(_CHECK, _told(found))]


def _told(found: Sequence[Audited]) -> str:
    looked_at = counted(sum(one.status in {"kept", "partly"} for one in found), "invariant")
    partly = sum(one.status == "partly" for one in found)
    empty = sum(one.status == "empty" for one in found)
    told = [f"{looked_at} kept"]
    if partly:
        told.append(f"{partly} of them as far as this looked, which was {max(one.looked_at for one in found)} rows")
    if empty:
        told.append(f"of {empty} others there is nothing to look at")
    return "; ".join(told)


__all__ = ["judge_audit"]
