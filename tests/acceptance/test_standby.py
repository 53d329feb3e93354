"""The primary dies, its standby takes over: nothing acknowledged is lost, and nobody has to be started anew."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from rowlock import DatabaseUnavailable, JobHandle, Rowlock, Settings
from rowlock.cli.show import findings
from rowlock.cli.show.findings import Finding
from rowlock.queue.enqueue.errors import EnqueueUnknown
from rowlock.queue.jobs.new_job import NewJob
from tests.acceptance.processes import api, worker
from tests.acceptance.standby import Node, Pair, migrated_data, running_pair
from tests.acceptance.tasks import hold, note, sign
from tests.waiting import eventually

WITHIN = 10.0
"""So many seconds after the promotion at most, jobs finish and requests are served again."""
OUTAGE = 3.0
"""How long there is no primary: long enough that everybody's pauses between two tries have grown."""
PAUSE = 0.02
PAUSE_AFTER_FAILURE = 0.1
ENOUGH = 50
OURS = "application_name LIKE 'rowlock %'"
WAITING = "wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with migrated_data() as folder:
        yield folder


@pytest.fixture
async def pair(data: Path) -> AsyncIterator[Pair]:
    async with running_pair(data) as running:
        yield running


@pytest.fixture
async def app(pair: Pair) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=Settings(database_url=pair.url)) as opened:
        yield opened


class Load:
    """Enqueues by Python and over HTTP until it is stopped; repeats what was not acknowledged; keeps what was."""

    def __init__(self, app: Rowlock, api_url: str, diary: Path) -> None:
        self._app = app
        self._sign = app.task(sign.function)
        self._api_url = api_url
        self._diary = str(diary)
        self._stopped = asyncio.Event()
        self.acknowledged: dict[str, dict[UUID, float]] = {"python": {}, "http": {}}
        self.failures: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Enqueue for the time of the block. At its end everything that was begun is acknowledged."""
        async with aiohttp.ClientSession(self._api_url) as session, asyncio.TaskGroup() as group:
            for enqueue in (self._one, self._one, self._several, self._post, self._post):
                group.create_task(self._repeat(enqueue, session))
            try:
                yield
            finally:
                self._stopped.set()

    def acknowledged_after(self, moment: float) -> dict[str, list[float]]:
        """How many seconds after this moment each enqueue was acknowledged, by the way it took."""
        return {
            way: sorted(at - moment for at in times.values() if at > moment) for way, times in self.acknowledged.items()
        }

    async def _repeat(
        self, enqueue: Callable[[aiohttp.ClientSession], Awaitable[None]], session: aiohttp.ClientSession
    ) -> None:
        while not self._stopped.is_set():
            await enqueue(session)
            await asyncio.sleep(PAUSE)

    async def _one(self, _session: aiohttp.ClientSession) -> None:
        await self._until_acknowledged(lambda: self._sign.enqueue(self._diary))

    async def _several(self, _session: aiohttp.ClientSession) -> None:
        jobs = [self._sign.job(self._diary) for _ in range(3)]
        await self._until_acknowledged(lambda: self._app.enqueue_many(jobs))

    async def _until_acknowledged(self, enqueue: Callable[[], Awaitable[Any]]) -> None:
        unknown: Sequence[NewJob[Any]] = ()
        while True:
            try:
                done = await (self._app.enqueue_many(unknown) if unknown else enqueue())
            except EnqueueUnknown as error:
                unknown = error.jobs
            except DatabaseUnavailable:
                pass  # nothing was sent
            else:
                for handle in done if isinstance(done, list) else [done]:
                    self.acknowledged["python"][handle.id] = time.monotonic()
                return
            self.failures["python"] += 1
            await asyncio.sleep(PAUSE_AFTER_FAILURE)

    async def _post(self, session: aiohttp.ClientSession) -> None:
        body, headers = {"task": "sign", "args": {"diary": self._diary}}, {"Idempotency-Key": str(uuid4())}
        while True:
            async with session.post("/v1/jobs", json=body, headers=headers) as response:
                document = await response.json(content_type=None)
                if response.status in (200, 201):
                    self.acknowledged["http"][UUID(document["id"])] = time.monotonic()
                    return
                assert response.status == 503, document
            self.failures["http"] += 1
            await asyncio.sleep(PAUSE_AFTER_FAILURE)


@pytest.mark.slow
async def test_a_failover_under_load_loses_nothing_and_heals_by_itself(
    pair: Pair, app: Rowlock, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    diary, gate = tmp_path / "diary", tmp_path / "gate"
    settings = app.settings
    async with worker(settings) as first, worker(settings) as second, api(settings) as (served, url):
        held = [handle.id for handle in await app.enqueue_many([hold.job(str(gate)) for _ in range(5)])]
        await eventually(lambda: are_running(app, held), 20)  # so the tasks are registered, too
        load = Load(app, url, diary)
        async with load.running():
            await eventually(lambda: all(len(times) >= ENOUGH for times in load.acknowledged.values()), 20)
            pair.primary.kill()
            killed_at = time.monotonic()
            await eventually(lambda: time.monotonic() - killed_at > OUTAGE)
            assert min(load.failures["python"], load.failures["http"]) > 0
            async with pair.standby.connection() as connection:
                promoted_by_clock = await connection.fetchval("SELECT clock_timestamp()")
            promoted_at = time.monotonic()
            await pair.promote()

            def goes_on() -> bool:
                return all(len(after) >= ENOUGH for after in load.acknowledged_after(promoted_at).values())

            await eventually(goes_on, 20)
            for attempt in (1, 2):
                gate.with_name(f"gate.{attempt}").touch()
        acknowledged = {job_id for times in load.acknowledged.values() for job_id in times}

        async def all_is_done() -> bool:
            async with pair.primary.connection() as connection:
                return bool(await connection.fetchval("SELECT NOT EXISTS (SELECT FROM rowlock.job)"))

        await eventually(all_is_done, 25)
        assert [process.returncode for process in (first, second, served)] == [None, None, None]

    first_finish = await seconds_to_first_finish(pair, promoted_by_clock)
    first_answers = {way: after[0] for way, after in load.acknowledged_after(promoted_at).items()}
    record_testsuite_property("seconds to the first finish", first_finish)
    for way, seconds in first_answers.items():
        record_testsuite_property(f"seconds to the first acknowledgment by {way}", seconds)
    assert max(first_finish, *first_answers.values()) < WITHIN
    await check(pair, acknowledged | set(held), diary)


async def test_what_the_standby_has_not_got_is_unknown_however_often_it_is_asked(pair: Pair, app: Rowlock) -> None:
    once = app.task(unique="once")(note.function)
    job = once.job("once")
    assert (await standbys(app)).detail == "1 following, 1 synchronously"
    await pair.detach()
    assert "every commit waits" in (await standbys(app)).detail
    for enqueue in (
        lambda: app.enqueue_many([job]),
        # A session whose wait was given up has committed all the same: from now on the job is there, on the primary
        # alone. The first to read it may write (that it was committed), and wait for that; the second has no reason to.
        lambda: app.enqueue_many([job]),
        lambda: app.enqueue_many([job]),
        lambda: once.enqueue("once"),
        lambda: app.enqueue_many([once.job("once")]),
    ):
        waiting = asyncio.create_task(enqueue())
        await eventually(lambda: sessions(pair.primary, WAITING))
        await end_sessions(pair, WAITING)  # somebody has lost patience
        with pytest.raises(EnqueueUnknown):
            await waiting
        await eventually(lambda: is_stored(pair, job.id))
    waiting = asyncio.create_task(app.enqueue_many([job]))
    await eventually(lambda: sessions(pair.primary, WAITING))
    pair.primary.kill()
    with pytest.raises(EnqueueUnknown):
        await waiting
    with pytest.raises(DatabaseUnavailable):
        await app.enqueue_many([job])
    await pair.promote()
    assert not await is_stored(pair, job.id), "had it been acknowledged, it were lost"
    for _ in range(2):
        await app.enqueue_many([job])
    await app.worker().drain()
    assert [(job.id, job.state, job.attempt) for job in await app.jobs.list()] == [(job.id, "succeeded", 1)]


async def test_a_primary_that_comes_back_as_a_standby_gets_no_work_and_can_take_over_again(
    pair: Pair, app: Rowlock
) -> None:
    task = app.task(note.function)
    first = pair.primary
    async with Rowlock(settings=Settings(database_url=first.url)) as stubborn, app.worker():
        again = stubborn.task(note.function)
        assert await (await again.enqueue("one")).result(timeout=10) == "one"
        first.kill()
        await pair.promote()
        await pair.attach()
        await end_sessions(pair, OURS)  # so that all connect anew, and ask the old primary first

        assert await (await until_enqueued(lambda: task.enqueue("two"))).result(timeout=WITHIN) == "two"
        with pytest.raises(DatabaseUnavailable, match="takes no writes"):
            await again.enqueue("nobody writes there")
        await eventually(lambda: nobody_is_at(pair.standby))

        pair.primary.kill()
        await pair.promote()
        assert pair.primary is first
        assert await (await until_enqueued(lambda: again.enqueue("three"))).result(timeout=WITHIN) == "three"


async def until_enqueued(enqueue: Callable[[], Awaitable[JobHandle[object]]]) -> JobHandle[object]:
    async def handle() -> JobHandle[object] | None:
        with suppress(DatabaseUnavailable, EnqueueUnknown):
            return await enqueue()
        return None

    return await eventually(handle, WITHIN)


async def sessions(node: Node, which: str) -> int:
    async with node.connection() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {which}"))


async def end_sessions(pair: Pair, which: str) -> None:
    async with pair.primary.connection() as connection:
        assert await connection.fetch(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {which}")


async def nobody_is_at(node: Node) -> bool:
    return await sessions(node, OURS) == 0


async def standbys(app: Rowlock) -> Finding:
    found = findings.judge_server((await app.database.run("doctor_server"))[0])
    return next(finding for finding in found if finding.check == "standbys")


async def is_stored(pair: Pair, job_id: UUID) -> bool:
    async with pair.primary.connection() as connection:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.jobs WHERE id = $1)", job_id))


async def are_running(app: Rowlock, job_ids: Sequence[UUID]) -> bool:
    return all([(await app.get(job_id)).state == "running" for job_id in job_ids])


async def seconds_to_first_finish(pair: Pair, promoted: datetime) -> float:
    async with pair.primary.connection() as connection:
        found = await connection.fetchval(
            "SELECT extract(epoch FROM min(finished_at) - $1) FROM rowlock.finished_job WHERE finished_at > $1",
            promoted,
        )
    assert found is not None
    return float(found)


async def check(pair: Pair, acknowledged: set[UUID], diary: Path) -> None:
    """Every acknowledged job succeeded, none ended twice, none began an attempt twice, or one more for no reason."""
    async with pair.primary.connection() as connection:
        jobs = await connection.fetch("SELECT id, task, state, attempt FROM rowlock.jobs")
        ended = await connection.fetch("SELECT job_id, attempt FROM rowlock.attempt")
    by_id = {row["id"]: row for row in jobs}
    assert acknowledged <= set(by_id), "lost"
    assert len(by_id) == len(jobs), "ended twice"
    assert {row["state"] for row in jobs} == {"succeeded"}
    starts = Counter(tuple(line.split()) for line in diary.read_text().splitlines())  # noqa: ASYNC240  # it is short
    assert max(starts.values()) == 1, "an attempt that began twice"
    begun = {(UUID(job_id), int(attempt)) for job_id, attempt in starts}
    assert {job_id for job_id, _ in begun} == {row["id"] for row in jobs if row["task"] == "sign"}
    assert all((job_id, by_id[job_id]["attempt"]) in begun for job_id, _ in begun), "succeeded without running"
    reasons = {(row["job_id"], row["attempt"]) for row in ended}
    further = {(row["id"], attempt) for row in jobs for attempt in range(1, row["attempt"])}
    assert further <= reasons, "ran again for no reason"
