"""`rowlock keys`, as the real executable."""

from __future__ import annotations

import json

import asyncpg

from rowlock import Rowlock, Settings
from tests.db.commands import assert_refused, rowlock


async def test_key_is_made_listed_and_revoked(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    none = await rowlock("keys", "list", url=database_url)
    assert (none.code, none.out, none.err) == (0, "", "No keys. Create one: rowlock keys create.\n")
    words = ("--scope=enqueue", "--scope=read", "--queue=email", "--expires=90d")
    made = await rowlock("keys", "create", "deploys", *words, url=database_url)
    assert made.code == 0
    text = made.out.strip()
    async with Rowlock(settings=Settings(database_url=database_url)) as app:
        holder = await app.keys.holder(text)
        assert holder is not None
        assert (holder.name, holder.scopes, holder.queues) == ("deploys", ["read", "enqueue"], ["email"])
    listed = await rowlock("keys", "list", "--json", url=database_url)
    assert text.removeprefix("rowlock_") not in listed.out
    (key,) = json.loads(listed.out)
    assert (key["name"], key["is_active"]) == ("deploys", True)
    lines = (await rowlock("keys", "list", url=database_url)).out.splitlines()
    assert [line.split()[:2] for line in lines] == [["NAME", "STATE"], ["deploys", "active"]]
    revoked = await rowlock("keys", "revoke", "deploys", url=database_url)
    assert (revoked.code, revoked.out) == (0, "The key deploys is revoked.\n")
    again = await rowlock("keys", "revoke", "deploys", url=database_url)
    assert again.code == 1
    assert 'There is no key "deploys"' in again.err
    assert await connection.fetchval("SELECT array_agg(source ORDER BY id) FROM rowlock.operation") == ["cli", "cli"]


async def test_wrong_use_of_keys_is_refused(database_url: str) -> None:
    assert_refused(await rowlock("keys", "create", "ci", url=database_url), "--scope")
    assert_refused(await rowlock("keys", "create", "a b", "--scope=read", url=database_url), 'got "a b"')
    soon = ("keys", "create", "ci", "--scope=read", "--expires=soon")
    assert_refused(await rowlock(*soon, url=database_url), "expires must be a duration")
