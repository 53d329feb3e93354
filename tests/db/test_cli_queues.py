"""`rowlock queues` and `rowlock workers`, as the real executable."""

from __future__ import annotations

import getpass
import json
from typing import Any

import asyncpg

from rowlock import Rowlock, Settings
from tests.db.commands import assert_refused, rowlock


async def test_queue_is_paused_scaled_drained_shown_and_resumed(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async def say(*words: str) -> Any:  # noqa: ANN401  # JSON
        done = await rowlock("queues", *words, "--json", url=database_url)
        assert done.code == 0, done.err
        return json.loads(done.out)

    paused = await say("pause", "email")
    assert paused["paused_at"] is not None
    assert (await say("scale", "email", "3"))["concurrency"] == 3
    assert (await say("drain", "email", "--timeout=5"))["running"] == 0
    assert await say("list") == [await say("show", "email")]
    told = await rowlock("queues", "resume", "email", url=database_url)
    assert told.out == "email is not paused, at most 3 at once in each worker: it has no jobs, no worker serves it.\n"
    assert (await rowlock("queues", "list", url=database_url)).out.splitlines()[1].startswith("email  –")
    assert_refused(await rowlock("queues", "scale", "email", "many", url=database_url), "use 1 or more, or default")
    rows = await connection.fetch("SELECT verb, by, source FROM rowlock.operation ORDER BY id")
    assert [tuple(row) for row in rows] == [(verb, getpass.getuser(), "cli") for verb in ("pause", "scale", "resume")]


async def test_live_worker_is_listed_and_scaled(database_url: str) -> None:
    none = await rowlock("workers", "list", url=database_url)
    assert (none.code, none.out, none.err) == (0, "", "No workers.\n")
    app = Rowlock(settings=Settings(database_url=database_url))
    async with app, app.worker(concurrency=5) as worker:
        scaled = await rowlock("workers", "scale", str(worker.id), "7", url=database_url)
        assert scaled.code == 0, scaled.err
        assert scaled.out.endswith("runs 7 jobs at once.\n")
        shown = json.loads((await rowlock("workers", "show", str(worker.id), "--json", url=database_url)).out)
        assert (shown["concurrency"], shown["queues"]) == (7, ["default"])
    gone = await rowlock("workers", "scale", "00000000-0000-0000-0000-000000000001", "7", url=database_url)
    assert (gone.code, gone.out) == (1, "")
    assert "rowlock workers list" in gone.err
