"""`rowlock queues` and `rowlock workers`, as the real executable."""

from __future__ import annotations

import getpass
import json
import socket
from typing import Any

import asyncpg

from rowlock import Rowlock, Settings
from tests.db.commands import assert_refused, rowlock
from tests.waiting import eventually


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
    assert_refused(
        await rowlock("queues", "scale", "email", "many", url=database_url), "a number of at least 1, or default"
    )
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


async def test_live_workers_are_quieted_resumed_and_stopped(database_url: str) -> None:
    app = Rowlock(settings=Settings(database_url=database_url))
    nobody = "00000000-0000-0000-0000-000000000001"
    async with app, app.worker() as worker, app.worker():
        quieted = await rowlock("workers", "quiet", str(worker.id), url=database_url)
        assert (quieted.code, quieted.err) == (0, "")
        assert quieted.out.startswith(f"{worker.id} on ")
        assert quieted.out.endswith(" is quiet.\n")
        listed = await rowlock("workers", "list", url=database_url)
        assert "quiet" in listed.out
        here = json.loads(
            (await rowlock("workers", "resume", "--host", socket.gethostname(), "--json", url=database_url)).out
        )
        assert [one["state"] for one in here] == ["running", "running"]
        for wrong in ((), (str(worker.id), "--all"), ("--host=x", "--all")):
            assert_refused(await rowlock("workers", "quiet", *wrong, url=database_url), "--host HOST, or --all")
        some = await rowlock("workers", "quiet", nobody, str(worker.id), url=database_url)
        assert (some.code, len(some.out.splitlines())) == (1, 1)
        assert nobody in some.err
        unsure = await rowlock("workers", "stop", "--all", url=database_url)
        assert (unsure.code, unsure.out) == (2, "")
        assert "use --yes" in unsure.err
        stopped = await rowlock("workers", "stop", "--all", "--yes", url=database_url)
        assert stopped.code == 0, stopped.err
        assert [line.rpartition(" ")[2] for line in stopped.out.splitlines()] == ["stopping.", "stopping."]
        await eventually(lambda: worker.is_told_to_stop)
    none = await rowlock("workers", "quiet", "--all", url=database_url)
    assert (none.code, none.out, none.err) == (0, "", "No workers.\n")
    async with Rowlock(settings=Settings(database_url=database_url)) as later:
        told = await later.operations(target_kind="worker", limit=20)
    assert {(one.by, one.source) for one in told} == {(getpass.getuser(), "cli")}
    assert [one.verb for one in reversed(told)] == ["quiet", "resume", "quiet", "stop", "stop"]
