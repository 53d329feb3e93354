"""`rowlock top` and `rowlock stats`: in terminals of two sizes, in pipes, and while the database is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from rowlock import Job, Rowlock
from tests.conftest import Server
from tests.db.commands import assert_refused, rowlock
from tests.db.terminals import Terminal, terminal
from tests.waiting import eventually

SIZES = [(80, 24), (132, 43)]


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    """An application whose worker has run some jobs, and runs two."""
    app, ending = Rowlock(database_url), asyncio.Event()

    @app.task(queue="email")
    async def send() -> None: ...

    @app.task(queue="reports", max_attempts=1)
    async def report() -> None:
        raise ValueError("no \x1b[31mgood")

    @app.task(queue="secrets", sensitive=True)
    async def whisper(job: Job) -> None:
        await job.progress(0.5, "hunter2")
        await ending.wait()

    @app.task(queue="films")
    async def render(job: Job) -> None:
        await job.progress(0.25, "cutting")
        await ending.wait()

    async with app:
        await app.enqueue_many([send.job(), send.job(), report.job()])
        await app.worker().drain()
        await app.queues.pause("email")
        await app.enqueue_many([send.job() for _ in range(1234)])
        async with app.worker(concurrency=7):
            await whisper.enqueue()
            await render.enqueue()
            yield app
            ending.set()


async def left(screen: Terminal) -> int:
    """The exit code of a command that was told to leave, which has left the terminal as it was."""
    code = await asyncio.wait_for(screen.process.wait(), 30)
    assert "\x1b[?1049h" in screen.printed, "a screen of its own"
    assert screen.printed.rfind("\x1b[?1049l") > screen.printed.rfind("\x1b[?1049h"), "and back"
    assert screen.printed.rfind("\x1b[?25h") > screen.printed.rfind("\x1b[?25l"), "the cursor is seen again"
    return code


@pytest.mark.parametrize("width, height", SIZES)
async def test_top_fits_the_terminal_and_leaves_it_as_it_was(
    width: int, height: int, database_url: str, app: Rowlock
) -> None:
    async with terminal("top", "--every=0.2", url=database_url, width=width, height=height) as screen:
        before = screen.modes()
        frame = await screen.shows("25%") if width > 80 else await screen.shows("render")
        lines = screen.frame
        assert len(lines) == height
        assert max(map(len, lines)) <= width
        assert "waiting 1,234" in frame
        assert "dead letters 1" in frame
        assert "2/7" in frame, "the worker runs two of seven"
        job = (await app.jobs.list())[0]
        assert str(job.id) in frame, "ids are whole"
        assert "\\x1b[31mgood" in frame or width == 80
        screen.type("q")
        assert await left(screen) == 0
        assert screen.modes() == before


async def test_ctrl_c_leaves_top_without_a_word(database_url: str, app: Rowlock) -> None:
    async with terminal("top", url=database_url, width=80, height=24) as screen:
        before = screen.modes()
        await screen.shows("q quits")
        screen.type("\x1a\x03")
        assert await left(screen) == 0
        assert screen.modes() == before
        assert "Traceback" not in screen.printed


async def test_top_says_that_the_database_is_away_and_returns_by_itself(
    direct_url: str, server: Server, database: str
) -> None:
    elsewhere = await asyncpg.connect(server.url("postgres"))
    try:
        async with terminal("top", "--every=0.2", url=direct_url, width=80, height=24) as screen:
            await screen.shows("q quits")
            await elsewhere.execute(f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS false')
            await elsewhere.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
            )
            assert "waiting 0" in await screen.shows("The database is away; seen"), "and what it saw last"
            await elsewhere.execute(f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS true')
            assert "is away" not in await screen.shows("q quits")
            screen.type("q")
            assert await left(screen) == 0
    finally:
        await elsewhere.close()


async def test_one_frame_is_printed_in_a_pipe_and_as_json(database_url: str, app: Rowlock) -> None:
    piped = await rowlock("top", url=database_url)
    assert (piped.code, piped.err) == (0, "")
    assert "\x1b" not in piped.out
    once = await rowlock("top", "--once", url=database_url)
    heads = [line.split()[0] for line in once.out.splitlines() if line[:1].isupper()]
    assert heads == ["QUEUE", "WORKER", "RUNNING", "DEAD"]
    told = json.loads((await rowlock("top", "--json", url=database_url)).out)
    assert told.keys() == {"overview", "statistics", "workers", "longest", "dead_letters"}
    assert told["overview"]["waiting"] == 1234
    longest = {one["task"]: (one["fraction"], one["message"]) for one in told["longest"]}
    assert longest == {"render": (0.25, "cutting"), "whisper": (None, None)}, "what is sensitive is not shown"


async def test_top_needs_a_database_to_begin_with() -> None:
    assert_refused(await rowlock("top", url="postgresql://nobody@127.0.0.1:1/none"), "ConnectionRefused")


async def test_stats_show_what_ended_by_queue_and_task(database_url: str, app: Rowlock) -> None:
    async def counted() -> bool:
        total = (await app.statistics()).total
        return (total.succeeded, total.failed) == (2, 1)  # the last slot grows while it is counted

    await eventually(counted, 30.0)
    found: dict[str, Any] = json.loads((await rowlock("stats", "--json", url=database_url)).out)
    assert found["total"]["succeeded"] == 2
    assert {one["queue"] for one in found["queues"]} == {"email", "reports"}
    shown = (await rowlock("stats", "--window=6h", url=database_url)).out
    tables = [line.split()[:2] for line in shown.splitlines() if line]
    assert [line[0] for line in tables[:4]] == ["from", "jobs", "errors", "waiting"]
    assert ["ALL", "JOBS"] in tables
    assert ["email", "2"] in tables
    assert ["report", "1"] in tables
    alone = (await rowlock("stats", "--queue=reports", url=database_url)).out
    assert "email" not in alone
    assert_refused(await rowlock("stats", "--window=1y", url=database_url), "--window")
    none = await rowlock("stats", "--task=nothing", url=database_url)
    assert (none.code, none.err) == (
        0,
        "No job ended in this window. Jobs are counted ten seconds to a minute after their end.\n",
    )


@pytest.mark.parametrize("colourless", [{}, {"NO_COLOR": "1"}], ids=["colours", "no colours"])
async def test_lists_fit_the_terminal_and_have_colours_unless_nobody_wants_them(
    database_url: str, app: Rowlock, colourless: dict[str, str]
) -> None:
    async with terminal("jobs", "list", "--limit=5", url=database_url, width=80, height=24, **colourless) as screen:
        assert await asyncio.wait_for(screen.process.wait(), 30) == 0
        await eventually(lambda: "More:" in screen.printed)
        assert max(map(len, screen.lines)) <= 80
        assert screen.lines[0].split()[:3] == ["ID", "STATE", "TASK"]
        assert ("\x1b[36mrunning" in screen.printed) != bool(colourless)
        assert ("\x1b[" in screen.printed) != bool(colourless), "nor bold"


async def test_what_a_job_says_does_not_steer_the_terminal(database_url: str, app: Rowlock) -> None:
    failed = (await app.dead_letters.list())[0]
    async with terminal("jobs", "show", str(failed.id), url=database_url, width=80, height=24) as screen:
        assert await asyncio.wait_for(screen.process.wait(), 30) == 0
        await eventually(lambda: "raise ValueError" in screen.printed)
        assert "\\x1b[31mgood" in screen.printed
        assert "\x1b[31mgood" not in screen.printed
