"""`Idempotency-Key`: a request repeated with the same key gets the same answer, and does nothing again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from rowlock.api.http.problems import INVALID_KEY, KEY_REUSED, Refused
from rowlock.api.routing.routes import Call
from rowlock.queue.enqueue.idempotency import Answer, answer_once

KEY_HEADER: Final = "Idempotency-Key"
REPEATED_HEADER: Final = "Idempotency-Replayed"

_USABLE = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")


def read_key(call: Call) -> bytes | None:
    """Return the hash of the request's key; None if it has none. Raises `Refused` for an invalid key.

    The same text from another client, with other queues, or at another path, is another key.
    """
    given = call.request.headers.getall(KEY_HEADER, [])
    if not given:
        return None
    if len(given) > 1 or not _USABLE.fullmatch(given[0]):
        raise Refused(INVALID_KEY, f"{KEY_HEADER} must be one text of 1 to 255 printable ASCII characters.")
    queues = None if call.access.queues is None else sorted(call.access.queues)
    # seam: idempotency key
    return hashlib.sha256(msgspec.json.encode([call.access.by, queues, call.request.path, given[0]])).digest()


async def once(call: Call, give: Callable[[Any], Awaitable[Answer]], *, has_body: bool = True) -> Answer:
    """Return an answer, or for an Idempotency-Key that was used before, the stored answer.

    `give` receives the connection of the transaction to use, or None. With `has_body`, a repeated key with another body
    is refused; the body must have been read. Raises `Refused`.
    """
    key = read_key(call)
    if key is None:
        return await give(None)
    body = await call.request.read() if has_body else b""
    given = await answer_once(call.rowlock.database, key, fingerprint(body), give)
    if given is None:
        raise Refused(KEY_REUSED, f"{KEY_HEADER} must be new for each request; this one was used with another body.")
    return given


def answer_again(given: Answer, headers: Mapping[str, str]) -> web.Response:
    """Return the answer as a response, marked if it repeats an earlier one."""
    repeated = {REPEATED_HEADER: "true"} if given.is_repeated else {}
    return web.Response(
        text=given.body, status=given.status, headers=dict(headers) | repeated, content_type="application/json"
    )


def fingerprint(body: bytes) -> bytes:
    """The hash that distinguishes a repeated request from another one with the same key."""
    return hashlib.sha256(body).digest()
