"""Who gets in: by a key, by the host's own answer, on this machine before there is a key; and what of wrong keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from rowlock import Rowlock
from rowlock.api import Access, create_app
from rowlock.api.access import failures
from rowlock.api.access.authentication import OpenUntilFirstKey
from rowlock.api.access.failures import Failures
from tests.api.conftest import Http
from tests.logged import capture_logs

WRONG = "rowlock_" + "x" * 43


@pytest.fixture
async def closed(app: Rowlock) -> AsyncIterator[Http]:
    """The API as `create_app(app)` makes it."""
    async with TestClient(TestServer(create_app(app))) as client:
        yield client


@pytest.fixture
async def local(app: Rowlock) -> AsyncIterator[Http]:
    """The API as `rowlock api` and `rowlock dev` serve it on this machine."""
    async with TestClient(TestServer(create_app(app, authenticate=OpenUntilFirstKey()))) as client:
        yield client


async def ask(
    http: Http, path: str = "/v1/session", key: str | None = None, *, method: str = "GET", **headers: str
) -> tuple[int, dict[str, Any]]:
    given = headers | ({} if key is None else {"Authorization": f"Bearer {key}"})
    async with http.request(method, path, headers=given) as response:
        if response.status == 401:
            assert response.headers["WWW-Authenticate"] == "Bearer"
        return response.status, await response.json(content_type=None)


async def test_without_a_key_nothing_but_health_and_documents_is_answered(closed: Http) -> None:
    for path in ("/v1/session", "/v1/jobs", "/v1/queues", "/v1/overview", "/v1/events"):
        status, problem = await ask(closed, path)
        assert (status, problem["type"]) == (401, "urn:rowlock:problem:unauthenticated"), path
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert (await ask(closed, path))[0] == 200


async def test_key_lets_in_as_far_as_its_scopes_go(closed: Http, app: Rowlock) -> None:
    key = await app.keys.create("reader", scopes=["read"], queues=["email"])
    status, session = await ask(closed, key=key.text)
    assert status == 200
    assert session == {"by": "reader", "scopes": ["read"], "queues": ["email"], "expires_at": None, "is_open": False}
    assert (await ask(closed, "/v1/queues/email", key.text))[0] == 200
    status, problem = await ask(closed, "/v1/queues/email/pause", key.text, method="POST")
    assert (status, problem["type"]) == (403, "urn:rowlock:problem:forbidden")
    assert "scope operate" in problem["detail"]
    status, problem = await ask(closed, "/v1/workers", key.text)
    assert status == 403
    assert "not limited to queues" in problem["detail"]


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YWRhOnNlY3JldA==", "bearer  ", f"Bearer {WRONG}", "Bearer é"])
async def test_what_is_no_key_lets_nobody_in(closed: Http, header: str) -> None:
    assert (await ask(closed, Authorization=header))[0] == 401


async def test_revoked_or_expired_key_lets_nobody_in_any_more(
    closed: Http, app: Rowlock, connection: asyncpg.Connection
) -> None:
    one = await app.keys.create("one", scopes=["read"])
    other = await app.keys.create("other", scopes=["read"], expires=60)
    assert [(await ask(closed, key=key.text))[0] for key in (one, other)] == [200, 200]
    await app.keys.revoke("one")
    await connection.execute("UPDATE rowlock.api_key SET expires_at = now() WHERE name = 'other'")
    assert [(await ask(closed, key=key.text))[0] for key in (one, other)] == [401, 401]


async def test_wrong_key_beside_a_session_that_holds_is_refused(closed: Http, app: Rowlock) -> None:
    key = await app.keys.create("ada", scopes=["read"])
    async with closed.post(
        "/v1/session", json={"key": key.text}, headers={"Sec-Fetch-Site": "same-origin"}
    ) as response:
        assert response.status == 200
    assert (await ask(closed))[0] == 200
    assert (await ask(closed, key=WRONG))[0] == 401


async def test_host_says_who_asks(app: Rowlock) -> None:
    async def who(request: web.Request) -> Access | None:
        name = request.headers.get("X-User")
        return None if name is None else Access(by=name, scopes=frozenset({"operate"}))

    async with TestClient(TestServer(create_app(app, authenticate=who))) as http:
        assert (await ask(http))[0] == 401
        status, session = await ask(http, **{"X-User": "ada"})
        assert (status, session["by"], session["is_open"]) == (200, "ada", False)
        key = await app.keys.create("ada", scopes=["read"])
        assert (await ask(http, key=key.text))[0] == 401
        async with http.post("/v1/session", json={"key": key.text}) as response:
            assert response.status == 409
            assert (await response.json(content_type=None))["type"] == "urn:rowlock:problem:no-login"


async def test_machine_without_a_key_is_open_until_there_is_one_and_never_again(
    local: Http, app: Rowlock, connection: asyncpg.Connection
) -> None:
    status, session = await ask(local)
    assert (status, session["is_open"], session["scopes"]) == (200, True, ["read", "enqueue", "operate", "admin"])
    key = await app.keys.create("ada", scopes=["read"])
    assert (await ask(local))[0] == 401
    assert (await ask(local, key=key.text))[0] == 200
    await app.keys.revoke("ada")
    assert (await ask(local))[0] == 401
    async with TestClient(TestServer(create_app(app, authenticate=OpenUntilFirstKey()))) as again:
        assert (await ask(again))[0] == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.0.2.1",
        "[2001:db8::1]:80",
        "localhost#evil.example",
        "localhost/evil.example",
        "localhost?evil.example",
        "localhost:80:80",
        "localhost:port",
        "evil.example@localhost",
        "evil.example@127.0.0.1:8080",
        "[::1]evil.example",
        "localhost evil.example",
        "",
        "[",
    ],
)
async def test_open_machine_answers_to_its_own_names_alone(local: Http, host: str) -> None:
    assert (await ask(local, Host=host))[0] in {400, 403}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"])
async def test_open_machine_answers_to_its_own_names(local: Http, host: str) -> None:
    assert (await ask(local, Host=host))[0] == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Real-IP", "Via"])
async def test_open_machine_is_not_open_to_those_behind_a_proxy(local: Http, header: str) -> None:
    status, problem = await ask(local, **{header: "127.0.0.1"})
    assert status == 401
    assert "rowlock keys create" in problem["detail"]


async def test_wrong_keys_are_limited_for_an_address_and_logged_without_them(
    closed: Http, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "MOST_OF_ONE", 3)
    good = await app.keys.create("ada", scopes=["read"])
    with capture_logs() as logs:
        assert [(await ask(closed, key=WRONG))[0] for _ in range(3)] == [401] * 3
        async with closed.get("/v1/session", headers={"Authorization": f"Bearer {WRONG}"}) as response:
            assert response.status == 429
            assert 0 < int(response.headers["Retry-After"]) <= 60
        async with closed.post("/v1/session", json={"key": good.text}) as response:
            assert response.status == 429, "who guessed wrong too often cannot go on guessing at the login"
        assert (await ask(closed, key=good.text))[0] == 200, "a program's key that holds is never locked out"
    said = [entry for entry in logs if entry["event"] in {"wrong_key", "wrong_keys_limited"}]
    assert [entry["event"] for entry in said] == ["wrong_key"] * 3 + ["wrong_keys_limited"]
    assert "xxx" not in str(logs)
    assert good.text not in str(logs)


async def test_behind_a_proxy_it_is_the_client_that_is_limited(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MOST_OF_ONE", 1)
    key = await app.keys.create("ada", scopes=["read"])
    async with TestClient(TestServer(create_app(app, behind_proxy=True))) as http:
        for spoofed in ("192.0.2.7", "192.0.2.8, 192.0.2.7"):
            async with http.post("/v1/session", json={"key": WRONG}, headers={"X-Forwarded-For": spoofed}) as response:
                assert response.status == (401 if spoofed == "192.0.2.7" else 429)
        of_haproxy = [("X-Forwarded-For", "192.0.2.8"), ("X-Forwarded-For", "192.0.2.7")]
        async with http.post("/v1/session", json={"key": WRONG}, headers=of_haproxy) as response:
            assert response.status == 429, "the last header is the proxy's, and those before are anybody's"
        async with http.post(
            "/v1/session", json={"key": key.text}, headers={"X-Forwarded-For": "192.0.2.9"}
        ) as response:
            assert response.status == 200


async def test_what_a_client_says_of_its_address_is_not_believed_without_a_proxy(
    closed: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "MOST_OF_ONE", 1)
    said = [await ask(closed, key=WRONG, **{"X-Forwarded-For": f"192.0.2.{number}"}) for number in range(2)]
    assert [status for status, _ in said] == [401, 429]


def test_failures_are_counted_by_address_and_together_for_a_minute() -> None:
    now = 100.0
    counted = Failures(lambda: now)
    assert [counted.add("192.0.2.1", "bearer") for _ in range(10)] == [0.0] * 10
    assert counted.wait_of("192.0.2.1") == 60.0
    assert counted.wait_of("::ffff:192.0.2.1") == 60.0
    assert counted.wait_of("192.0.2.2") == 0.0
    now = 130.0
    assert counted.add("192.0.2.1", "bearer") == 30.0
    for number in range(189):
        assert counted.add(f"2001:db8:{number:x}::1", "session") == 0.0
    assert counted.add("192.0.2.2", "session") == 30.0, "together there are too many"
    assert counted.wait_of("192.0.2.3") == 0.0, "who has not failed can try"
    now = 160.0
    assert counted.wait_of("192.0.2.1") == 0.0
    for _ in range(10):
        counted.add("2001:db8::1", "bearer")
    assert counted.wait_of("2001:db8::ffff") == 60.0, "a host can take any address of its network"
    assert counted.wait_of("[2001:db8::2]:4711") == 60.0
    for port in range(10):
        counted.add(f"192.0.2.4:{port}", "bearer")
    assert counted.wait_of("192.0.2.4:4711") == counted.wait_of("192.0.2.4") == 60.0, "some proxies tell the port"


def test_failures_take_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MOST_ADDRESSES", 5)
    counted = Failures(lambda: 0.0)
    for number in range(20):
        counted.add(f"192.0.2.{number}", "bearer")
    assert len(counted._counts) == 5


async def test_actor_can_be_added_to_a_key_and_cannot_replace_it(
    closed: Http, app: Rowlock, connection: asyncpg.Connection
) -> None:
    key = await app.keys.create("ci", scopes=["operate"])
    for actor in (None, "ada", "grace) (as ada"):
        given = {} if actor is None else {"X-Rowlock-Actor": actor}
        queue = f"q{len(actor or '')}"
        assert (await ask(closed, f"/v1/queues/{queue}/pause", key.text, method="POST", **given))[0] == 200
    rows = await connection.fetch("SELECT by FROM rowlock.operation WHERE verb = 'pause' ORDER BY id")
    assert [row["by"] for row in rows] == ["ci", "ci (as ada)", "ci (as grace) (as ada)"]


@asynccontextmanager
async def asking(app: Rowlock, key: str) -> AsyncIterator[Http]:
    headers = {"Authorization": f"Bearer {key}"}
    async with TestClient(TestServer(create_app(app)), headers=headers) as client:
        yield client


async def test_answer_is_not_replayed_to_a_key_of_the_same_name_that_sees_other_queues(app: Rowlock) -> None:
    statuses = []
    for queues in (None, ["other"]):
        key = await app.keys.create("ci", scopes=["enqueue"], queues=queues)
        again = {"Idempotency-Key": "k"}
        async with asking(app, key.text) as http:
            response = await http.post("/v1/jobs", json={"task": "add", "args": {"x": 1}}, headers=again)
            statuses.append(response.status)
        await app.keys.revoke("ci")
    assert statuses == [201, 422]
