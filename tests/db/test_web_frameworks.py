"""The worker inside FastAPI, Starlette and aiohttp."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette

from rowlock import InvalidOption, Rowlock, SchemaNotMigrated, Settings
from rowlock.integrations.aiohttp import cleanup_context
from rowlock.integrations.starlette import lifespan
from rowlock.worker.loop.main_loop import MainLoop
from tests.logged import capture_logs
from tests.waiting import eventually


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as made:
        yield made


@asynccontextmanager
async def running(app: FastAPI | Starlette) -> AsyncIterator[None]:
    async with app.router.lifespan_context(app):
        yield


class TestLifespan:
    async def test_worker_runs_while_the_application_does_and_is_gone_afterwards(
        self, queue: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        @queue.task
        async def greet(name: str) -> str:
            return f"hello {name}"

        app = FastAPI(lifespan=lifespan(queue, concurrency=2))
        async with running(app):
            assert await (await greet.enqueue("ada")).result(timeout=10) == "hello ada"
            assert await connection.fetchval("SELECT concurrency FROM rowlock.worker") == 2
        assert await connection.fetchval("SELECT count(*) FROM rowlock.worker WHERE expires_at > now()") == 0

    async def test_application_can_be_started_again(self, queue: Rowlock) -> None:
        @queue.task
        async def greet(name: str) -> str:
            return f"hello {name}"

        app = Starlette(lifespan=lifespan(queue))
        for _ in range(2):
            async with running(app):
                assert await (await greet.enqueue("ada")).result(timeout=10) == "hello ada"

    async def test_without_a_worker_no_job_runs(
        self, queue: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        async with running(FastAPI(lifespan=lifespan(queue, worker=False, concurrency=2))):
            assert await connection.fetchval("SELECT count(*) FROM rowlock.worker") == 0

    async def test_own_lifespan_is_around_that_of_the_worker_and_its_state_comes_through(self, queue: Rowlock) -> None:
        happened: list[str] = []
        began = asyncio.Event()

        @queue.task
        async def note(text: str) -> None:
            began.set()
            await asyncio.sleep(0.2)  # into the shutdown
            happened.append(text)

        @asynccontextmanager
        async def own(_app: Starlette) -> AsyncIterator[dict[str, str]]:
            happened.append("opened")
            yield {"pool": "open"}
            happened.append("closed")

        app = Starlette()
        async with lifespan(queue, within=own)(app) as state:
            assert state == {"pool": "open"}
            await note.enqueue("ran")
            await asyncio.wait_for(began.wait(), 10)
        assert happened == ["opened", "ran", "closed"]

    async def test_running_job_has_the_grace_period_at_shutdown(self, queue: Rowlock) -> None:
        began = asyncio.Event()

        @queue.task
        async def slow() -> str:
            began.set()
            await asyncio.sleep(0.3)
            return "done"

        async with running(FastAPI(lifespan=lifespan(queue))):
            job = await slow.enqueue()
            await asyncio.wait_for(began.wait(), 10)
        assert (await queue.get(job.id)).state == "succeeded"

    async def test_job_that_outlasts_the_grace_period_goes_back_to_the_queue(self, settings: Settings) -> None:
        queue = Rowlock(settings=replace(settings, grace_period=timedelta(seconds=0.1)))
        began = asyncio.Event()

        @queue.task
        async def endless() -> None:
            began.set()
            await asyncio.Event().wait()

        async with running(FastAPI(lifespan=lifespan(queue))):
            job = await endless.enqueue()
            await asyncio.wait_for(began.wait(), 10)
        assert (await queue.get(job.id)).state == "queued"
        await queue.close()

    async def test_worker_that_ends_by_a_defect_says_so_at_once(
        self, queue: Rowlock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def defect(_self: MainLoop) -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(MainLoop, "_work_once", defect)
        with capture_logs() as logged, pytest.raises(RuntimeError, match="a defect"):
            async with running(FastAPI(lifespan=lifespan(queue))):
                await eventually(lambda: any(line["event"] == "worker_failed" for line in logged))

    async def test_signals_stay_those_of_the_server(self, queue: Rowlock) -> None:
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        async with running(FastAPI(lifespan=lifespan(queue))):
            assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before

    async def test_application_does_not_start_on_a_database_without_tables(self, empty_database_url: str) -> None:
        app = FastAPI(lifespan=lifespan(Rowlock(empty_database_url)))
        with pytest.raises(SchemaNotMigrated, match="rowlock migrate"):
            async with running(app):
                pass

    def test_what_is_no_queue_is_refused_when_it_is_given(self) -> None:
        with pytest.raises(InvalidOption, match=r"lifespan\(\) must be given a Rowlock\(\); got FastAPI"):
            lifespan(FastAPI())  # type: ignore[arg-type]  # the mistake
        with pytest.raises(InvalidOption, match=r"must be given a Rowlock\(\); got Rowlock"):
            lifespan(Rowlock)  # type: ignore[arg-type]  # the mistake

    def test_own_lifespan_that_is_none_is_refused(self, settings: Settings) -> None:
        with pytest.raises(InvalidOption, match=r"within must be the function .*; got 'tables'"):
            lifespan(Rowlock(settings=settings), within="tables")  # type: ignore[arg-type]  # the mistake


class TestCleanupContext:
    async def test_worker_runs_between_start_and_cleanup(
        self, queue: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        happened: list[str] = []

        @queue.task
        async def note(text: str) -> None:
            happened.append(text)

        async def pool(_app: web.Application) -> AsyncIterator[None]:
            happened.append("opened")
            yield
            happened.append("closed")

        site = web.Application()
        site.cleanup_ctx.append(pool)
        site.cleanup_ctx.append(cleanup_context(queue, concurrency=3))
        runner = web.AppRunner(site)
        await runner.setup()
        await (await note.enqueue("ran")).result(timeout=10)
        assert await connection.fetchval("SELECT concurrency FROM rowlock.worker") == 3
        await runner.cleanup()
        assert happened == ["opened", "ran", "closed"]
        assert await connection.fetchval("SELECT count(*) FROM rowlock.worker WHERE expires_at > now()") == 0

    def test_what_is_no_queue_is_refused_when_it_is_given(self) -> None:
        with pytest.raises(InvalidOption, match=r"cleanup_context\(\) must be given a Rowlock\(\); got Application"):
            cleanup_context(web.Application())  # type: ignore[arg-type]  # the mistake
