"""Generate the OpenAPI 3.1 document from the table of endpoints and the structs that decode and encode."""

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
        str, said("the queue's name, or `*` for queues without a time of their own", pattern=_KEPT, maxLength=48)
    ],
    "schedule": ScheduleName,
}
_HEADERS: Final[Mapping[str, Mapping[str, object]]] = {
    REQUEST_ID_HEADER: {
        "description": "the request's own id if it is usable, else a new one; every log line of the request carries it",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        "required": True,
    },
    hdrs.LOCATION: {
        "description": "the path of the created resource",
        "schema": {"type": "string", "format": "uri-reference"},
        "required": True,
    },
    hdrs.RETRY_AFTER: {
        "description": "the seconds to wait before a retry",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "required": True,
    },
    hdrs.ETAG: {
        "description": "changes when the answer does: `If-None-Match` with it is answered 304 until then",
        "schema": {"type": "string"},
        "required": True,
    },
    REPEATED_HEADER: {
        "description": "present if the answer repeats an earlier one of this Idempotency-Key; nothing was done again",
        "schema": {"type": "string", "const": "true"},
    },
    hdrs.WWW_AUTHENTICATE: {"description": "how to authenticate", "schema": {"type": "string"}},
}
_ABOUT: Final = (
    "The queue over HTTP. Times are ISO 8601 in UTC, durations seconds, ids UUIDs. Errors are problem documents "
    "(RFC 9457); their `type` identifies the kind. HEAD is answered like GET, without the body. Bodies have at most 1 "
    "MiB, nested at most 64 deep."
)
_TAGS: Final[Mapping[str, str]] = {
    "health": "liveness and readiness of the process",
    "jobs": "enqueue jobs, read them, act on them",
    "queues": "pause, resume and scale queues",
    "workers": "the live workers, and what they run",
    "schedules": "schedules, which enqueue jobs at their times",
    "tasks": "the tasks that workers have registered",
    "retention": "how long finished jobs are kept",
    "operations": "the audit: who did what",
    "overview": "a snapshot of the queue, and statistics",
    "events": "changes, as server-sent events",
    "documents": "this document",
}


def describe(endpoints: Sequence[Endpoint]) -> bytes:
    """Return the document as JSON."""
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
    """The JSON schemas of forms, and of the named forms to which they refer."""

    def __init__(self) -> None:
        self.components: dict[str, object] = {}

    def of(self, form: object) -> dict[str, Any]:
        (schema,), components = msgspec.json.schema_components((form,), ref_template=_TEMPLATE)
        self.components |= components
        return schema


def _alternatives(form: object) -> Sequence[Any]:
    """Return the possible forms of an answer, none without a body: msgspec does not support unions of structs."""
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
        example: object = endpoint.body.EXAMPLE  # type: ignore[attr-defined]  # a test checks that every body has one
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
            "description": "a new text for each request, which can then be repeated without doing anything twice",
            "examples": ["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        }
        yield _parameter(KEY_HEADER, "header", schema, is_required=False)
    if SCHEDULE_CHANGED in endpoint.problems:
        schema = {
            "type": "string",
            "pattern": IF_MATCH_PATTERN,
            "description": "the `ETag` that was read: if the schedule was changed since, nothing is done (412)",
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
        yield 400, {"description": "Not HTTP, or a head that is too large", "headers": {}, "content": content}


def _refusal(status: int, kinds: Sequence[Kind]) -> dict[str, object]:
    """Describe the answer of an error status, with its problems in text: generators of clients cannot use a schema of
    its own.
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
    """The problems that any request to the endpoint can cause."""
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
    """Return the schema for readers: the first paragraph of each docstring, and one description per member."""
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
    """Return the schema of a query parameter, without null: a parameter is omitted instead."""
    match schema:
        case {"anyOf": [*several], **rest}:
            kept = [one for one in several if one != {"type": "null"}]
            return {**kept[0], **rest} if len(kept) == 1 else {"anyOf": kept, **rest}
        case {"enum": [*values], **rest}:
            return {"enum": [value for value in values if value is not None], **rest}
    return dict(schema)


def _first_line(handler: object) -> str:
    return (inspect.getdoc(handler) or "").partition("\n")[0]
