"""What is to go wrong, and when: all of it follows from the seed."""

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
    "backend": 0.4,  # SIGKILL of one of its processes, which makes it start anew by itself
    "cut": 6.0,  # a link's connections, in the middle of a message
    "delay": 2.0,
    "black_hole": 1.5,
    "half_open": 1.5,
    "pin": 0.5,  # an old transaction
    "full": 0.25,  # the server's disk
    "poison": 1.5,  # a job that takes its worker down
    "block": 1.0,  # a job that blocks its worker's event loop for longer than the lease
}
"""How often a minute."""

_SECONDS: Final = {
    "freeze": (0.5, 8.0),
    "delay": (3.0, 8.0),
    "black_hole": (2.0, 8.0),
    "half_open": (4.0, 8.0),
    "pin": (10.0, 20.0),
    "full": (2.0, 5.0),
    "block": (4.0, 8.0),
    "server": (0.0, 2.0),
}
"""How long it lasts; `server`: before it is started again."""

FIRST_AT: Final = 4.0
LAST_BEFORE_END: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Planned:
    """One fault: `at` so many seconds from the start, for so many `seconds`. `choice` (0 to 1) says whom it hits."""

    at: float
    kind: str
    seconds: float
    choice: float


def plan(seed: int, minutes: float, kinds: Collection[str] = RATES.keys(), *, times: float = 1.0) -> list[Planned]:
    """Plan the faults of a run, at least one of each kind. `times` as often as `RATES` says.

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
