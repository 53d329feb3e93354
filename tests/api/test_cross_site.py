"""Requests that a browser sends for the page of another site: they may not change anything."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from rowlock import Rowlock
from rowlock.api import create_app
from tests.api.conftest import Http

FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "nonsense"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://here"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://here.evil.example"},
    {"Origin": "http://here:81"},
    {"Origin": "null"},
    {"Origin": ""},
]
OWN = [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://here"}, {"Origin": "https://here"}]


@pytest.fixture
async def closed(app: Rowlock) -> AsyncIterator[Http]:
    async with TestClient(TestServer(create_app(app))) as client:
        yield client


@pytest.fixture
async def cookie(closed: Http, app: Rowlock) -> dict[str, str]:
    key = await app.keys.create("ada", scopes=["admin"])
    async with closed.post("/v1/session", json={"key": key.text}) as response:
        return {"Cookie": f"rowlock_session={response.cookies['rowlock_session'].value}", "Host": "here"}


async def status_of(http: Http, headers: dict[str, str], method: str = "POST", path: str = "/v1/queues/x/pause") -> int:
    async with http.request(method, path, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_page_of_another_site_cannot_act_with_a_cookie(
    closed: Http, cookie: dict[str, str], headers: dict[str, str]
) -> None:
    assert await status_of(closed, cookie | headers) == 403
    assert await status_of(closed, cookie | headers, "DELETE", "/v1/schedules/x") == 403
    assert await status_of(closed, cookie | headers, "PATCH", "/v1/schedules/x") == 403
    assert await status_of(closed, cookie | headers, "PUT", "/v1/retention/x") == 403
    assert await status_of(closed, cookie | headers, "DELETE", "/v1/session") == 403
    assert await status_of(closed, cookie | headers, "POST", "/v1/session") == 403


@pytest.mark.parametrize("headers", OWN, ids=str)
async def test_dashboards_own_page_can_act(closed: Http, cookie: dict[str, str], headers: dict[str, str]) -> None:
    assert await status_of(closed, cookie | headers) == 200


async def test_cookie_without_a_word_of_the_page_is_not_enough(closed: Http, cookie: dict[str, str]) -> None:
    assert await status_of(closed, cookie) == 403
    assert await status_of(closed, cookie, "GET", "/v1/jobs") == 200


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_page_of_another_site_cannot_act_where_nobody_is_asked(http: Http, headers: dict[str, str]) -> None:
    assert await status_of(http, {"Host": "here"} | headers) == 403


async def test_programs_act_where_nobody_is_asked(http: Http) -> None:
    assert await status_of(http, {}) == 200


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_key_needs_no_word_of_the_page(closed: Http, app: Rowlock, headers: dict[str, str]) -> None:
    key = await app.keys.create("ci", scopes=["operate"])
    assert await status_of(closed, headers | {"Authorization": f"Bearer {key.text}"}) == 200


async def test_page_by_http_cannot_act_on_what_is_served_by_tls(app: Rowlock) -> None:
    async with TestClient(TestServer(create_app(app, behind_proxy=True))) as http:
        for scheme, status in (("http", 403), ("https", 401)):
            assert await status_of(http, {"Host": "here", "Origin": f"{scheme}://here"}) == status


async def test_no_answer_allows_other_sites_to_read_it(closed: Http) -> None:
    asks = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    for method in ("OPTIONS", "GET"):
        async with closed.request(method, "/v1/jobs", headers=asks) as response:
            assert not [name for name in response.headers if name.lower().startswith("access-control-")]
            assert response.status in {401, 405}
