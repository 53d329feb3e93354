"""`Idempotency-Key`: a request that is sent again with the same key has the same answer, and does nothing again."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from rowlock.api.problems import INVALID_KEY, Refused
from rowlock.api.routes import Call

KEY_HEADER: Final = "Idempotency-Key"
REPEATED_HEADER: Final = "Idempotency-Replayed"

_USABLE = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")


def read_key(call: Call) -> bytes | None:
    """The hash of the request's key; None if it has none. Raises `Refused` for one that is not usable.

    The same key of somebody else, of one who sees other queues, or at another path, is another one.
    """
    given = call.request.headers.getall(KEY_HEADER, [])
    if not given:
        return None
    if len(given) > 1 or not _USABLE.fullmatch(given[0]):
        raise Refused(INVALID_KEY, f"{KEY_HEADER} is not usable: send one, of 1 to 255 printable ASCII characters.")
    queues = None if call.access.queues is None else sorted(call.access.queues)
    return hashlib.sha256(msgspec.json.encode([call.access.by, queues, call.request.path, given[0]])).digest()


def fingerprint(body: bytes) -> bytes:
    """The hash by which a repeated request is told from another one with the same key."""
    return hashlib.sha256(body).digest()
