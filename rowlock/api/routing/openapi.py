"""The OpenAPI 3.1 document: made of the table of endpoints and the structs that decode and encode."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from types import UnionType
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from aiohttp import hdrs, web

from rowlock.api.http.exchange import IF_MATCH_HEADER, IF_MATCH_PATTERN, REQUEST_ID_HEADER
from rowlock.api.http.problems import (
    CONTENT_TYPE,
    CROSS_SITE,
    DATABASE_UNAVAILABLE,
    FORBIDDEN,
    INTERNAL,
    INVALID_KEY,
    INVALID_REQUEST,
    LOCKED,
    MISSING_RIGHT,
    NOT_JSON,
    SCHEDULE_CHANGED,
    SCHEMA_NOT_MIGRATED,
    STATEMENT_TIMEOUT,
    TOO_LARGE,
    TOO_SLOW,
    UNAUTHENTICATED,
    UNSUPPORTED_TYPE,
    Kind,
    Problem,
)
from rowlock.api.routing.idempotency import KEY_HEADER, REPEATED_HEADER
from rowlock.api.routing.routes import JSON, Endpoint
from rowlock.queue.jobs.fields import JobId, QueueName, ScheduleName, said

DOCUMENT: web.AppKey[Callable[[], bytes]] = web.AppKey("document")

_TEMPLATE: Final = "#/components/schemas/{name}"
_PROBLEM: Final = {"$ref": _TEMPLATE.format(name="Problem")}
_KEPT: Final = r"^(\*|\.{3,}|\.*[A-Za-z0-9_-][A-Za-z0-9_.-]*)$"
_NOTHING: Final = Kind(status=404, title="There is nothing at this path")
_PATHS: Final[Mapping[str, object]] = {
    "id": JobId,
    "worker": Annotated[UUID, said("the worker's id")],
    "queue": QueueName,
    "keep.queue": Annotated[
        str, said("the queue's name, or `*` for all that have no time of their own", pattern=_KEPT, maxLength=48)
    ],
    "schedule": ScheduleName,
}
_HEADERS: Final[Mapping[str, Mapping[str, object]]] = {
    REQUEST_ID_HEADER: {
        "description": "the request's own, if it has a usable one; everything logged meanwhile carries it",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        "required": True,
    },
    hdrs.LOCATION: {
        "description": "where it is",
        "schema": {"type": "string", "format": "uri-reference"},
        "required": True,
    },
    hdrs.RETRY_AFTER: {
        "description": "the seconds to wait before the next try",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "required": True,
    },
    hdrs.ETAG: {
        "description": "changes when the answer does: `If-None-Match` with it is answered 304 until then",
        "schema": {"type": "string"},
        "required": True,
    },
    REPEATED_HEADER: {
        "description": "there if a request with this Idempotency-Key was answered before, and nothing was done again",
        "schema": {"type": "string", "const": "true"},
    },
    hdrs.WWW_AUTHENTICATE: {"description": "how to log in", "schema": {"type": "string"}},
}
_ABOUT: Final = (
    "The queue over HTTP. Times are ISO 8601 in UTC, durations seconds, ids UUIDs. Whatever goes wrong is answered "
    "with a problem document (RFC 9457), by whose `type` programs tell the kinds apart. HEAD is answered like GET, "
    "without the body. Bodies have at most 1 MiB, nested at most 64 deep."
)
_TAGS: Final[Mapping[str, str]] = {
    "health": "whether the process lives, and can do its work",
    "jobs": "enqueue jobs, look at them, act on them",
    "queues": "pause, resume and scale queues",
    "workers": "the live workers, and what they run",
    "schedules": "what runs by itself, and when",
    "tasks": "what workers have registered",
    "retention": "how long finished jobs are kept",
    "operations": "who did what",
    "overview": "how it stands, and what has ended",
    "events": "what changes, as it does",
    "documents": "this document",
}


def describe(endpoints: Sequence[Endpoint]) -> bytes:
    """The document as JSON."""
    schemas = _Schemas()
    schemas.of(Problem)
    paths: dict[str, dict[str, object]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Rowlock", "version": version("rowlock"), "description": _ABOUT},
        "servers": [{"url": "."}],
        "tags": [_tag(name) for name in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": {name: _tidy(schema) for name, schema in sorted(schemas.components.items())},
            "headers": _HEADERS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "rowlock keys create"}},
        },
    }
    return msgspec.json.encode(document)


class _Schemas:
    """The JSON schemas of forms, and the named ones that they refer to."""

    def __init__(self) -> None:
        self.components: dict[str, object] = {}

    def of(self, form: object) -> dict[str, Any]:
        (schema,), components = msgspec.json.schema_components((form,), ref_template=_TEMPLATE)
        self.components |= components
        return schema


def _alternatives(form: object) -> Sequence[Any]:
    """The forms that an answer may have, none if it has no body: msgspec knows no unions of structs."""
    if isinstance(form, UnionType):
        return form.__args__
    return [] if form is None else [form]


def _operation(endpoint: Endpoint, schemas: _Schemas) -> dict[str, object]:
    operation: dict[str, object] = {
        "operationId": endpoint.name,
        "tags": [endpoint.tag],
        "summary": _first_line(endpoint.handler),
        "parameters": [*_parameters(endpoint, schemas)],
        "responses": {str(status): response for status, response in _responses(endpoint, schemas)},
        "security": [] if endpoint.scope is None else [{"key": []}],
    }
    if endpoint.scope is not None:
        limited = "" if endpoint.by_queue else ", not limited to queues"
        operation["description"] = f"Needs a key with the scope `{endpoint.scope}`{limited}."
    if endpoint.body is not None:
        example: object = endpoint.body.EXAMPLE  # type: ignore[attr-defined]  # every body has one, says a test
        content = {JSON: {"schema": schemas.of(endpoint.body), "example": example}}
        operation["requestBody"] = {"required": not endpoint.is_body_optional, "content": content}
    return operation


def _parameters(endpoint: Endpoint, schemas: _Schemas) -> Iterable[dict[str, object]]:
    for name in endpoint.parameters:
        yield _parameter(
            name, "path", schemas.of(_PATHS.get(f"{endpoint.name}.{name}", _PATHS[name])), is_required=True
        )
    for field in [] if endpoint.query is None else msgspec.structs.fields(endpoint.query):
        schema = _without_null(schemas.of(field.type))
        if field.default not in {None, msgspec.NODEFAULT}:
            schema["default"] = field.default
        yield _parameter(field.encode_name, "query", schema, is_required=field.required)
    if INVALID_KEY in endpoint.problems:
        schema = {
            "type": "string",
            "pattern": "^[!-~]([ -~]{0,253}[!-~])?$",
            "description": "a new one for each request: it can then be sent again, and does nothing twice",
            "examples": ["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        }
        yield _parameter(KEY_HEADER, "header", schema, is_required=False)
    if SCHEDULE_CHANGED in endpoint.problems:
        schema = {
            "type": "string",
            "pattern": IF_MATCH_PATTERN,
            "description": "the `ETag` of what was read: if somebody has changed it since, nothing is done (412)",
            "examples": ['"6420f1c3b2a10.5d41402abc4b2a76b9719d911017c592"'],
        }
        yield _parameter(IF_MATCH_HEADER, "header", schema, is_required=False)


def _parameter(name: str, place: str, schema: dict[str, Any], *, is_required: bool) -> dict[str, object]:
    about = {"description": schema.pop("description")} if "description" in schema else {}
    return {"name": name, "in": place, "required": is_required, **about, "schema": schema}


def _responses(endpoint: Endpoint, schemas: _Schemas) -> Iterable[tuple[int, dict[str, object]]]:
    for status, form in sorted(endpoint.answers.items()):
        response: dict[str, object] = {"description": HTTPStatus(status).phrase}
        response["headers"] = _headers(endpoint.headers.get(status, ()))
        if several := [schemas.of(one) for one in _alternatives(form)]:
            response["content"] = {endpoint.media: {"schema": {"anyOf": several} if several[1:] else several[0]}}
        yield status, response
    kinds: dict[int, dict[Kind, None]] = {}
    for kind in (*_common(endpoint), *endpoint.problems):
        kinds.setdefault(kind.status, {})[kind] = None
    for status, of_status in sorted(kinds.items()):
        yield status, _refusal(status, list(of_status))
    if 400 not in kinds:
        content = {CONTENT_TYPE: {"schema": _PROBLEM}}
        yield 400, {"description": "No HTTP, or a head that is too large", "headers": {}, "content": content}


def _refusal(status: int, kinds: Sequence[Kind]) -> dict[str, object]:
    """The answer of one status that is no success, and in words which problems it may be: no schema of its own, which
    generators of clients make nothing of.
    """
    headers = {401: (hdrs.WWW_AUTHENTICATE,), 503: (hdrs.RETRY_AFTER,)}.get(status, ())
    return {
        "description": "; ".join(dict.fromkeys(f"{kind.title} (`{kind.type}`)" for kind in kinds)),
        "headers": {} if status == 400 else _headers(headers),
        "content": {CONTENT_TYPE: {"schema": _PROBLEM}},
    }


def _headers(names: Iterable[str]) -> dict[str, object]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (REQUEST_ID_HEADER, *names)}


def _common(endpoint: Endpoint) -> Iterable[Kind]:
    """What any such request can meet."""
    yield from (INTERNAL, INVALID_REQUEST)
    if endpoint.scope is not None:
        yield from (
            UNAUTHENTICATED,
            FORBIDDEN,
            DATABASE_UNAVAILABLE,
            MISSING_RIGHT,
            STATEMENT_TIMEOUT,
            SCHEMA_NOT_MIGRATED,
        )
    if endpoint.parameters:
        yield _NOTHING
    if endpoint.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
        yield CROSS_SITE
        if endpoint.scope is not None:
            yield LOCKED
    if endpoint.body is not None:
        yield from (NOT_JSON, TOO_SLOW, TOO_LARGE, UNSUPPORTED_TYPE)


def _tag(name: str) -> dict[str, object]:
    return {"name": name, **({"description": _TAGS[name]} if name in _TAGS else {})}


def _tidy(schema: Any) -> Any:  # noqa: ANN401  # JSON
    """The schema as people read it: the first paragraph of what a docstring says, and one description a member."""
    if isinstance(schema, list):
        return [_tidy(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {name: _tidy(value) for name, value in schema.items()}
    if isinstance(tidy.get("description"), str):
        tidy["description"] = " ".join(tidy["description"].partition("\n\n")[0].partition(" Raises `")[0].split())
    match tidy:
        case {"anyOf": [{"description": str(about), **form}, {"type": "null"} as null], **rest} if form:
            return {"description": about, "anyOf": [form, null], **rest}
    return tidy


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a query's parameter, which has no null: what is left out is left out."""
    match schema:
        case {"anyOf": [*several], **rest}:
            kept = [one for one in several if one != {"type": "null"}]
            return {**kept[0], **rest} if len(kept) == 1 else {"anyOf": kept, **rest}
        case {"enum": [*values], **rest}:
            return {"enum": [value for value in values if value is not None], **rest}
    return dict(schema)


def _first_line(handler: object) -> str:
    return (inspect.getdoc(handler) or "").partition("\n")[0]
