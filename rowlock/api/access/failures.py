"""Limit wrong keys: a key cannot be guessed, but every try costs the server work."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

from aiohttp import web

from rowlock import logs

log = logs.get_logger("rowlock.api")

WINDOW: Final = 60.0
"""Seconds of one counting window."""
MOST_OF_ONE: Final = 10
MOST_OF_ALL: Final = 200
MOST_ADDRESSES: Final = 10_000


class Failures:
    """The failures of the current minute, by address and in total, in the memory of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._counts: dict[str, int] = {}
        self._total = 0

    def wait_of(self, address: str) -> float:
        """Seconds until this address may try again; 0.0 if it may now."""
        left = self._left()
        return left if self._counts.get(_network(address), 0) >= MOST_OF_ONE else 0.0

    def add(self, address: str, way: str) -> float:
        """Count a failure, and log it unless there are too many. Return the seconds to wait; 0.0 for none."""
        left, network = self._left(), _network(address)
        before = self._counts.get(network, 0)
        self._total += 1
        if network in self._counts or len(self._counts) < MOST_ADDRESSES:
            self._counts[network] = before + 1
        if before >= MOST_OF_ONE or self._total > MOST_OF_ALL:
            return left
        log.warning("wrong_key", address=address, way=way)
        if before + 1 == MOST_OF_ONE:
            log.warning("wrong_keys_limited", address=address, seconds=round(left))
        if self._total == MOST_OF_ALL:
            log.warning("wrong_keys_limited", address=None, seconds=round(left))
        return 0.0

    def _left(self) -> float:
        """The seconds left of the current window. A new window begins with no failures."""
        now = self._clock()
        if now - self._began >= WINDOW:
            self._began, self._total = now, 0
            self._counts.clear()
        return max(self._began + WINDOW - now, 1.0)


def _network(address: str) -> str:
    """The part of the address that identifies a client: an IPv6 host can use any address of its /64.

    Some proxies append the port; it is removed.
    """
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)


FAILURES: web.AppKey[Failures] = web.AppKey("failures")
