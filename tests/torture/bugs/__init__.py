"""Bugs on purpose: each is one that such a queue could have, breaks a promise, and has to be seen by the harness.

`python -m tests.torture.seeded` makes each of them in a copy of the package, at its seams, and lets the harness loose
on it.
"""

from __future__ import annotations

from typing import Final

from tests.torture.bugs import (
    acts,
    claiming,
    enqueuing,
    finishing,
    handlers,
    leases,
    limits,
    operating,
    options,
    unseen,
)
from tests.torture.bugs.kinds import ROOT, SHORT_WAITS, Bug, Change, Constant, Pytest, Torture, changed

BUGS: Final[tuple[Bug, ...]] = (
    *enqueuing.BUGS,
    *claiming.BUGS,
    *leases.BUGS,
    *finishing.BUGS,
    *operating.BUGS,
    *acts.BUGS,
    *handlers.BUGS,
    *unseen.BUGS,
    *options.BUGS,
    *limits.BUGS,
)

__all__ = ["BUGS", "ROOT", "SHORT_WAITS", "Bug", "Change", "Constant", "Pytest", "Torture", "changed"]
