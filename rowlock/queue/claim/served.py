"""The queues that a worker serves: names and wildcards, each with or without a limit. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.values import is_whole
from rowlock.words import quoted

WILDCARD: Final = "*"

_MOST_DIGITS: Final = 10
_PATTERN = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.*-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Names and wildcards (`tenant-*`), in their order, and the limits of some of them.

    A queue is served if it is named, or if a wildcard matches it. A limit on a wildcard applies to each of its queues.
    A name takes precedence over a wildcard, and an earlier wildcard over a later one.
    """

    names: tuple[str, ...]
    wildcards: tuple[str, ...]
    limits: Mapping[str, int]

    def fits(self, queue: str) -> bool:
        """Whether this queue is served."""
        return queue in self.names or self._wildcard(queue) is not None

    def limit(self, queue: str) -> int | None:
        """How many jobs of this queue may run at once in the worker; None: no limit of its own."""
        return self.limits.get(queue if queue in self.names else self._wildcard(queue) or queue)

    def limits_of(self, queues: Iterable[str]) -> dict[str, int]:
        """The limits of those of these queues that have one."""
        return {queue: limit for queue in queues if (limit := self.limit(queue)) is not None}

    def _wildcard(self, queue: str) -> str | None:
        return next((one for one in self.wildcards if _fits(one, queue)), None)


def parse_served(given: Sequence[str] | Mapping[str, int | None] | None, otherwise: Sequence[str]) -> Served:
    """Parse `app.worker(queues=…)`: names with optional limits (`reports:2`), or limits by name.

    None: `otherwise`. Raises `InvalidOption`.
    """
    if given is not None and not isinstance(given, Iterable):
        raise InvalidOption(f'queues must be a list; got {quoted(given)}. Write it as queues=["email"].')
    if isinstance(given, str):
        raise InvalidOption(f"queues must be a list; got {quoted(given)}. Write it as queues=[{quoted(given)}].")
    said = dict.fromkeys(otherwise) if given is None else _pairs(given)
    if not said:
        raise InvalidOption(
            f"queues must name at least one queue; got {quoted(given)}. Omit it for those of the tasks."
        )
    for queue, limit in said.items():
        _check(queue, limit)
    return Served(
        names=tuple(queue for queue in said if WILDCARD not in queue),
        wildcards=tuple(queue for queue in said if WILDCARD in queue),
        limits={queue: limit for queue, limit in said.items() if limit is not None},
    )


def _check(queue: object, limit: object) -> None:
    if not isinstance(queue, str) or len(queue) > checks.QUEUE_LIMIT or not _PATTERN.fullmatch(queue):
        raise InvalidOption(
            f"queue must be 1 to {checks.QUEUE_LIMIT} letters, digits, _ . and -, but not . or .. alone, with * for "
            f"any of them in a wildcard; got {quoted(queue)}."
        )
    if limit is not None and not is_whole(limit, 1, 2**31 - 1):
        raise InvalidOption(
            f"The limit of queue {quoted(queue)} must be a whole number of at least 1; got {quoted(limit)}."
        )


def _pairs(given: Iterable[object] | Mapping[str, int | None]) -> dict[str, int | None]:
    if isinstance(given, Mapping):
        return dict(given)
    pairs: dict[str, int | None] = {}
    for text in given:
        if not isinstance(text, str):
            raise InvalidOption(f'queues must be names; got {quoted(text)}. Write them as queues=["email"].')
        name, colon, limit = str.__str__(text).partition(":")
        if colon and (not limit.isdecimal() or len(limit) > _MOST_DIGITS or int(limit) < 1):
            raise InvalidOption(
                f"The limit of a queue must be a whole number of at least 1; got {quoted(text)}. Write it as {name}:2."
            )
        if colon or name not in pairs:
            pairs[name] = int(limit) if colon else None
    return pairs


def _fits(wildcard: str, queue: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, wildcard.split(WILDCARD))), queue) is not None


__all__ = ["Served", "parse_served"]
