"""`/v1/session`: logging in at the dashboard, the cookie, logging out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.cookies import Morsel

import asyncpg
import pytest
from aiohttp import CookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from rowlock import Rowlock
from rowlock.api import create_app
from tests.api.conftest import Http

OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def browser(app: Rowlock) -> AsyncIterator[Http]:
    """What keeps cookies."""
    async with TestClient(TestServer(create_app(app)), headers=OWN) as client:
        yield client


async def log_in(http: Http, key: str, path: str = "/v1/session") -> Morsel[str]:
    async with http.post(path, json={"key": key}) as response:
        assert response.status == 200, await response.text()
        (cookie,) = response.cookies.values()
        return cookie


async def test_cookie_stands_for_the_key_until_one_logs_out(
    browser: Http, app: Rowlock, connection: asyncpg.Connection
) -> None:
    key = await app.keys.create("ada", scopes=["operate"])
    cookie = await log_in(browser, f" {key.text}\n")
    assert (cookie.key, cookie["path"], cookie["samesite"]) == ("rowlock_session", "/", "Strict")
    assert cookie["httponly"]
    assert not cookie["secure"]
    assert cookie["expires"]
    assert key.text not in cookie.output()
    async with browser.get("/v1/session") as response:
        session = await response.json()
    assert (session["by"], session["scopes"], session["is_open"]) == ("ada", ["operate"], False)
    assert session["expires_at"] is not None
    async with browser.post("/v1/queues/email/pause") as response:
        assert response.status == 200
    assert await connection.fetchval("SELECT by FROM rowlock.operation WHERE verb = 'pause'") == "ada"
    async with browser.delete("/v1/session") as response:
        assert response.status == 204
        assert response.cookies["rowlock_session"]["max-age"] == "0"
    for given in ({}, {"Cookie": f"rowlock_session={cookie.value}"}):
        async with browser.get("/v1/session", headers=given) as response:
            assert response.status == 401, "the session has ended, not only its cookie"
    async with browser.delete("/v1/session") as response:
        assert response.status == 204


async def test_session_ends_when_its_key_is_revoked(browser: Http, app: Rowlock) -> None:
    key = await app.keys.create("ada", scopes=["read"])
    await log_in(browser, key.text)
    async with browser.get("/v1/jobs") as response:
        assert response.status == 200
    await app.keys.revoke("ada")
    async with browser.get("/v1/jobs") as response:
        assert response.status == 401


async def test_who_logs_in_again_has_one_session(browser: Http, app: Rowlock, connection: asyncpg.Connection) -> None:
    key = await app.keys.create("ada", scopes=["read"])
    first = await log_in(browser, key.text)
    second = await log_in(browser, key.text)
    assert first.value != second.value
    assert await connection.fetchval("SELECT count(*) FROM rowlock.api_session") == 1


@pytest.mark.parametrize("body", [{"key": ""}, {"key": "rowlock_" + "x" * 43}, {"key": "é"}])
async def test_wrong_key_logs_nobody_in(browser: Http, app: Rowlock, body: dict[str, str]) -> None:
    await app.keys.create("ada", scopes=["read"])
    async with browser.post("/v1/session", json=body) as response:
        assert response.status == 401
        assert not response.cookies


@pytest.mark.parametrize("body", [{}, {"key": 1}, {"key": None}, {"key": "x", "name": "ada"}])
async def test_what_is_no_login_is_refused(browser: Http, body: dict[str, object]) -> None:
    async with browser.post("/v1/session", json=body) as response:
        assert response.status == 422


async def test_body_of_a_login_is_small(browser: Http, app: Rowlock) -> None:
    """Anybody can send one: what all connections together hold must not fill the memory."""
    key = (await app.keys.create("ada", scopes=["read", "enqueue"])).text
    for spaces, status in ((4000, 200), (4096, 413), (100_000, 413)):
        async with browser.post("/v1/session", json={"key": key + " " * spaces}) as response:
            assert response.status == status
    large = {"task": "echo", "args": {"value": "x" * 100_000}}
    async with browser.post("/v1/jobs", json=large, headers={"Authorization": f"Bearer {key}"}) as response:
        assert response.status == 201


async def test_key_is_not_taken_from_the_address(browser: Http, app: Rowlock) -> None:
    key = await app.keys.create("ada", scopes=["read"])
    async with browser.get(f"/v1/session?key={key.text}") as response:
        assert response.status in {401, 422}


@pytest.mark.parametrize("path, name", [("", "__Host-rowlock_session"), ("/queue", "__Secure-rowlock_session")])
async def test_cookie_behind_a_proxy_with_tls_is_for_tls_and_this_path_alone(
    app: Rowlock, path: str, name: str
) -> None:
    key = await app.keys.create("ada", scopes=["read"])
    api = create_app(app, behind_proxy=True)
    site = api
    if path:
        site = web.Application()
        site.add_subapp(path, api)
    async with TestClient(
        TestServer(site), headers=OWN, cookie_jar=CookieJar(treat_as_secure_origin="http://127.0.0.1")
    ) as http:
        cookie = await log_in(http, key.text, f"{path}/v1/session")
        assert (cookie.key, cookie["path"]) == (name, path or "/")
        assert cookie["secure"]
        # At `/` the other one may come from the TLS of a neighbour, as any host below the same domain can set it.
        other = "__Secure-rowlock_session" if not path else "rowlock_session"
        for sent, status in ((name, 200), ("rowlock_session", 401), (other, 401)):
            async with http.get(f"{path}/v1/session", headers={"Cookie": f"{sent}={cookie.value}"}) as response:
                assert response.status == status


async def test_what_a_client_says_of_tls_is_not_believed_without_a_proxy(browser: Http, app: Rowlock) -> None:
    key = await app.keys.create("ada", scopes=["read"])
    async with browser.post(
        "/v1/session", json={"key": key.text}, headers={"X-Forwarded-Proto": "https", "Forwarded": "proto=https"}
    ) as response:
        (cookie,) = response.cookies.values()
    assert cookie.key == "rowlock_session"


async def test_who_logs_in_or_out_does_not_have_everything_read_anew(browser: Http, app: Rowlock) -> None:
    """Whoever has no key could have the database asked again and again by it."""
    key = await app.keys.create("ada", scopes=["admin"])
    headers = {"Authorization": f"Bearer {key.text}"}

    async def read_at() -> str:
        async with browser.get("/v1/overview", headers=headers) as response:
            at: str = (await response.json())["at"]
            return at

    first = await read_at()
    async with browser.delete("/v1/session"):
        pass
    async with browser.post("/v1/session", json={"key": "wrong"}):
        pass
    assert await read_at() == first
    async with browser.post("/v1/queues/default/pause", headers=headers):
        pass
    assert await read_at() != first
