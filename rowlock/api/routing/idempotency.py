"""`Idempotency-Key`: a request that is sent again with the same key has the same answer, and does nothing again."""

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
    """The hash of the request's key; None if it has none. Raises `Refused` for one that is not usable.

    The same key of somebody else, of one who sees other queues, or at another path, is another one.
    """
    given = call.request.headers.getall(KEY_HEADER, [])
    if not given:
        return None
    if len(given) > 1 or not _USABLE.fullmatch(given[0]):
        raise Refused(INVALID_KEY, f"{KEY_HEADER} is not usable: send one, of 1 to 255 printable ASCII characters.")
    queues = None if call.access.queues is None else sorted(call.access.queues)
    # seam: idempotency key
    return hashlib.sha256(msgspec.json.encode([call.access.by, queues, call.request.path, given[0]])).digest()


async def once(call: Call, give: Callable[[Any], Awaitable[Answer]], *, has_body: bool = True) -> Answer:
    """Give an answer, or with an Idempotency-Key that was used before, find what was answered then.

    `give` takes the connection whose transaction it is to be done in, or None. With `has_body`, a request whose body,
    which is read by now, is another one is refused. Raises `Refused`.
    """
    key = read_key(call)
    if key is None:
        return await give(None)
    body = await call.request.read() if has_body else b""
    given = await answer_once(call.rowlock.database, key, fingerprint(body), give)
    if given is None:
        raise Refused(KEY_REUSED, f"This {KEY_HEADER} came with another body before: use a new one for a new request.")
    return given


def answer_again(given: Answer, headers: Mapping[str, str]) -> web.Response:
    """Return an answer as the response, and whether it was given before."""
    repeated = {REPEATED_HEADER: "true"} if given.is_repeated else {}
    return web.Response(
        text=given.body, status=given.status, headers=dict(headers) | repeated, content_type="application/json"
    )


def fingerprint(body: bytes) -> bytes:
    """The hash by which a repeated request is told from another one with the same key."""
    return hashlib.sha256(body).digest()
