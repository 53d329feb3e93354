"""The OpenAPI 3.1 document: made of the table of endpoints and the structs that decode and encode."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from types import UnionType
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from rowlock.api.idempotency import KEY_HEADER
from rowlock.api.problems import (
    CONTENT_TYPE,
    CROSS_SITE,
    DATABASE_UNAVAILABLE,
    FORBIDDEN,
    INTERNAL,
    INVALID_KEY,
    INVALID_REQUEST,
    NOT_JSON,
    TOO_LARGE,
    TOO_SLOW,
    UNAUTHENTICATED,
    UNSUPPORTED_TYPE,
    Kind,
    Problem,
)
from rowlock.api.routes import JSON, Endpoint

DOCUMENT: web.AppKey[Callable[[], bytes]] = web.AppKey("document")

_TEMPLATE: Final = "#/components/schemas/{name}"
_PROBLEM: Final = {"$ref": _TEMPLATE.format(name="Problem")}
_PATHS: Final[Mapping[str, Mapping[str, object]]] = {
    "id": {"type": "string", "format": "uuid"},
    "worker": {"type": "string", "format": "uuid"},
    "queue": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,48}$"},
    "schedule": {"type": "string", "minLength": 1, "maxLength": 128},
}
_ABOUT: Final = (
    "The queue over HTTP. Times are ISO 8601 in UTC, durations seconds, ids UUIDs. Whatever goes wrong is answered "
    "with a problem document (RFC 9457), by whose `type` programs tell the kinds apart."
)


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
        "tags": [{"name": name} for name in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
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
        content = {JSON: {"schema": schemas.of(endpoint.body)}}
        operation["requestBody"] = {"required": not endpoint.is_body_optional, "content": content}
    return operation


def _parameters(endpoint: Endpoint, schemas: _Schemas) -> Iterable[dict[str, object]]:
    for name in endpoint.parameters:
        yield {"name": name, "in": "path", "required": True, "schema": _PATHS[name]}
    for field in [] if endpoint.query is None else msgspec.structs.fields(endpoint.query):
        schema = _without_null(schemas.of(field.type))
        if field.default not in {None, msgspec.NODEFAULT}:
            schema["default"] = field.default
        yield {"name": field.encode_name, "in": "query", "required": field.required, "schema": schema}
    if INVALID_KEY in endpoint.problems:
        schema = {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}
        yield {"name": KEY_HEADER, "in": "header", "required": False, "schema": schema}


def _responses(endpoint: Endpoint, schemas: _Schemas) -> Iterable[tuple[int, dict[str, object]]]:
    for status, form in sorted(endpoint.answers.items()):
        response: dict[str, object] = {"description": HTTPStatus(status).phrase}
        if several := [schemas.of(one) for one in _alternatives(form)]:
            response["content"] = {endpoint.media: {"schema": {"anyOf": several} if several[1:] else several[0]}}
        yield status, response
    kinds: dict[int, list[str]] = {}
    for kind in (*_common(endpoint), *endpoint.problems):
        kinds.setdefault(kind.status, []).append(kind.title)
    for status, titles in sorted(kinds.items()):
        content = {CONTENT_TYPE: {"schema": _PROBLEM}}
        yield status, {"description": "; ".join(dict.fromkeys(titles)), "content": content}


def _common(endpoint: Endpoint) -> Iterable[Kind]:
    """What any such request can meet."""
    yield from (INTERNAL, DATABASE_UNAVAILABLE)
    if endpoint.scope is not None:
        yield from (UNAUTHENTICATED, FORBIDDEN, INVALID_REQUEST)
    if endpoint.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
        yield CROSS_SITE
    if endpoint.body is not None:
        yield from (NOT_JSON, TOO_SLOW, TOO_LARGE, UNSUPPORTED_TYPE)


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
