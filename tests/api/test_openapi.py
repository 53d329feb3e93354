"""`/openapi.json`: valid, complete, and right wherever the API is mounted."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from yarl import URL

from rowlock import Rowlock
from rowlock.api import create_app, nobody_is_asked
from rowlock.api.application import ENDPOINTS

Http = TestClient[Request, Application]


@pytest.fixture
async def document(http: Http) -> dict[str, Any]:
    async with http.get("/openapi.json") as response:
        assert response.content_type == "application/json"
        read: dict[str, Any] = await response.json()
        return read


async def test_document_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


async def test_every_endpoint_is_described(document: dict[str, Any]) -> None:
    for endpoint in ENDPOINTS:
        operation = document["paths"][endpoint.path][endpoint.method.lower()]
        assert operation["summary"], endpoint.path
        assert (operation["security"] == []) is (endpoint.scope is None)
        for status, response in operation["responses"].items():
            assert response["description"]
            assert status == "400" or "X-Request-ID" in response["headers"], (endpoint.path, status)
        for parameter in operation["parameters"]:
            assert parameter["description"], (endpoint.path, parameter["name"])


async def test_the_example_of_every_body_fits_it(document: dict[str, Any]) -> None:
    examples = 0
    for endpoint in (endpoint for endpoint in ENDPOINTS if endpoint.body is not None):
        body = document["paths"][endpoint.path][endpoint.method.lower()]["requestBody"]["content"]["application/json"]
        schema = {**body["schema"], "components": document["components"]}
        OAS31Validator(schema).validate(body["example"])
        assert msgspec.convert(body["example"], endpoint.body) != msgspec.UNSET
        examples += 1
    assert examples > 10


async def test_problems_of_an_endpoint_are_those_that_it_declares(document: dict[str, Any]) -> None:
    answers = document["paths"]["/v1/jobs/{id}/retry"]["post"]["responses"]
    assert answers["409"]["content"] == {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
    }
    named = re.findall(r"`urn:rowlock:problem:([a-z-]+)`", answers["409"]["description"])
    assert named == ["locked", "wrong-state", "key-held"]


async def test_no_python_is_in_the_descriptions(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert not any(word in schema.get("description", "") for word in (">>>", "Raises", "\n")), name


async def test_server_is_where_the_document_is(app: Rowlock) -> None:
    site = web.Application()
    site.add_subapp("/queue", create_app(app, authenticate=nobody_is_asked))
    async with TestClient(TestServer(site)) as http, http.get("/queue/openapi.json") as response:
        (server,) = (await response.json())["servers"]
        assert response.url.join(URL(server["url"])).path == "/queue/"


async def test_document_that_is_known_is_not_sent_again(http: Http) -> None:
    async with http.get("/openapi.json") as response:
        tag = response.headers["ETag"]
    for known in (tag, f'"other", {tag}', "*"):
        async with http.get("/openapi.json", headers={"If-None-Match": known}) as response:
            assert (response.status, await response.read()) == (304, b"")
            assert response.headers["ETag"] == tag
    async with http.get("/openapi.json", headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


@pytest.mark.parametrize("name", ["before", "error", "state", "discarded", "older_than"])
async def test_text_null_is_no_value_of_a_parameter(http: Http, name: str) -> None:
    async with http.get("/v1/jobs", params={name: "null"}) as response:
        expected = 200 if name == "error" else 422  # which looks for the text
        assert response.status == expected


async def test_number_is_no_time(http: Http) -> None:
    for number in ("0.5", "0", "-1"):
        async with http.get("/v1/jobs", params={"created_before": number}) as response:
            assert response.status == 422
    async with http.get("/v1/jobs", params={"created_before": "2030-01-01T09:00:00+01:00"}) as response:
        assert response.status == 200


async def test_what_can_only_be_posted_to_says_so(http: Http) -> None:
    async with http.get("/v1/jobs/many") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_every_duration_that_is_allowed_is_stored(http: Http) -> None:
    for name in ("timeout", "delay", "expires", "deadline"):
        for seconds in (0.000_001, 36_500 * 24 * 3600):
            async with http.post("/v1/jobs", json={"task": "echo", name: seconds}) as response:
                assert response.status == 201, (name, seconds)


async def test_generators_of_clients_find_only_what_they_know(document: dict[str, Any]) -> None:
    """Times have their format, parameters a schema, and what is refused is one schema for all: no error is lost."""
    for name, schema in document["components"]["schemas"].items():
        for member, form in schema.get("properties", {}).items():
            if member.endswith("_at") or member in {"at", "since", "searched_until", "next_ticks"}:
                assert "date-time" in str(form), f"{name}.{member}"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert all("schema" in parameter for parameter in operation["parameters"]), path
            for status, response in operation["responses"].items():
                if status >= "400" and (content := response["content"].get("application/problem+json")):
                    assert content == {"schema": {"$ref": "#/components/schemas/Problem"}}, (path, status)
