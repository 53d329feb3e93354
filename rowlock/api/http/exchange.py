"""Parts of every exchange: the request's id, body and query, and the response's headers."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NoReturn, TypeVar

import msgspec
from aiohttp import ETag, hdrs, web
from aiohttp.typedefs import Handler
from structlog.contextvars import bound_contextvars

from rowlock.api.http.problems import (
    INVALID_REQUEST,
    NOT_JSON,
    TOO_LARGE,
    TOO_SLOW,
    UNSUPPORTED_TYPE,
    Refused,
    respond,
)
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.json_values import NESTING_LIMIT, find_defect
from rowlock.words import in_json, quoted, typed

T = TypeVar("T")

BODY_LIMIT: Final = 1024 * 1024
OPEN_BODY_LIMIT: Final = 4096
"""The limit of a body that needs no key: many connections together must not fill the memory."""
BODY_WITHIN: Final = 30.0
"""Seconds within which a request's body must arrive."""
REQUEST_ID: Final = web.RequestKey("request_id", str)
REQUEST_ID_HEADER: Final = "X-Request-ID"

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    hdrs.CACHE_CONTROL: "no-store",
}
"""By default, browsers must not cache a response, guess its type, run it, frame it, or expose it to other sites."""

IF_MATCH_HEADER: Final = "If-Match"
IF_MATCH_PATTERN: Final = r'^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$'
"""The syntax of `If-Match` (RFC 9110, 13.1.1)."""
_TAG = re.compile(r'(W/)?"([!#-~]*)"')
_MAX_AGE = re.compile(r"(?i)(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})")
_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json")
_PLACE = re.compile(r"(?s)(.*) - at `\$\.(\w+)(.*)`")
_ENUM = re.compile(r"(?s)(Invalid enum value )(['\"].*)")
_NAMED = re.compile(r"(?s)Object (?:contains unknown|missing required) field `(.*)`")


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Assign the request an id, the client's own if it is usable; every log line of the request carries it.

    Errors of the request name values and types as JSON does.
    """
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request[REQUEST_ID] = given if _USABLE_ID.fullmatch(given) else str(uuid7())
    with bound_contextvars(request_id=request[REQUEST_ID]), in_json():
        return await handler(request)


@web.middleware
async def refuse_encoded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a compressed body by its header alone, before authentication, and close the connection.

    A megabyte can unpack to a thousand, and a server that decompresses would do so even to discard the body.
    """
    if hdrs.CONTENT_ENCODING not in request.headers:
        return await handler(request)
    refused = Refused(UNSUPPORTED_TYPE, "Content-Encoding is not supported: send the body uncompressed.")
    response = respond(request, refused, headers={hdrs.ACCEPT_ENCODING: "identity"})
    await response.prepare(request)
    await response.write_eof()
    request.protocol.force_close()
    return response


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:  # aiohttp awaits it
    """Set the headers of all responses. Dashboard pages have their own policy; for data, the policy forbids all."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if (request_id := request.get(REQUEST_ID)) is not None:
        response.headers[REQUEST_ID_HEADER] = request_id
    if not request.content.is_eof():  # do not wait for the rest of the body
        response.force_close()
        response.headers[hdrs.CONNECTION] = "close"


def accepted_age(request: web.Request) -> float:
    """The accepted age of the answer in seconds: 0 without `Cache-Control: max-age` (RFC 9111, 5.2.1.1)."""
    found = _MAX_AGE.search(request.headers.get(hdrs.CACHE_CONTROL, ""))
    return 0.0 if found is None else float(found[1])


def answer(form: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a wire form as a JSON response."""
    return web.Response(body=msgspec.json.encode(form), status=status, headers=headers, content_type="application/json")


def answer_if_new(
    request: web.Request, body: bytes, *, revision: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return this JSON with its `ETag`; or 304 without a body, if the client has it (`If-None-Match`)."""
    tag = tag_of(body, revision)
    if any(known.value in {tag, "*"} for known in request.if_none_match or ()):
        response = web.Response(status=304, headers=headers)
    else:
        response = web.Response(body=body, content_type="application/json", headers=headers)
    response.etag = ETag(tag)
    return response


def tag_of(body: bytes, revision: str | None = None) -> str:
    """The `ETag` of this answer: different answers have different tags.

    With a `revision`, the tag is the revision, a dot and the hash; `seen_revisions` extracts the revision.
    """
    digest = hashlib.sha256(body).hexdigest()[:32]
    return digest if revision is None else f"{revision}.{digest}"


def seen_revisions(request: web.Request) -> frozenset[str] | None:
    """Return the revisions in the tags of `If-Match`, one of which must be current; None for any. Raises `Refused`.

    A weak tag never matches (RFC 9110, 13.1.1). Of a strong tag only the revision is compared, although that section
    compares the whole tag: the rest distinguishes answers by parts that no edit overwrites, like the ticks that fired
    (8.8.1 requires that), and these must not cause an edit to be refused.
    """
    given = ", ".join(request.headers.getall(IF_MATCH_HEADER, []))
    if IF_MATCH_HEADER not in request.headers or given == "*":
        return None
    if not re.fullmatch(IF_MATCH_PATTERN, given):
        detail = f"{IF_MATCH_HEADER} must be an ETag as received, in its quotation marks, or *."
        raise Refused(INVALID_REQUEST, detail, field=IF_MATCH_HEADER)
    return frozenset(value.partition(".")[0] for weak, value in _TAG.findall(given) if not weak)


async def read_body(request: web.Request, form: type[T], limit: int = BODY_LIMIT) -> T:
    """Decode the JSON body of at most `limit` bytes. Raises `Refused` with the name of the invalid member."""
    if limit < BODY_LIMIT:
        request = request.clone(client_max_size=limit)
    if hdrs.CONTENT_TYPE in request.headers and not _JSON_TYPE.fullmatch(request.content_type):
        raise Refused(UNSUPPORTED_TYPE, f"The content type must be application/json; got {request.content_type}.")
    try:
        async with asyncio.timeout(BODY_WITHIN):
            body = await request.read()  # up to the limit of the root application, which may be a host's
    except TimeoutError as error:
        raise Refused(TOO_SLOW, f"The body must arrive within {BODY_WITHIN:g} s.") from error
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Refused(NOT_JSON, "The body could not be read to its end.") from error
    if len(body) > limit:
        raise Refused(TOO_LARGE, f"The body must have at most {limit} bytes.")
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.ValidationError as error:
        _refuse_member(str(error))
    except msgspec.DecodeError as error:
        _refuse_text(body, str(error))
    except UnicodeDecodeError as error:
        raise Refused(NOT_JSON, "The body is not JSON: it is not UTF-8.") from error
    except RecursionError as error:
        raise Refused(INVALID_REQUEST, f"The body is nested deeper than {NESTING_LIMIT} levels.") from error


def read_query(request: web.Request, form: type[T]) -> T:
    """Decode the query's parameters. Raises `Refused` for an unknown, repeated or invalid parameter."""
    fields = msgspec.structs.fields(form)  # type: ignore[arg-type]  # a struct
    names = [field.encode_name for field in fields]
    several = {field.encode_name for field in fields if field.default == ()}
    for name in request.query:
        if name not in names:
            rule = f"must be one of {', '.join(names)}" if names else "must be omitted here"
            raise Refused(INVALID_REQUEST, f"Query parameters {rule}; got {quoted(name)}.", field=name)
        if len(request.query.getall(name)) > 1 and name not in several:
            raise Refused(INVALID_REQUEST, f"{name} must be given once.", field=name)
    try:
        given = {name: request.query.getall(name) if name in several else text for name, text in request.query.items()}
        query = msgspec.convert(given, form, strict=False)
    except msgspec.ValidationError as error:
        _refuse_member(str(error))
    for name in request.query:
        value = getattr(query, name)
        if value is None or (isinstance(value, datetime) and ":" not in request.query[name]):  # null; a number
            raise Refused(
                INVALID_REQUEST, f"{name} must have a value; got {quoted(request.query[name])}. Omit it.", field=name
            )
    return query


def _refuse_member(text: str) -> NoReturn:
    """Translate msgspec's error: the member's name first, and JSON's names of types. Raises `Refused`."""
    text = typed(text)
    if (match := _PLACE.fullmatch(text)) is not None:
        what, name, place = match.groups()
        if (wrong := _ENUM.fullmatch(what)) is not None:  # msgspec writes it as Python does
            what = f"{wrong[1]}{quoted(ast.literal_eval(wrong[2]))}"
        raise Refused(
            INVALID_REQUEST, f"{name}{place}: {what[:1].lower()}{what[1:].rstrip('.')}.", field=name
        ) from None
    match = _NAMED.fullmatch(text)
    raise Refused(INVALID_REQUEST, f"The body is invalid: {text}.", field=match[1] if match else None) from None


def _refuse_text(body: bytes, why: str) -> NoReturn:
    """Distinguish malformed JSON from JSON with half of a surrogate pair: msgspec calls both malformed."""
    try:
        defect = find_defect(json.loads(body, parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        defect = None
    if defect is not None:
        raise Refused(INVALID_REQUEST, f"The body {defect}.") from None
    raise Refused(NOT_JSON, f"The body is not JSON: {why}.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
