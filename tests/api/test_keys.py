"""The keys of the HTTP API, and who gets in with one."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from rowlock import ApiKeyNotFound, InvalidOption, Rowlock
from rowlock.queue.connect.statements import statement
from tests.logged import capture_logs


async def test_key_is_random_and_stored_as_its_hash_alone(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    with capture_logs() as logs:
        one = await app.keys.create("one", scopes=["read"], by="ada")
        other = await app.keys.create("other", scopes=["admin", "read"])
    assert one.text.startswith("rowlock_")
    assert len(one.text) == len("rowlock_") + 43
    assert one.text != other.text
    assert one.text not in repr(one)
    stored = await connection.fetch("SELECT * FROM rowlock.api_key ORDER BY id")
    assert [row["hash"] for row in stored] == [hashlib.sha256(key.text.encode()).digest() for key in (one, other)]
    told = await connection.fetch("SELECT * FROM rowlock.operation")
    for key in (one, other):
        secret = key.text.removeprefix("rowlock_")
        assert secret not in str(stored) + str(told) + str(logs) + str(await app.keys.list())


async def test_making_and_revoking_a_key_is_recorded_without_it(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    key = await app.keys.create("ci", scopes=["operate"], queues=["b", "a"], expires=60, by="ada")
    await app.keys.revoke("ci", by="grace")
    rows = await connection.fetch(
        "SELECT verb, target_kind, target, by, details::text FROM rowlock.operation ORDER BY id"
    )
    assert [tuple(row)[:4] for row in rows] == [
        ("create", "key", str(key.id), "ada"),
        ("revoke", "key", str(key.id), "grace"),
    ]
    assert '"queues": ["a", "b"]' in rows[0]["details"]


async def test_holder_is_found_until_the_key_is_revoked_or_expires(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    key = await app.keys.create("one", scopes=["read", "enqueue"], queues=["email"])
    holder = await app.keys.holder(key.text)
    assert holder is not None
    assert (holder.name, holder.scopes, holder.queues) == ("one", ["read", "enqueue"], ["email"])
    for wrong in ("", key.text[:-1], key.text + "x", key.text.swapcase(), "rowlock_" + "x" * 43, "é", "\udcff"):
        assert await app.keys.holder(wrong) is None
    await app.keys.revoke(key.id)
    assert await app.keys.holder(key.text) is None
    short = await app.keys.create("short", scopes=["read"], expires=timedelta(hours=1))
    assert await app.keys.holder(short.text) is not None
    await connection.execute("UPDATE rowlock.api_key SET expires_at = now() WHERE name = 'short'")
    assert await app.keys.holder(short.text) is None
    assert [key.is_active for key in await app.keys.list()] == [False, False]


async def test_name_is_free_again_once_its_key_is_revoked(app: Rowlock) -> None:
    await app.keys.create("ci", scopes=["read"])
    with pytest.raises(InvalidOption, match="Revoke it, or choose another name"):
        await app.keys.create("ci", scopes=["admin"])
    await app.keys.revoke("ci")
    await app.keys.create("ci", scopes=["admin"])
    assert [(key.name, key.is_active) for key in await app.keys.list()] == [("ci", True), ("ci", False)]


async def test_what_is_no_key_cannot_be_revoked(app: Rowlock) -> None:
    key = await app.keys.create("ci", scopes=["read"])
    await app.keys.revoke("ci")
    for name in ("ci", key.id, str(key.id), "nobody", uuid4(), "", "a b", "\0", "\udcff"):
        with pytest.raises(ApiKeyNotFound, match="rowlock keys list"):
            await app.keys.revoke(name)


async def test_key_whose_name_looks_like_an_id_is_revoked_by_it(app: Rowlock) -> None:
    other = await app.keys.create("ci", scopes=["read"])
    key = await app.keys.create(str(other.id), scopes=["read"])
    digest = await app.keys.create("0" * 32, scopes=["read"])
    assert (await app.keys.revoke(digest.name)).id == digest.id
    assert (await app.keys.revoke(key.name)).id == other.id, "an id comes first"
    assert (await app.keys.revoke(key.name)).id == key.id


@pytest.mark.parametrize(
    "given, said",
    [
        ({"name": "ci (as ada)"}, "key must .*; got 'ci "),
        ({"name": ""}, "key must .*; got ''"),
        ({"name": "x" * 65}, "1 to 64"),
        ({"scopes": []}, "read, enqueue, operate, admin"),
        ({"scopes": "read"}, "scopes must be .*; got 'read'"),
        ({"scopes": ["root"]}, "root"),
        ({"queues": []}, "Omit it for all queues"),
        ({"queues": "email"}, "queues must be .*; got 'email'"),
        ({"queues": ["a b"]}, "queue must .*; got 'a b'"),
        ({"expires": 0}, "expires must .*; got 0"),
        ({"expires": -1}, "expires must .*; got -1"),
        ({"expires": "1d"}, "expires must .*; got '1d'"),
    ],
    ids=str,
)
async def test_key_that_makes_no_sense_is_refused(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record], given: dict[str, object], said: str
) -> None:
    options = {"name": "ci", "scopes": ["read"]} | given
    with pytest.raises(InvalidOption, match=said):
        await app.keys.create(**options)  # type: ignore[arg-type]  # that is the point
    assert await connection.fetchval("SELECT count(*) FROM rowlock.api_key") == 0


async def test_last_use_is_written_at_most_once_a_minute(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    key = await app.keys.create("ci", scopes=["read"])

    async def used() -> object:
        await app.keys.holder(key.text)
        return await connection.fetchval("SELECT last_used_at FROM rowlock.api_key")

    first = await used()
    assert first is not None
    assert await used() == first
    await connection.execute("UPDATE rowlock.api_key SET last_used_at = now() - interval '61 seconds'")
    assert await used() > first  # type: ignore[operator]  # times


async def test_session_ends_with_its_key_and_its_time(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    key = await app.keys.create("ada", scopes=["operate"], expires=3600)
    begun = await app.keys.log_in(key.text)
    assert begun is not None
    cookie, holder = begun
    assert holder.expires_at == key.expires_at
    found = await app.keys.session(cookie)
    assert found is not None
    assert (found.name, found.expires_at) == ("ada", key.expires_at)
    assert await app.keys.holder(cookie) is None
    assert await app.keys.session(key.text) is None
    assert cookie.encode() not in await connection.fetchval("SELECT hash FROM rowlock.api_session")
    await connection.execute("UPDATE rowlock.api_session SET expires_at = now()")
    assert await app.keys.session(cookie) is None
    await connection.execute("UPDATE rowlock.api_session SET expires_at = now() + interval '1 hour'")
    await app.keys.revoke("ada")
    assert await app.keys.session(cookie) is None
    assert await connection.fetchval("SELECT count(*) FROM rowlock.api_session") == 0
    assert await app.keys.log_in(key.text) is None


@pytest.mark.parametrize("end", ["revoked_at", "expires_at"])
async def test_session_that_begins_while_its_key_ends_is_of_no_use(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record], end: str
) -> None:
    key = await app.keys.create("ada", scopes=["operate"])
    begun = await app.keys.log_in(key.text)
    assert begun is not None
    await connection.execute(f"UPDATE rowlock.api_key SET {end} = now()")
    assert await connection.fetchval("SELECT count(*) FROM rowlock.api_session") == 1
    assert await app.keys.session(begun[0]) is None


async def test_session_of_a_key_without_end_lasts_twelve_hours(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    key = await app.keys.create("ada", scopes=["operate"])
    begun = await app.keys.log_in(key.text)
    assert begun is not None
    lasts = await connection.fetchval("SELECT expires_at - created_at FROM rowlock.api_session")
    assert abs(lasts - timedelta(hours=12)) < timedelta(seconds=1)
    await app.keys.log_out(begun[0])
    assert await app.keys.session(begun[0]) is None
    await app.keys.log_out("\udcff")


async def test_upkeep_forgets_what_is_over_but_never_the_newest_key(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    keys = [await app.keys.create(f"key-{number}", scopes=["read"]) for number in range(4)]
    for key in keys:
        assert await app.keys.log_in(key.text)
    revoked, over, good, newest = sorted(keys, key=lambda key: key.id)  # those of one millisecond are in no order
    await app.keys.revoke(revoked.id)
    await connection.execute("UPDATE rowlock.api_session SET expires_at = now() WHERE key_id = $1", over.id)
    await connection.execute(
        "UPDATE rowlock.api_key SET revoked_at = now() - interval '91 days' WHERE id <> $1", good.id
    )
    (row,) = await connection.fetch(statement("forget_sessions", "rowlock"), 100)
    assert row["forgotten"] == 1
    assert [key.id for key in await app.keys.list()] == [newest.id, good.id]
    assert await app.keys.had_any()
    assert await app.keys.is_any_active()
    await app.keys.revoke(good.id)
    assert not await app.keys.is_any_active()
    assert await app.keys.had_any()


async def test_key_is_looked_up_by_its_index(app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute(
        "INSERT INTO rowlock.api_key (name, hash, scopes) "
        "SELECT 'key-' || n, sha256(n::text::bytea), '{read}' FROM generate_series(1, 2000) AS n; "
        "ANALYZE rowlock.api_key"
    )
    plan = await connection.fetch("EXPLAIN " + statement("find_key", "rowlock"), b"x" * 32)
    assert "Index Scan using api_key_hash" in "\n".join(row[0] for row in plan)
