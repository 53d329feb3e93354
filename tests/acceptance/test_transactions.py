"""Jobs of transactions that commit late, or not at all, while a worker goes on with the work of others."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from rowlock import JobHandle, JobNotFound, Rowlock, Settings
from rowlock.embedded import find_binaries
from rowlock.queue.read.pages import list_jobs
from tests.acceptance.processes import worker
from tests.acceptance.tasks import note

LATER_JOBS = 10_000


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def enqueue_on(app: Rowlock, connection: object, text: str) -> JobHandle[str]:
    return (await app.enqueue_many([note.job(text)], connection=connection))[0]


async def test_a_job_committed_after_ten_thousand_later_ones_runs_soon(
    settings: Settings, app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with worker(settings):
        transaction = connection.transaction()
        await transaction.start()
        held = await enqueue_on(app, connection, "held")
        later = await app.enqueue_many([note.job("later") for _ in range(LATER_JOBS)])
        for handle in later[-50:]:
            await handle.result(timeout=30)
        with pytest.raises(JobNotFound):
            await held.get()
        await transaction.commit()
        committed_at = time.monotonic()
        assert await held.result(timeout=10) == "held"
        assert time.monotonic() - committed_at < 2


async def test_a_job_of_a_transaction_that_only_read_at_first_runs_at_once(
    settings: Settings, app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with worker(settings):
        async with connection.transaction():
            await connection.fetch("SELECT count(*) FROM rowlock.job")
            for _ in range(20):
                for handle in await app.enqueue_many([note.job("meanwhile") for _ in range(50)]):
                    await handle.result(timeout=30)
            late = await enqueue_on(app, connection, "late")
        committed_at = time.monotonic()
        assert await late.result(timeout=10) == "late"
        assert time.monotonic() - committed_at < 1


@pytest.mark.parametrize("end, runs", [("COMMIT", True), ("ROLLBACK", False)])
async def test_psql_enqueues_inside_a_transaction(end: str, runs: bool, settings: Settings, app: Rowlock) -> None:
    assert settings.database_url is not None
    url = urlsplit(settings.database_url)
    script = (
        f"BEGIN; SELECT rowlock.enqueue('send_email', "
        f"""'{{"recipient":"a@b.c","subject":"s","body":"b"}}') AS job; {end};"""
    )
    command = [str(find_binaries() / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
    command += ["-h", parse_qs(url.query)["host"][0], "-U", "postgres", "-d", url.path.lstrip("/"), "-c", script]
    async with worker(settings):
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        job_id = done.stdout.strip().splitlines()[0]
        if runs:
            assert await app.handle(await app.get(job_id)).result(timeout=10) == "a@b.c: s (1)"
        else:
            with pytest.raises(JobNotFound):
                await app.get(job_id)
            assert await list_jobs(app.database) == []
