"""Pages of jobs: filters, and a bounded look however many jobs there are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import InvalidOption, JobFilter, Rowlock, Settings, StatementTimeout
from rowlock.queue.connect import sessions
from rowlock.queue.connect.sessions import PLANNER_SETTINGS
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.filter import Sight
from rowlock.queue.read import pages as listing
from rowlock.queue.read.pages import list_jobs
from tests.db.claimants import hold

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

LOOKED_AT = 20_000
MANY = LOOKED_AT + 100


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:

        @app.task(name="echo")
        async def echo(to: str | None = None, n: object = None) -> None: ...

        yield app


async def add_live(connection: Connection, count: int, **columns: object) -> None:
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", ${place}" for place in range(2, len(columns) + 2))
    await connection.execute(
        f"INSERT INTO rowlock.job (id, task{names}) SELECT rowlock.uuid7(), 'echo'{values} FROM generate_series(1, $1)",
        count,
        *columns.values(),
    )


async def add_finished(connection: Connection, count: int, state: str = "succeeded", error: str | None = None) -> None:
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, error, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args) SELECT rowlock.uuid7(), 'echo', $2, $3, 1, 0, now(), now(), "
        "now(), 10, 1, 5, 'default', '{}' FROM generate_series(1, $1)",
        count,
        state,
        error,
    )


async def ids(app: Rowlock, which: JobFilter, limit: int = 500) -> list[UUID]:
    found, before = list[UUID](), None
    while True:
        page = await app.jobs.list(which, before=before, limit=limit)
        found += [job.id for job in page]
        if page.following is None:
            return found
        before = page.following


@pytest.mark.parametrize("state", [None, "queued", "failed"])
async def test_a_rare_job_is_found_by_going_on_from_page_to_page(
    state: str | None, app: Rowlock, connection: Connection
) -> None:
    async def add(count: int, queue: str = "default") -> None:
        if state == "failed":
            await add_finished(connection, count, "failed")
            await connection.execute("UPDATE rowlock.finished_job SET queue = $1 WHERE queue = 'default'", queue)
        else:
            await add_live(connection, count, queue=queue)

    await add(1, "rare")
    await add(MANY, "usual")
    page = await app.jobs.list(JobFilter(state=state, queue="rare"), limit=10)
    assert page == []
    assert page.searched_until is not None
    assert page.searched_until <= datetime.now(UTC)
    pages = 1
    while page == []:
        assert page.following is not None
        page = await app.jobs.list(JobFilter(state=state, queue="rare"), before=page.following, limit=10)
        pages += 1
    assert [job.queue for job in page] == ["rare"]
    assert (page.following, page.searched_until) == (None, None)
    assert pages == (5 if state == "failed" else 2)


async def test_a_full_page_ends_there_and_the_last_one_has_no_next(app: Rowlock, connection: Connection) -> None:
    await add_live(connection, 3)
    await add_finished(connection, 2)
    page = await app.jobs.list(limit=3)
    assert (len(page), page.following, page.searched_until) == (3, page[-1].id, None)
    rest = await app.jobs.list(before=page.following, limit=3)
    assert (len(rest), rest.following) == (2, None)
    assert (await app.jobs.list(limit=5)).following is not None, "it was just full: nobody has looked further"


async def test_pages_of_every_state_hold_each_job_once(app: Rowlock, connection: Connection) -> None:
    await add_live(connection, MANY, tags=["x"])
    await add_finished(connection, 7)
    assert len(set(await ids(app, JobFilter(state="succeeded")))) == 7
    found = await ids(app, JobFilter(tag="x"))
    assert len(found) == len(set(found)) == MANY


async def test_running_jobs_are_found_among_many_that_wait(app: Rowlock, connection: Connection) -> None:
    worker = UUID(int=7)
    await add_live(connection, 1, state="running", worker=worker)
    await hold(connection)
    await add_live(connection, MANY)
    page = await app.jobs.list(JobFilter(state="running"))
    assert ([job.worker for job in page], page.following) == ([worker], None)


@pytest.fixture
async def three(app: Rowlock) -> list[UUID]:
    return [
        (await app.enqueue("echo", args)).id
        for args in ({"to": "Ada@example.com"}, {"n": {"deep": ["Straße"]}}, {"to": None})
    ]


@pytest.mark.parametrize(
    "text, expected", [("ada@EXAMPLE", [0]), ("STRASSE", []), ("straß", [1]), ('"to"', [2, 0]), ("%", [])]
)
async def test_text_is_found_anywhere_in_the_arguments_in_upper_or_lower_case(
    text: str, expected: list[int], app: Rowlock, three: list[UUID]
) -> None:
    assert [job.id for job in await app.jobs.list(JobFilter(text=text))] == [three[place] for place in expected]


async def test_jobs_are_found_by_their_tag(app: Rowlock, connection: Connection) -> None:
    await add_live(connection, 1, tags=["a", "b"])
    await add_live(connection, 1, tags=["b"])
    await add_live(connection, 1)
    assert [len(await app.jobs.list(JobFilter(tag=tag))) for tag in ("a", "b", "B")] == [1, 2, 0]
    # Not in the order of their ids: those of one millisecond have none.
    assert sorted(job.tags for job in await app.jobs.list()) == [[], ["a", "b"], ["b"]]


async def test_jobs_are_found_by_the_time_of_their_enqueue(
    app: Rowlock, connection: Connection, three: list[UUID]
) -> None:
    first, second, third = three
    moment = await connection.fetchval("SELECT created_at FROM rowlock.job WHERE id = $1", second)
    there = moment.astimezone(timezone(timedelta(hours=5)))
    assert [job.id for job in await app.jobs.list(JobFilter(created_after=there))] == [third, second]
    assert [job.id for job in await app.jobs.list(JobFilter(created_before=there))] == [first]
    done = await app.jobs.cancel_many(JobFilter(created_before=there))
    assert done.first_ids == [first]


async def test_a_time_window_narrows_the_look_to_its_ids(app: Rowlock, connection: Connection) -> None:
    await add_live(connection, 1)
    await connection.execute(
        "UPDATE rowlock.job SET id = overlay(id::text PLACING '0190' FROM 1 FOR 4)::uuid, created_at = '2024-06-20'"
    )
    await add_live(connection, MANY)
    window = JobFilter(created_after=datetime(2000, 1, 1, tzinfo=UTC), created_before=datetime(2025, 1, 1, tzinfo=UTC))
    page = await app.jobs.list(window)
    assert (len(page), page.following) == (1, None)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"tag": ""}, "tag must be text of one or more characters; got ''"),
        ({"text": "\0"}, "text must be text of one or more characters; got '\\x00'"),
        ({"created_after": "today"}, "created_after must have a time zone"),
        ({"created_before": datetime(2025, 1, 1)}, "created_before must have a time zone"),  # noqa: DTZ001  # refused
    ],
)
def test_filters_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        JobFilter(**given)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("which", [JobFilter(error="no"), JobFilter(args={"to": None}), JobFilter(text="to")])
async def test_nobody_finds_out_about_the_inside_of_what_is_hidden(
    which: JobFilter, app: Rowlock, connection: Connection
) -> None:
    await app.enqueue("echo", {"to": None})
    await connection.execute("UPDATE rowlock.job SET error = 'no'")
    assert len(await list_jobs(app.database, which)) == 1
    sight = Sight(hidden=["echo"])
    assert await list_jobs(app.database, which, sight=sight) == []
    assert len(await list_jobs(app.database, sight=sight)) == 1


async def test_who_sees_some_queues_sees_and_changes_the_jobs_of_those_alone(app: Rowlock) -> None:
    for queue in ("a", "b", "c"):
        await app.enqueue("echo", queue=queue)
    sight = Sight(queues=frozenset({"a", "b"}))
    assert [job.queue for job in await list_jobs(app.database, sight=sight)] == ["b", "a"]
    assert [job.queue for job in await list_jobs(app.database, JobFilter(queue="b"), sight=sight)] == ["b"]
    assert await list_jobs(app.database, JobFilter(queue="c"), sight=sight) == []
    assert await list_jobs(app.database, sight=Sight(queues=frozenset())) == []


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


@pytest.mark.parametrize("name, state", [("list_jobs", None), ("list_live", "queued"), ("list_finished", "failed")])
async def test_a_page_reads_indexes_in_their_order_and_no_further_than_it_needs(
    name: str, state: str | None, connection: Connection
) -> None:
    await add_live(connection, 2000)
    await add_finished(connection, 2000, "failed")
    for setting, value in PLANNER_SETTINGS.items():
        await connection.execute(f"SET {setting} = {value}")
    parameters: tuple[object, ...] = (*JobFilter(state=state).parameters(), 50, timedelta(seconds=10), True)
    if name != "list_live":
        (window,) = await connection.fetch(statement("archive_windows", "rowlock"))
        parameters += (*window, True)[: 3 if name == "list_jobs" else 2]
    text = statement(name, "rowlock")
    explained = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *parameters))
    plan = list(nodes(explained[0]["Plan"]))
    assert "Seq Scan" not in {node["Node Type"] for node in plan}
    assert sum(node["Actual Rows"] for node in plan if "Relation Name" in node) < 500


@pytest.mark.parametrize("state", [None, "queued", "running", "failed"])
async def test_a_list_without_documents_reads_none(
    state: str | None, settings: Settings, connection: Connection
) -> None:
    text = "x" * 100_000
    for at, worker in (("queued", "NULL"), ("running", "rowlock.uuid7()")):
        await connection.execute(
            "INSERT INTO rowlock.job (id, task, state, worker, args) "
            f"VALUES (rowlock.uuid7(), 'noop', $1, {worker}, jsonb_build_object('text', $2::text))",
            at,
            text,
        )
    await hold(connection)
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args, result) VALUES (rowlock.uuid7(), 'noop', 'failed', 1, 0, now(), "
        "now(), now(), 1, 1, 5, 'default', jsonb_build_object('text', $1::text), to_jsonb($1::text))",
        text,
    )
    async with Rowlock(settings=settings) as app:
        whole = await list_jobs(app.database, JobFilter(state=state))
        assert {job.args["text"] for job in whole} == {text}
        short = await list_jobs(app.database, JobFilter(state=state), has_documents=False)
        assert [(job.id, job.args, job.result_json) for job in short] == [(job.id, {}, None) for job in whole]
        found = await list_jobs(app.database, JobFilter(state=state, text="xxx"), has_documents=False)
        assert len(found) == len(whole) > 0


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has no time to look: it looks at one job."""
    monkeypatch.setattr(listing, "LOOK", timedelta(0))


async def make_old(connection: Connection) -> None:
    """Put the jobs that are there behind all that come: those of one millisecond have no order."""
    for table in ("job", "finished_job"):
        await connection.execute(f"UPDATE rowlock.{table} SET id = ('00000000' || right(id::text, 28))::uuid")


@pytest.mark.parametrize("state", [None, "queued", "running", "failed"])
@pytest.mark.usefixtures("no_time")
async def test_a_page_that_has_no_more_time_says_how_far_back_it_looked(
    state: str | None, app: Rowlock, connection: Connection
) -> None:
    if state == "failed":
        await add_finished(connection, 5, "failed", "E: needle")
        await make_old(connection)
        await add_finished(connection, 5, "failed", "E: hay")
    else:
        columns = {"state": "running", "worker": UUID(int=7)} if state == "running" else {}
        await add_live(connection, 5, args='{"to": "needle"}', **columns)
        await make_old(connection)
        await add_live(connection, 5, args='{"to": "hay"}', **columns)
        await hold(connection)
    which = JobFilter(state=state, error="needle") if state == "failed" else JobFilter(state=state, text="needle")
    page = await app.jobs.list(which)
    assert page == []
    assert page.following is not None
    assert page.searched_until is not None
    assert len(await ids(app, which)) == len(set(await ids(app, which))) == 5


@pytest.mark.usefixtures("no_time")
async def test_an_act_on_many_jobs_goes_on_when_a_batch_has_no_more_time(app: Rowlock, connection: Connection) -> None:
    for _ in range(3):
        await add_live(connection, 1, args='{"to": "needle"}')
        await add_live(connection, 2)
        await add_finished(connection, 1, "failed", "E: needle")
        await add_finished(connection, 2, "failed", "E: hay")
    assert (await app.jobs.cancel_many(JobFilter(text="needle"), dry_run=True)).count == 3
    assert (await app.jobs.cancel_many(JobFilter(text="needle"))).count == 3
    assert (await app.jobs.retry_many(JobFilter(error="needle"))).count == 3
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 6 + 3


@pytest.mark.usefixtures("no_time")
async def test_groups_say_how_far_back_dead_letters_were_counted(app: Rowlock, connection: Connection) -> None:
    await add_finished(connection, 3, "failed", "E: 1")
    groups = await app.dead_letters.groups()
    assert groups.searched_until is not None
    assert sum(group.jobs for group in groups) < 3


async def test_groups_that_count_every_dead_letter_say_so(app: Rowlock, connection: Connection) -> None:
    await add_finished(connection, 3, "failed", "E: 1")
    groups = await app.dead_letters.groups()
    assert (groups.searched_until, [group.jobs for group in groups]) == (None, [3])


@pytest.fixture
async def lock(connection: Connection) -> AsyncIterator[None]:
    """A lock in the way of everything."""
    async with connection.transaction():
        await connection.execute("LOCK TABLE rowlock.job IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.mark.needs_session("the limit is one of the session's")
@pytest.mark.usefixtures("lock")
async def test_the_limit_of_the_server_for_a_statement_is_no_lost_connection(settings: Settings) -> None:
    limited = replace(settings, database_url=f"{settings.database_url}&statement_timeout=100ms")
    async with Rowlock(settings=limited) as app:

        @app.task(name="echo")
        async def echo() -> None: ...

        acts: tuple[Callable[[], Awaitable[object]], ...] = (
            app.jobs.list,
            lambda: app.get(UUID(int=1)),
            lambda: app.jobs.cancel_many(JobFilter(task="echo")),
            echo.enqueue,
            lambda: app.enqueue_many(echo.job() for _ in range(3)),
        )
        for act in acts:
            with pytest.raises(StatementTimeout, match=r"cancelled the statement .*Nothing was changed\."):
                await act()


@pytest.mark.usefixtures("lock")
async def test_the_limit_of_rowlock_for_a_statement_is_no_lost_connection(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "QUERY_TIMEOUT", 0.1)
    async with Rowlock(settings=settings) as app:
        with pytest.raises(StatementTimeout, match="did not finish the statement get_job within"):
            await app.get(UUID(int=1))
