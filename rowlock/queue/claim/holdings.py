"""Which rows of `holding` a worker still needs: one a claim, until the outcomes of its jobs are recorded.

A worker's jobs are found by these rows, so each has to outlive its jobs. It may stay longer: a job that it lists is
held only if the job's own row names the worker.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncpg import Record

TRIM_FROM: Final = 64
"""Jobs. The row of a smaller claim is not worth trimming."""
TRIM_SHARE: Final = 4
"""A row is trimmed once at most one in so many of its jobs is left."""


@dataclass(slots=True)
class _Holding:
    """One claim: how many jobs its row lists, and how many of these have no recorded outcome."""

    listed: int
    left: int


class Holdings:
    """The claims of one worker whose jobs have not all ended, by their numbers.

    The row of a claim whose answer was lost stays as long as the worker's lease: nobody knows which jobs it has.
    """

    def __init__(self) -> None:
        # Numbers are unique for the worker, also where something else claims in its name: they begin anywhere.
        self._numbers = count(random.getrandbits(62))
        self._held: dict[int, _Holding] = {}
        self._over: list[int] = []
        self._sent: list[int] = []

    def number(self) -> int:
        """The number of the next claim."""
        self._sent = []
        return next(self._numbers)

    def over(self) -> list[int]:
        """The claims whose jobs have all ended: the next claim removes their rows, if it finds jobs.

        The list is emptied by `keep_all`, which a reconnect calls: also between this call and the claim's sending.
        """
        self._sent = [*self._over]
        return self._sent

    def claimed(self, number: int, jobs: int) -> None:
        """A claim has found jobs, and has removed the rows that it was given."""
        self._held[number] = _Holding(jobs, jobs)
        if self._sent:
            gone = set(self._sent)
            self._over = [one for one in self._over if one not in gone]
            self._sent = []

    def ended(self, rows: Iterable[Record]) -> None:
        """The outcomes of these claimed jobs are recorded. Adopted jobs have no number: their row stays."""
        held = self._held
        for row in rows:
            number = row["number"]
            if (holding := held.get(number)) is not None:
                holding.left -= 1
                if not holding.left:
                    del held[number]
                    self._over.append(number)

    def keep_all(self) -> None:
        """Keep the present rows as long as the lease: another server may have lost outcomes that were recorded."""
        self._held.clear()
        self._over.clear()
        self._sent.clear()

    def to_trim(self) -> list[int]:
        """The large claims most of whose jobs have ended."""
        return [
            number
            for number, holding in self._held.items()
            if holding.listed >= TRIM_FROM and holding.left * TRIM_SHARE <= holding.listed
        ]

    def trimmed(self, number: int, jobs: int) -> None:
        """The row of this claim lists so many jobs now."""
        if (holding := self._held.get(number)) is not None:
            holding.listed = jobs


__all__ = ["Holdings"]
