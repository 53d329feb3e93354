"""The plan of faults and their times: all of it follows from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

RATES: Final = {
    "kill": 12.0,  # SIGKILL of a worker, and now and then of an enqueuer or the API
    "freeze": 2.0,  # SIGSTOP, often for longer than the lease
    "stop": 2.5,  # SIGTERM of a worker
    "terminate": 4.0,  # pg_terminate_backend of some or all of the connections
    "server": 1.25,  # an immediate stop of PostgreSQL, and its start
    "backend": 0.4,  # SIGKILL of one of its processes, which makes it restart by itself
    "cut": 6.0,  # a link's connections, in the middle of a message
    "delay": 2.0,
    "black_hole": 1.5,
    "half_open": 1.5,
    "pin": 0.5,  # an old transaction
    "full": 0.25,  # the server's disk
    "poison": 1.5,  # a job that takes its worker down
    "block": 1.0,  # a job that blocks its worker's event loop for longer than the lease
    "locks": 1.0,  # one of Rowlock's tables is locked, often for longer than the lease
    "register": 1.5,  # SIGKILL of a worker while it registers, or locks for longer than the lease just then
    "group": 0.75,  # SIGKILL of a program with all that it has started
    "supervisor": 0.75,  # SIGKILL or SIGTERM of the supervisor of `rowlock worker --processes`
    "oom": 1.5,  # SIGKILL of the process of a process task, or one that exceeds its memory limit
    "clock": 0.5,  # the server's clock steps forward or back
    "full_wal": 0.25,  # the disk of the server's WAL alone
    "pgbouncer": 0.5,  # SIGKILL of the PgBouncer on one of the links, and its start
    "failover": 0.4,  # SIGKILL of the server, whose synchronous standby takes its place
    "rewind": 0.5,  # a failover to an asynchronous standby that is behind, or a restore to a moment
}
"""How often a minute."""

OPTIONAL: Final = frozenset({"rewind"})
"""Faults that happen only if they are named: after a rewind, acknowledged jobs may be lost, so a run proves less."""
DEFAULT: Final = tuple(kind for kind in RATES if kind not in OPTIONAL)

_SECONDS: Final = {
    "freeze": (0.5, 8.0),
    "delay": (3.0, 8.0),
    "black_hole": (2.0, 8.0),
    "half_open": (4.0, 8.0),
    "pin": (10.0, 20.0),
    "full": (2.0, 5.0),
    "block": (4.0, 8.0),
    "server": (0.0, 2.0),
    "locks": (1.0, 16.0),
    "register": (5.0, 9.0),
    "full_wal": (1.0, 3.0),
    "pgbouncer": (0.0, 3.0),
    "failover": (0.5, 3.0),
    "rewind": (1.0, 5.0),
}
"""How long it lasts; `server` and `pgbouncer`: before it is started again; `failover`: how long commits wait for the
standby before; `rewind`: how far back the database goes.
"""

FIRST_AT: Final = 4.0
LAST_BEFORE_END: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Planned:
    """One fault: `at` so many seconds from the start, for so many `seconds`. `choice` (0 to 1) selects the target."""

    at: float
    kind: str
    seconds: float
    choice: float


def plan(seed: int, minutes: float, kinds: Collection[str] = DEFAULT, *, times: float = 1.0) -> list[Planned]:
    """Plan the faults of a run, at least one of each kind, `times` as often as in `RATES`.

    The same seed, minutes, kinds and times give the same plan.

    >>> plan(1, 1) == plan(1, 1)
    True
    """
    planned: list[Planned] = []
    last = max(minutes * 60 - LAST_BEFORE_END, FIRST_AT + 1)
    for kind in RATES:
        rng = random.Random(f"{seed} {kind}")  # noqa: S311  # one kind's faults do not depend on the others'
        for _ in range(max(1, round(RATES[kind] * minutes * times))):
            fault = Planned(
                at=rng.uniform(FIRST_AT, last),
                kind=kind,
                seconds=rng.uniform(*_SECONDS.get(kind, (0.0, 0.0))),
                choice=rng.random(),
            )
            if kind in kinds:
                planned.append(fault)
    return sorted(planned)
