"""What SQL can hold, Python can read: tables refuse the times that no client reads, functions what is too deep."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import asyncpg
import msgspec
import pytest

from rowlock import InvalidOption, Job, JobFilter, Retry, Rowlock, Settings
from rowlock.queue.connect.statements import statement
from rowlock.queue.read.reader import get_job
from tests.db.claimants import hold

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NEVER_READ = {
    *("duty.every", "duty.next_run_at", "duty.set_at", "duty.held_at"),  # of which '-infinity' means now
    *("unique_key.expires_at", "idempotency_key.expires_at", "waiter.expires_at"),
}
"""What is only compared, in the database."""


@pytest.fixture
async def app(settings: Settings) -> Rowlock:
    return Rowlock(settings=settings)


async def test_each_time_and_interval_of_the_tables_is_bounded(connection: Connection) -> None:
    rows = await connection.fetch(
        """
        SELECT c.relname || '.' || a.attname AS place, bool_or(k.oid IS NOT NULL) AS is_checked
          FROM pg_class c
          JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'rowlock'
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
          LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'c' AND a.attnum = ANY(k.conkey)
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'interval'::regtype)
         GROUP BY 1
        """
    )
    assert {row["place"] for row in rows if not row["is_checked"]} == NEVER_READ


@pytest.mark.parametrize("column", ["run_at", "created_at", "started_at", "expires_at", "deadline"])
async def test_no_job_can_have_a_time_that_no_client_reads(column: str, app: Rowlock, connection: Connection) -> None:
    await connection.execute("SELECT rowlock.enqueue('noop')")
    for text in ("infinity", "-infinity", "10000-01-01", "9999-12-31 00:00:00+00", "0044-03-15 BC"):
        with pytest.raises(asyncpg.CheckViolationError, match="job_is_readable"):
            await connection.execute(f"UPDATE rowlock.job SET {column} = '{text}'")
    for moment in (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC)):
        await connection.execute(f"UPDATE rowlock.job SET {column} = $1", moment)
        assert getattr((await app.jobs.list())[0], column) == moment
    await app.close()


@pytest.mark.parametrize(
    "argument, said",
    [
        ("deadline => 'infinity'", "deadline infinity is too far away"),
        ("expires_at => 'infinity'", "expires_at infinity or deadline <NULL> is too far away"),
        ("deadline => '9999-12-31 23:59:59-01'", "too far away"),
        ("deadline => '-infinity'", "too long ago"),
        ("expires_at => '0044-03-15 BC'", "too long ago"),
        ("run_at => 'infinity'", "too far away"),
        ("run_at => '9999-12-31 00:00:00+00'", "too far away"),
        ("delay => '178000000 years'", "too far away"),
        ("timeout => '178000000 years'", "too long"),
        ("unique_key => 'k', unique_period => '178000000 years'", "at most 100 years"),
    ],
)
async def test_the_function_refuses_a_time_that_no_client_reads(
    argument: str, said: str, connection: Connection
) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=said):
        await connection.execute(f"SELECT rowlock.enqueue('noop', {argument})")


@pytest.mark.parametrize("option", ["run_at", "expires", "deadline"])
@pytest.mark.parametrize("moment", [datetime(9999, 12, 31, tzinfo=UTC), datetime(1, 1, 1, 23, tzinfo=UTC)])
async def test_python_refuses_the_same_times(option: str, moment: datetime, app: Rowlock) -> None:
    @app.task
    async def noop() -> None: ...

    with pytest.raises(InvalidOption, match=f"{option} must be a time from 0001-01-02 on, before 9999-12-31"):
        await app.enqueue("noop", **{option: moment})  # type: ignore[arg-type]  # one of the three


# Depth


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize("begin, end", [("[", "]"), ('{"":', "}")])
@pytest.mark.parametrize("options", ["", ", delay => '1 hour'"])
async def test_the_function_takes_arguments_of_64_levels_and_no_more(
    begin: str, end: str, options: str, connection: Connection
) -> None:
    wide = json.dumps(["x" * 20] * 200)
    for inner in ("1", "[]", wide):
        for levels, is_taken in ((62, True), (63, inner == "1"), (64, False), (990, False)):
            document = f'{{"a": {begin * levels}{inner}{end * levels}}}'
            call = connection.execute(f"SELECT rowlock.enqueue('noop', $1::text::jsonb{options})", document)
            if is_taken:
                await call
            else:
                with pytest.raises(asyncpg.InvalidParameterValueError, match="nested deeper than 64 levels"):
                    await call


async def test_arguments_from_a_compressed_column_are_looked_at_too(connection: Connection) -> None:
    await connection.execute("CREATE TABLE source (args jsonb)")
    await connection.execute("INSERT INTO source VALUES ($1)", f'{{"deep": {nested(66)}, "long": "{"x" * 5000}"}}')
    assert await connection.fetchval("SELECT pg_column_size(args) FROM source") < 512
    with pytest.raises(asyncpg.InvalidParameterValueError, match="nested deeper than 64 levels"):
        await connection.execute("SELECT rowlock.enqueue('noop', args) FROM source")


async def test_a_job_of_arguments_that_are_too_deep_is_listed_shown_retried_and_discarded(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(max_attempts=1)
    async def take(job: Job, a: object) -> None:
        raise ValueError(job.id)

    is_too_deep = False  # SQL checks it, not the worker: an interpreter that reads so deep runs the job
    try:
        msgspec.json.decode(nested(3000))
    except RecursionError:
        is_too_deep = True
    async with app:
        deep, _ = [
            await connection.fetchval(
                "INSERT INTO rowlock.job (id, task, args, max_attempts) VALUES (rowlock.uuid7(), 'take', $1, 1)"
                " RETURNING id",
                args,
            )
            for args in (nested(3000), '{"a": 1}')
        ]
        assert [job.state for job in await app.jobs.list()] == ["queued", "queued"]
        await app.worker().drain()
        assert [job.state for job in await app.jobs.list()] == ["failed", "failed"]
        job = await app.get(deep)
        assert ("nested deeper than 64 levels" if is_too_deep else str(deep)) in str(job.error)
        assert job.args["a"]
        await app.jobs.retry(deep)
        await app.worker().drain()
        await app.jobs.discard(deep)
        assert len(await app.jobs.list(JobFilter(discarded=True))) == 1


# Over a caller's connection


async def test_a_result_is_json_over_a_connection_that_has_a_codec_for_it(app: Rowlock, connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

    @app.task
    async def report(job: Job, number: int) -> object:
        async with job.transaction(connection):
            job.set_result({"a": [1]})
        return None

    async with app:
        handle = await report.using(connection=connection, delay=timedelta(0)).enqueue(1)
        assert (await get_job(app.database, handle.id, connection)).args == {"number": 1}
        await app.enqueue_many([report.job(2)], connection=connection)
        await app.worker().drain()
        assert await handle.result(timeout=10) == {"a": [1]}
        assert (await get_job(app.database, handle.id, connection)).result == {"a": [1]}
        assert await connection.fetchval("SELECT array_agg(DISTINCT result) FROM rowlock.finished_job") == [{"a": [1]}]


# Searching


@pytest.mark.parametrize("text", ["\\", 'x"y', "\n", "\t", "\x01", 'say "hi"\n', "C:\\temp\\", "100%_x", "a\\nb"])
async def test_a_text_of_characters_that_json_escapes_is_found(text: str, app: Rowlock) -> None:
    @app.task
    async def take(value: str) -> str:
        return value

    async with app:
        found = await take.enqueue(f"before {text} after")
        await take.enqueue("other: 100 percent x")
        for which in (JobFilter(text=text), JobFilter(text=text.upper(), state="queued")):
            assert [job.id for job in await app.jobs.list(which)] == [found.id]
        done = await app.jobs.cancel_many(JobFilter(text=text))
        assert done.first_ids == [found.id]


INTEGER, SMALLINT = 2**31 - 1, 2**15 - 1


async def test_a_job_whose_counts_are_at_their_end_keeps_no_other_from_its_claim_and_its_outcome(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work(*, how: str) -> None:
        if how == "fail":
            raise ValueError
        if how == "retry":
            raise Retry(3600)

    for how in ("succeed", "fail", "retry"):
        for number in (0, INTEGER):
            attempts = INTEGER if how == "retry" else 1
            errors = min(number, INTEGER - 2) if how == "retry" else number  # or it would have failed
            await connection.execute(
                "INSERT INTO rowlock.job (id, task, args, attempt, errors, max_attempts) "
                "VALUES (rowlock.uuid7(), 'work', jsonb_build_object('how', $1::text), $2, $3, $4)",
                *(how, number, errors, attempts),
            )
    await app.worker().drain()
    ended = await connection.fetch(
        "SELECT state, args ->> 'how' AS how, attempt, errors FROM rowlock.jobs ORDER BY how, attempt"
    )
    assert [tuple(row) for row in ended] == [
        ("failed", "fail", 1, 1),
        ("failed", "fail", INTEGER, INTEGER),
        ("retrying", "retry", 1, 1),
        ("retrying", "retry", INTEGER, INTEGER - 1),
        ("succeeded", "succeed", 1, 0),
        ("succeeded", "succeed", INTEGER, INTEGER),
    ]
    await connection.fetch(statement("audit_jobs", "rowlock"), 1000, 10, timedelta(minutes=5))


async def test_a_job_whose_crashes_are_at_their_end_keeps_no_other_from_its_rescue(
    app: Rowlock, connection: Connection
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, state, worker, attempt, crashes) "
        "SELECT rowlock.uuid7(), 'noop', 'running', rowlock.uuid7(), 1, crashes FROM unnest($1::smallint[]) AS crashes",
        [0, SMALLINT, SMALLINT],
    )
    await hold(connection)
    await app.database.run("rescue", 3, 10, True)
    counts = "SELECT array_agg(crashes ORDER BY crashes) FROM rowlock.jobs WHERE state = $1"
    assert await connection.fetchval(counts, "queued") == [1]
    assert await connection.fetchval(counts, "failed") == [SMALLINT, SMALLINT]
    await connection.execute(  # and where none of them is alone: they run again
        "INSERT INTO rowlock.job (id, task, state, worker, attempt, crashes) "
        "SELECT rowlock.uuid7(), 'noop', 'running', '01900000-0000-7000-8000-000000000001', 1, $1 "
        "  FROM generate_series(1, 2)",
        SMALLINT,
    )
    await hold(connection)
    await app.database.run("rescue", 3, 10, True)
    assert await connection.fetchval(counts, "queued") == [1, SMALLINT, SMALLINT]
