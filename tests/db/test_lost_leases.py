"""Leases that are lost at awkward moments: nothing is claimed without one, and what never began is no crash."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import DatabaseUnavailable, Job, Rowlock, Settings
from rowlock.queue.claim.claims import Claims, NotLeased
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.worker.loop.orders import Orders
from rowlock.worker.vitals.lease import Lease, Renewals
from tests.db.claimants import CLAIMANT, hold, register
from tests.db.links import linked
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.conftest import Server

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

NO_RESCUE = "UPDATE rowlock.duty SET next_run_at = 'infinity', set_at = now() WHERE name IN ('rescue', 'orphans')"
RUN_OUT_ALL = "UPDATE rowlock.worker SET expires_at = clock_timestamp() - interval '1 ms'"
RUN_OUT = "UPDATE rowlock.worker SET expires_at = clock_timestamp() WHERE id = $1"


@pytest.fixture
async def brief(settings: Settings) -> AsyncIterator[Rowlock]:
    """An application whose workers' leases are short."""
    short = replace(
        settings,
        lease=timedelta(seconds=1),
        heartbeat=timedelta(seconds=0.2),
        poll_interval=timedelta(seconds=0.05),
    )
    async with Rowlock(settings=short) as opened:
        yield opened


@pytest.fixture
async def claims(settings: Settings) -> AsyncIterator[Claims]:
    assert settings.database_url is not None
    control = ControlConnection(settings, settings.database_url, purpose="claim")
    yield Claims(control, ["default"], ["noop"])
    await control.close()


async def state_of(connection: Connection, job: UUID) -> tuple[str, int, int]:
    row = await connection.fetchrow("SELECT state, attempt, crashes FROM rowlock.jobs WHERE id = $1", job)
    assert row is not None
    return row["state"], row["attempt"], row["crashes"]


@pytest.mark.parametrize("registration", ["the first", "a later one"])
async def test_a_lease_lost_while_the_worker_registers_is_followed_by_another(
    registration: str, brief: Rowlock, settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    @brief.task
    async def work(job: Job) -> int:
        return job.attempt

    leases: list[Lease] = []
    read, begin = Orders.read, Lease.begin
    registrations = 1 if registration == "the first" else 2

    async def note(self: Lease, *given: object, **named: object) -> None:
        leases.append(self)
        await begin(self, *given, **named)  # type: ignore[arg-type]  # as they came

    async def read_late(self: Orders, control: ControlConnection) -> None:
        """Between the begin of the lease and the end of the registration, somebody holds the workers' table."""
        if len(leases) == registrations and not leases[-1].is_lost:
            holder = await asyncpg.connect(settings.database_url)
            try:
                async with holder.transaction():
                    await holder.execute("LOCK TABLE rowlock.worker IN ACCESS EXCLUSIVE MODE")
                    await eventually(lambda: leases[-1].is_lost)
            finally:
                await holder.close()
        await read(self, control)

    monkeypatch.setattr(Lease, "begin", note)
    monkeypatch.setattr(Orders, "read", read_late)
    async with brief.worker() as worker:
        if registration == "a later one":
            await connection.execute(RUN_OUT, leases[0].worker)
        await eventually(lambda: len(leases) == registrations + 1 and worker.is_leased, timeout=20)
        handles = await brief.enqueue_many([work.job() for _ in range(10)])
        assert [await handle.result(timeout=10) for handle in handles] == [1] * 10
        assert worker.id == leases[-1].worker
    assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt") == 0, "each ran once"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_lease_whose_thread_ends_by_a_defect_is_lost(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(_: Lease, __: ControlConnection) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(Lease, "_renew", break_down)
    assert settings.database_url is not None
    lost: list[Lease] = []
    lease = Lease(settings, settings.database_url, renewals=Renewals(), on_lost=lost.append)
    await lease.begin(queues=[], tasks=[], concurrency=1, state="running", follows=[])
    await eventually(lambda: lost == [lease])
    assert lease.is_lost
    assert not lease.is_held
    thread = lease._thread
    assert thread is not None
    await asyncio.to_thread(thread.join)  # its error is reported at its end: within this test
    assert await connection.fetchval("SELECT count(*) FROM rowlock.worker") == 1


async def test_a_worker_whose_lease_has_run_out_claims_nothing_and_its_cursors_stay(
    claims: Claims, connection: Connection
) -> None:
    await register(connection)
    job = await connection.fetchval("SELECT rowlock.enqueue('noop')")
    await connection.execute(RUN_OUT, CLAIMANT)
    with pytest.raises(NotLeased):
        await claims.claim(CLAIMANT, 10, {})
    await connection.execute("UPDATE rowlock.job SET crashes = 2")
    assert await claims.claim_alone(CLAIMANT) == []
    await connection.execute("UPDATE rowlock.job SET crashes = 0")
    assert await state_of(connection, job) == ("queued", 0, 0)
    await connection.execute("UPDATE rowlock.worker SET expires_at = now() + interval '1 minute'")
    assert [row["id"] for row in await claims.claim(CLAIMANT, 10, {})] == [job]


async def test_a_worker_without_a_row_claims_nothing(claims: Claims, connection: Connection) -> None:
    await connection.fetchval("SELECT rowlock.enqueue('noop')")
    with pytest.raises(NotLeased):
        await claims.claim(CLAIMANT, 10, {})


async def test_what_waited_for_a_slot_when_the_lease_was_lost_is_given_back_without_a_crash(
    brief: Rowlock, connection: Connection
) -> None:
    began = asyncio.Event()

    @brief.task
    async def hold() -> None:
        began.set()
        await asyncio.Event().wait()

    @brief.task
    async def work(job: Job) -> list[int]:
        return [job.attempt, job.crashes]

    await connection.execute(NO_RESCUE)
    async with brief.worker(concurrency=1) as worker:
        await hold.enqueue()
        await began.wait()
        waiting = await work.using(delay=3600).enqueue()
        row = await connection.fetchrow(
            "UPDATE rowlock.job SET state = 'running', attempt = attempt + 1, worker = $1, started_at = now() "
            "WHERE id = $2 RETURNING *, NULL::timestamptz[] AS times",
            worker.id,
            waiting.id,
        )
        assert row is not None
        worker._shift.slots.add([row], worker._shift.lease)  # as if its pace had been high
        await connection.execute(RUN_OUT, worker.id)
        assert await waiting.result(timeout=10) == [2, 0]
    told = await connection.fetch("SELECT outcome FROM rowlock.attempt WHERE job_id = $1", waiting.id)
    assert [row["outcome"] for row in told] == ["released"]


async def test_what_an_attempt_of_a_lost_lease_blocks_is_given_back_and_runs_elsewhere(
    brief: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.loop.main_loop.BLOCKED_SECONDS", 0.5)
    goes_on, stopped = asyncio.Event(), asyncio.Event()

    @brief.task
    async def stubborn(job: Job) -> int:
        while job.attempt == 1 and not goes_on.is_set():
            try:
                await goes_on.wait()
            except asyncio.CancelledError:
                stopped.set()
        return job.attempt

    async with brief.worker() as first:
        try:
            handle = await stubborn.enqueue()
            await eventually(lambda: connection.fetchval("SELECT bool_and(worker IS NOT NULL) FROM rowlock.job"))
            await connection.execute(RUN_OUT, first.id)
            await stopped.wait()
            given_back = "SELECT EXISTS (SELECT FROM rowlock.attempt WHERE outcome = 'released')"
            await eventually(lambda: connection.fetchval(given_back), timeout=20)
            async with brief.worker():
                assert await handle.result(timeout=20) > 2
        finally:
            goes_on.set()  # it cannot be stopped: the worker would wait for ever


async def test_a_drain_goes_on_after_a_lost_lease_and_counts_the_attempts_of_both_shifts(
    brief: Rowlock, connection: Connection
) -> None:
    began: list[int] = []

    @brief.task
    async def work(job: Job, number: int) -> None:
        began.append(number)
        if number == 1 and job.attempt == 1:
            await connection.execute(RUN_OUT, worker.id)
            await asyncio.Event().wait()

    await brief.enqueue_many([work.job(number) for number in range(3)])
    worker = brief.worker(concurrency=1)
    assert await worker.drain() == len(began)
    assert {0, 1, 2} == set(began)


async def test_the_handlers_of_a_lost_lease_keep_the_next_shift_from_nothing(
    brief: Rowlock, connection: Connection
) -> None:
    """One that goes on although it was stopped takes no slot of the next shift, and no connection."""
    goes_on, stopped = asyncio.Event(), asyncio.Event()

    @brief.task
    async def stubborn(job: Job) -> None:
        while job.attempt == 1 and not goes_on.is_set():
            try:
                await goes_on.wait()
            except asyncio.CancelledError:
                stopped.set()

    @brief.task
    async def work() -> int:
        return 1

    try:
        async with brief.worker(concurrency=1) as worker:
            await stubborn.enqueue()
            await eventually(lambda: worker._shift.slots.in_use == 1)
            lost = worker._shift
            await connection.execute(RUN_OUT, worker.id)
            await stopped.wait()
            assert await (await work.enqueue()).result(timeout=20) == 1
            await eventually(lambda: not any(link.is_open for link in lost.links.every), timeout=20)
            goes_on.set()
            await eventually(lambda: not worker._worked.retiring)
            assert not worker.has_leftover_threads
    finally:
        goes_on.set()


async def test_plain_functions_of_a_lost_lease_keep_no_thread_from_later_jobs(
    brief: Rowlock, connection: Connection
) -> None:
    goes_on, calls = threading.Event(), []

    @brief.task
    def hang(job: Job) -> int:
        calls.append(job.attempt)
        if job.attempt == 1:
            goes_on.wait()
        return job.attempt

    try:
        async with brief.worker(concurrency=1) as worker:
            handle = await hang.enqueue()
            await eventually(lambda: calls == [1])
            await connection.execute(RUN_OUT, worker.id)
            assert await handle.result(timeout=20) > 1
            goes_on.set()
    finally:
        goes_on.set()


async def test_a_claim_that_was_answered_after_the_lease_was_lost_is_given_back_without_a_crash(
    brief: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    @brief.task
    async def work(job: Job) -> list[int]:
        return [job.attempt, job.crashes]

    claim = Claims.claim
    late: list[UUID] = []

    async def claim_late(
        self: Claims, worker: UUID, limit: int, limits: dict[str, int], *, looks_ahead: bool
    ) -> list[asyncpg.Record]:
        rows = await claim(self, worker, limit, limits, looks_ahead=looks_ahead)
        if rows and not late:
            late.append(worker)
            lease = opened._shift.lease
            await connection.execute(RUN_OUT, worker)
            await eventually(lambda: lease.is_lost)
        return rows

    await connection.execute(NO_RESCUE)
    monkeypatch.setattr(Claims, "claim", claim_late)
    async with brief.worker() as opened:
        assert await (await work.enqueue()).result(timeout=10) == [2, 0]
        assert opened.id not in late


async def test_what_a_stopping_worker_holds_without_knowing_it_is_no_crash(
    settings: Settings, connection: Connection
) -> None:
    async with Rowlock(settings=settings) as app:

        @app.task
        async def work() -> None: ...

        async with app.worker() as worker:
            job = await work.using(delay=3600).enqueue()
            await connection.execute(  # a claim that was committed, and whose answer was lost
                "UPDATE rowlock.job SET state = 'running', attempt = 1, worker = $1, started_at = now()", worker.id
            )
            await hold(connection)
    assert await state_of(connection, job.id) == ("queued", 1, 0)
    assert await connection.fetchval("SELECT outcome FROM rowlock.attempt") == "released"


async def test_a_worker_that_gave_its_lease_up_has_not_crashed(claims: Claims, connection: Connection) -> None:
    await register(connection)
    job = await connection.fetchval("SELECT rowlock.enqueue('noop', expires_at => now() + interval '1 hour')")
    await claims.claim(CLAIMANT, 10, {})
    control = claims._connection
    await control.fetch("end_lease", CLAIMANT)
    [rescued] = await control.fetch("rescue", 1, 10, False)
    assert not rescued["is_quarantined"], "one crash would have been too many"
    assert await state_of(connection, job) == ("queued", 1, 0)
    assert await connection.fetchval("SELECT ends_at = expires_at FROM rowlock.job"), (
        "it has not started: it can expire"
    )
    assert await connection.fetchval("SELECT outcome FROM rowlock.attempt") == "released"


async def test_nothing_is_rescued_for_four_seconds_after_an_outage_whoever_asks(
    claims: Claims, connection: Connection
) -> None:
    control = claims._connection
    for without_row in (False, True):
        await connection.execute("DELETE FROM rowlock.worker")
        await register(connection)
        await connection.execute("UPDATE rowlock.duty SET held_at = '-infinity'")
        await connection.fetchval("SELECT rowlock.enqueue('noop')")
        assert len(await claims.claim(CLAIMANT, 10, {})) == 1
        await connection.execute("DELETE FROM rowlock.worker" if without_row else RUN_OUT_ALL)
        await control.fetch("hold_rescues")
        for orphans in (False, True):
            assert not await control.fetch("rescue", 3, 10, orphans)
        await connection.execute("UPDATE rowlock.duty SET held_at = held_at - interval '4 seconds'")
        assert len(await control.fetch("rescue", 3, 10, without_row)) == 1
        await connection.execute("DELETE FROM rowlock.job")


async def test_a_hold_of_the_future_holds_nothing(claims: Claims, connection: Connection) -> None:
    await register(connection)
    await connection.fetchval("SELECT rowlock.enqueue('noop')")
    await claims.claim(CLAIMANT, 10, {})
    await connection.execute(RUN_OUT_ALL)
    await connection.execute("UPDATE rowlock.duty SET held_at = now() + interval '1 hour'")  # the clock went back
    assert len(await claims._connection.fetch("rescue", 3, 10, False)) == 1


async def test_an_outage_lasts_from_when_the_first_statement_that_failed_was_sent(
    server: Server, database_url: str, settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("rowlock.queue.connect.sessions.time", SimpleNamespace(monotonic=lambda: clock))
    is_held = "SELECT bool_and(held_at > '-infinity') FROM rowlock.duty WHERE name IN ('rescue', 'orphans')"
    async with linked(server, database_url) as link:
        control = ControlConnection(replace(settings, database_url=link.url), link.url, purpose="upkeep")
        control.on_return("hold_rescues", 5.0)
        for late, holds in ((0.4, False), (0.6, True)):
            await control.fetch("moment")
            link.swallows = True
            sent = asyncio.create_task(control.fetch("moment"))
            await asyncio.sleep(0)  # it is sent
            clock += 4.5  # most of the outage is over before anybody knows of it
            link.swallows = False
            await link.close()
            with pytest.raises(CONNECTION_LOST):
                await sent
            with pytest.raises(DatabaseUnavailable):
                await control.fetch("moment")  # a failure in the middle of the outage begins no other one
            clock += late
            await link.open()
            await control.fetch("moment")
            assert await connection.fetchval(is_held) is holds
        await control.close()


@pytest.mark.slow
async def test_outages_of_the_database_beside_a_long_job_are_no_crashes(
    server: Server, database_url: str, settings: Settings, connection: Connection
) -> None:
    await connection.execute("UPDATE rowlock.duty SET every = '50 ms' WHERE name IN ('rescue', 'orphans')")
    async with linked(server, database_url) as link:
        short = replace(
            settings,
            database_url=link.url,
            lease=timedelta(seconds=1.5),
            heartbeat=timedelta(seconds=0.25),
            poll_interval=timedelta(seconds=0.05),
        )
        async with Rowlock(settings=short) as far:
            goes_on = asyncio.Event()
            began: list[int] = []

            @far.task(expires=60)
            async def work(job: Job) -> int:
                began.append(job.attempt)
                await goes_on.wait()
                return job.attempt

            async with far.worker() as worker:
                handle = await work.enqueue()
                for outage in (1, 2, 3):
                    await eventually(partial(_has, began, outage), timeout=30)
                    before = worker.id
                    await link.close()
                    await eventually(lambda: not worker.is_leased)
                    await connection.execute(RUN_OUT, before)
                    if outage == 2:
                        await asyncio.sleep(2 * short.lease.total_seconds())  # what was stopped is still to be recorded
                    await connection.execute("UPDATE rowlock.duty SET held_at = '-infinity'")
                    await link.open()
                    await eventually(lambda: worker.is_leased, timeout=30)
                    held = (
                        "SELECT bool_and(held_at > '-infinity') FROM rowlock.duty WHERE name IN ('rescue', 'orphans')"
                    )
                    assert await connection.fetchval(held), "before the next shift begins"
                await eventually(partial(_has, began, 4), timeout=30)
                goes_on.set()
                assert await handle.result(timeout=30) == 4
    assert await state_of(connection, handle.id) == ("succeeded", 4, 0)
    outcomes = await connection.fetch("SELECT outcome FROM rowlock.attempt ORDER BY attempt")
    assert [row["outcome"] for row in outcomes] == ["released"] * 3


def _has(began: list[int], count: int) -> bool:
    return len(began) == count


@pytest.mark.needs_session("a pooler has its own connections")
async def test_a_worker_that_cannot_have_a_connection_to_finish_by_claims_nothing(
    brief: Rowlock, connection: Connection, database_url: str
) -> None:
    role = f"few_{uuid7().hex}"
    await connection.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2; GRANT postgres TO {role}")
    try:
        few = replace(brief.settings, database_url=database_url.replace("postgres@", f"{role}@"))
        async with Rowlock(settings=few) as app:

            @app.task
            async def work() -> None: ...

            brief.task(name="work")(work.function)
            handle = await brief.enqueue("work")
            with pytest.raises(DatabaseUnavailable):
                await app.worker().run()
        assert await state_of(connection, handle.id) == ("queued", 0, 0)
    finally:
        await connection.execute(f"DROP ROLE {role}")
