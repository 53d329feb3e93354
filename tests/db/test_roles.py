"""Roles at PostgreSQL: the documented grants are enough, and the doctor names what a worker lacks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from rowlock import JobFilter, Rowlock, RowlockError, Settings, Unique
from rowlock.cli.commands.doctor import examine
from rowlock.migrations import upgrade
from rowlock.queue.read.reader import list_attempts
from tests.conftest import Server

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

GRANTS = re.findall(r"```postgresql\n(.*?)```", Path("docs/security.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
async def roles(database: str, connection: Connection) -> AsyncIterator[dict[str, str]]:
    """Roles of this test's own, by what the documentation calls them."""
    names = {name: f"{name}_{database}" for name in ("enqueuer", "reader", "writer")}
    await connection.execute("".join(f"CREATE ROLE {name} LOGIN;" for name in names.values()))
    (grants,) = GRANTS
    await connection.execute(re.sub(r"\b(enqueuer|reader)\b", lambda found: names[found[1]], grants))
    await connection.execute(
        f"GRANT USAGE ON SCHEMA rowlock TO {names['writer']};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rowlock TO {names['writer']}"
    )
    yield names
    await connection.execute("".join(f"DROP OWNED BY {name}; DROP ROLE {name};" for name in names.values()))


def as_role(settings: Settings, role: str) -> Settings:
    return replace(settings, database_url=(settings.database_url or "").replace("postgres@", f"{role}@", 1))


async def test_an_enqueuer_enqueues_and_waits_with_the_documented_rights(
    settings: Settings, roles: dict[str, str]
) -> None:
    async with Rowlock(settings=as_role(settings, roles["enqueuer"])) as app, Rowlock(settings=settings) as owner:
        app.task(name="add")(_add)
        owner.task(name="add")(_add)
        plain = await app.enqueue("add", {"x": 1, "y": 2})
        unique = Unique("k", on_duplicate="replace")
        await app.enqueue("add", {"x": 0, "y": 2}, unique=unique, delay=0.01)
        keyed = await app.enqueue("add", {"x": 1, "y": 2}, unique=unique, delay=0.01, tags=["a"])
        many = await app.enqueue_many([app.tasks["add"].job(1, 1)])
        again = await app.enqueue_many([app.tasks["add"].job(1, 1)])
        async with owner.worker():
            results = [await handle.result(timeout=20) for handle in (plain, keyed, *many, *again)]
        assert results == [3, 3, 2, 2]
        assert (await plain.get()).state == "succeeded"


async def _add(x: int, y: int) -> int:
    return x + y


async def test_a_reader_reads_with_the_documented_rights_and_changes_nothing(
    settings: Settings, roles: dict[str, str]
) -> None:
    async with Rowlock(settings=settings) as owner:

        @owner.task(max_attempts=1)
        async def fail() -> None:
            raise ValueError

        handle = await fail.enqueue()
        await owner.worker().drain()
    async with Rowlock(settings=as_role(settings, roles["reader"])) as app:
        assert (await app.get(handle.id)).state == "failed"
        assert len(await list_attempts(app.database, handle.id)) == 1
        assert await app.jobs.logs(handle.id) == []
        for state in (None, "failed", "queued", "running"):
            assert len(await app.jobs.list(JobFilter(state=state))) == (state in {None, "failed"})
        assert (await app.overview()).dead_letters == 1
        assert (await app.statistics()).total.failed >= 0
        assert len(await app.dead_letters.groups()) == 1
        assert (await app.retention.show()).queues == []
        assert await app.workers.list() == []
        assert [queue.name for queue in await app.queues.list()] == ["default"]
        assert await app.operations() == []
        with pytest.raises(RowlockError, match="GRANT"):
            await app.jobs.retry(handle.id)


async def test_who_may_write_reschedules_and_deletes_and_who_reads_does_neither(
    settings: Settings, roles: dict[str, str]
) -> None:
    async with Rowlock(settings=settings) as owner:
        owner.task(name="add")(_add)
        done, later = (
            await owner.enqueue("add", {"x": 1, "y": 2}),
            await owner.enqueue("add", {"x": 1, "y": 2}, delay=60),
        )
        await owner.worker().drain()
    async with Rowlock(settings=as_role(settings, roles["reader"])) as app:
        for act in (app.jobs.delete(done.id), app.jobs.run_now(later.id)):
            with pytest.raises(RowlockError, match="GRANT"):
                await act
    async with Rowlock(settings=as_role(settings, roles["writer"])) as app:
        assert (await app.jobs.run_now(later.id)).state == "queued"
        await app.jobs.delete(done.id)
        assert [job.id for job in await app.jobs.list()] == [later.id]


async def test_the_doctor_says_what_a_worker_could_not_do_as_this_role(
    settings: Settings, roles: dict[str, str], connection: Connection
) -> None:
    as_writer = as_role(settings, roles["writer"])
    (found,) = [one for one in await examine(as_writer) if one.check == "rights"]
    assert (found.status, "makes no partitions" in found.detail) == ("warn", True)
    await connection.execute(f"REVOKE DELETE ON rowlock.job FROM {roles['writer']}")
    (found,) = [one for one in await examine(as_writer) if one.check == "rights"]
    assert (found.status, "cannot read and write job:" in found.detail) == ("warn", True)


async def test_the_doctor_says_as_an_enqueuer_what_it_lacks_and_what_for(
    settings: Settings, roles: dict[str, str]
) -> None:
    found = {one.check: one for one in await examine(as_role(settings, roles["enqueuer"]))}
    assert "lacks SELECT, INSERT, UPDATE, DELETE on the table rowlock.rowlock_version" in found["schema"].detail
    assert "cannot read and write" in found["rights"].detail
    assert "partitions" not in found


@pytest.fixture
async def member(
    server: Server, empty_database: str, settings: Settings, connection: Connection
) -> AsyncIterator[tuple[Settings, Settings]]:
    """The settings of a role that has migrated a database, and those of a member of it."""
    owner, worker = f"owner_{empty_database}", f"worker-{empty_database}"
    await connection.execute(
        f'CREATE ROLE {owner} LOGIN; CREATE ROLE "{worker}" LOGIN IN ROLE {owner};'
        f"GRANT CREATE ON DATABASE {empty_database} TO {owner}"
    )
    of_owner = replace(settings, database_url=server.url(empty_database, owner))
    await asyncio.to_thread(upgrade, of_owner)
    yield of_owner, replace(settings, database_url=server.url(empty_database, worker))
    opened = await asyncpg.connect(server.url(empty_database))
    await opened.execute(f'DROP OWNED BY {owner}, "{worker}"; DROP ROLE {owner}, "{worker}"')
    await opened.close()


@pytest.mark.needs_session("the databases are reached directly")
async def test_partitions_that_a_member_of_the_owner_makes_belong_to_the_owner(
    member: tuple[Settings, Settings],
) -> None:
    as_owner, as_worker = member
    assert as_owner.database_url is not None
    owner = await asyncpg.connect(as_owner.database_url)
    async with Rowlock(settings=as_worker) as app:
        made = await app.database.run("missing_partitions", 20)
        for row in made:
            await app.database.run("create_partition", row["archive"], row["day"])
    assert len(made) > 20
    for archive in ("finished_job", "attempt", "attempt_log"):
        await owner.execute(f"ALTER TABLE rowlock.{archive} ADD COLUMN note text")
    for settings in member:
        (found,) = [one for one in await examine(settings) if one.check == "rights"]
        assert found.status == "ok"
    await owner.close()


@pytest.mark.needs_session("the databases are reached directly")
async def test_the_doctor_names_a_remedy_that_works_for_a_partition_of_another_role(
    member: tuple[Settings, Settings],
) -> None:
    as_owner, as_worker = member
    assert as_owner.database_url is not None
    assert as_worker.database_url is not None
    owner, worker = await asyncpg.connect(as_owner.database_url), await asyncpg.connect(as_worker.database_url)
    await worker.execute("CREATE TABLE rowlock.finished_job_20200101 (LIKE rowlock.finished_job INCLUDING ALL)")
    await worker.execute(
        "ALTER TABLE rowlock.finished_job ATTACH PARTITION rowlock.finished_job_20200101 "
        "FOR VALUES FROM ('2020-01-01 00:00Z') TO ('2020-01-02 00:00Z')"
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.execute("ALTER TABLE rowlock.finished_job ADD COLUMN note text")
    remedies = []
    for settings in member:
        (found,) = [one for one in await examine(settings) if one.check == "rights"]
        assert (found.status, "finished_job_20200101 belong to" in found.detail) == ("warn", True)
        remedies += re.findall(r"ALTER TABLE … OWNER TO [^;]+", found.remedy or "")
    assert len(set(remedies)) == 1
    await worker.execute(remedies[0].replace("…", "rowlock.finished_job_20200101"))
    await owner.execute("ALTER TABLE rowlock.finished_job ADD COLUMN note text")
    await owner.close()
    await worker.close()


async def test_the_owner_lacks_nothing(settings: Settings) -> None:
    (found,) = [one for one in await examine(settings) if one.check == "rights"]
    assert found.status == "ok"
